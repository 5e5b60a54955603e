"""PyTorch weights for our own networks, matched by name.

A layer has the plain name of its PyTorch module, so no table of names is needed; axes are put into Keras's order.
"""

import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from stml_tf.errors import UserError
from stml_tf.models.backbones.vit import LayerScale, TokenEmbedding
from stml_tf.models.heads import AUXILIARY_HEAD, EMBEDDING_HEAD
from stml_tf.models.pytorch.read import read_pytorch_checkpoint
from stml_tf.models.pytorch.vit_names import dinov2_names

HEADS = {EMBEDDING_HEAD: "embedding_f", AUXILIARY_HEAD: "embedding_g"}
_CLASSIFIER = re.compile(r"(fc|last_linear|loss\d)\b")
_PARAMETERS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_SHOWN = 4


def load_pytorch_weights(model: keras.Model, path_or_state_dict: Any) -> None:
    """Load PyTorch weights into a backbone of our own, or a whole student.

    Args:
        model: What `build_backbone` or `build_student` returns for one of this package's own backbones. Heads in the
            checkpoint are ignored if the model has none; ImageNet classifiers always are.
        path_or_state_dict: What `read_pytorch_checkpoint` takes: a path, or a dict of arrays or tensors.

    Raises:
        UserError: If the checkpoint cannot be read, or its names and shapes are not those of the model. The model is
            then unchanged.
    """
    arrays = read_pytorch_checkpoint(path_or_state_dict)
    parameters = {name: (variable, axes) for name, variable, axes in _parameters(model)}
    if "cls_token" in parameters:
        arrays = dinov2_names(arrays)
    owner = next((layer.name for layer in model.layers if isinstance(layer, keras.Model)), model.name)
    if missing := [name for name in parameters if name not in arrays]:
        raise UserError(
            f"The checkpoint does not fit {owner}: it lacks {_some(missing)} of the {len(parameters)} expected arrays; "
            f"it holds {_some(list(arrays))}."
        )
    no_heads = tuple(head for head in HEADS.values() if f"{head}.weight" not in parameters)
    unknown = [name for name in arrays if name not in parameters and not name.startswith(no_heads)]
    if unused := [name for name in unknown if not _CLASSIFIER.match(name)]:
        raise UserError(
            f"The checkpoint does not fit {owner}: it also holds {_some(unused)}; expected: {_some(list(parameters))}."
        )
    values = {}
    for name, (variable, axes) in parameters.items():
        values[name] = _in_keras_order(arrays[name], axes)
        if values[name].shape != tuple(variable.shape):
            raise UserError(
                f"The checkpoint does not fit {owner}: {name} has the shape {list(arrays[name].shape)}, which does "
                f"not match {list(variable.shape)} (axes in Keras's order)."
            )
    for name, (variable, _) in parameters.items():
        variable.assign(values[name])


def _parameters(model: keras.Model) -> Iterator[tuple[str, keras.Variable, tuple[int, ...]]]:
    """Yield PyTorch's name of each variable, the variable, and the permutation of PyTorch's axes into Keras's."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _parameters(layer)
            continue
        module = HEADS.get(layer.name, layer.name)
        for variable in layer.weights:
            if isinstance(layer, TokenEmbedding | LayerScale):
                name = variable.name if isinstance(layer, TokenEmbedding) else f"{module}.{variable.name}"
                yield name, variable, tuple(range(len(variable.shape)))
                continue
            axes = tuple(range(len(variable.shape)))[::-1]
            if len(axes) == 4:  # [out, in, height, width]; a depthwise kernel is [in, 1, height, width]
                axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
            yield f"{module}.{_PARAMETERS.get(variable.name, variable.name)}", variable, axes


def _in_keras_order(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    # The first version of the BN-Inception file stores the vectors of BatchNorm as matrices of one row.
    if len(axes) == 1 and array.ndim == 2 and len(array) == 1:
        return array[0]
    return array.transpose(axes) if array.ndim == len(axes) else array


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
