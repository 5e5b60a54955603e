"""Backbones by name, and the preprocessing that each expects."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras

from stml_tf import files, registry
from stml_tf.errors import UserError
from stml_tf.models.backbones.named_weights import build_with_named_weights
from stml_tf.models.keras_settings import require_keras_settings
from stml_tf.models.pytorch import is_pytorch_checkpoint, load_pytorch_weights
from stml_tf.tensor import Tensor


def build_backbone(name: str, *, weights: str | None = None) -> keras.Model:
    """Build a backbone by its name.

    Args:
        name: A name in `stml_tf.registry.backbones`: one of this package's, such as `resnet50`, a model function of
            `keras.applications`, such as `ResNet50V2`, or one that was registered.
        weights: None for random weights; "imagenet" for a model of `keras.applications`; the path of a Keras weights
            file of this backbone; or, for this package's own, what `read_pytorch_checkpoint` takes: a `.safetensors`
            or `.pth` file, a Hugging Face folder, or the name of a package that carries weights.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]` of any size to feature maps
        `[batch, height', width', channels]`, or, for a vision transformer, to features `[batch, channels]`.

    Raises:
        UserError: If the name is unknown, the weights do not exist or do not fit, or Keras has global settings that
            the backbone does not support.
    """
    require_keras_settings()
    entry = registry.backbones.find(name)
    named = weights in entry.named_weights
    if weights == "imagenet" and not named:
        raise UserError(f"{name} has no ImageNet weights in Keras; give a weights file of Keras or PyTorch, or null.")
    build = partial(registry.resolve(entry.build), **entry.options)
    if named:
        return build_with_named_weights(build, name, weights)
    backbone = build(weights=None) if entry.named_weights else build()
    if weights is not None:
        load_weights_file(backbone, weights, owner=name)
    return backbone


def load_weights_file(model: keras.Model, path: str, *, owner: str) -> None:
    """Load a weights file of Keras or PyTorch into a model.

    Args:
        model: The model, whose weights are replaced.
        path: The file, or for PyTorch what `read_pytorch_checkpoint` takes.
        owner: The network whose weights are expected, for the message.

    Raises:
        UserError: If the file cannot be read, or does not fit.
    """
    if is_pytorch_checkpoint(path):
        require_own_network(owner)
        load_pytorch_weights(model, path)
        return
    try:
        files.is_sealed(Path(path))
        with warnings.catch_warnings():
            # Keras would go on, with random weights in the layers that it does not find.
            warnings.filterwarnings("error", message="Skipping nested container")
            model.load_weights(path)
    except files.DamagedError:
        raise
    except Exception as error:  # a damaged file makes h5py and Keras raise nearly anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} holds no weights for {owner}: {reason}") from error


def require_own_network(name: str) -> None:
    """Require a backbone that PyTorch weights can be read for.

    Args:
        name: The recipe's `model.backbone`.

    Raises:
        UserError: If there is no reader for it.
    """
    known = [own for own, entry in registry.backbones.items() if entry.reads_pytorch]
    if name not in known:
        raise UserError(
            f"PyTorch weights cannot be read for {name!r}: choose one of {', '.join(known)}, or give a Keras weights "
            "file."
        )


def preprocessing(name: str) -> Callable[[Tensor], Tensor]:
    """Return the preprocessing that a backbone expects.

    Args:
        name: A name in `stml_tf.registry.backbones`.

    Returns:
        A function of RGB images `[..., height, width, 3]` from 0 to 255.

    Raises:
        UserError: If the name is unknown.
    """
    preprocess = registry.backbones.find(name).preprocess
    return (lambda images: images) if preprocess is None else registry.resolve(preprocess)
