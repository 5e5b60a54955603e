"""Backbones by name: a network from preprocessed images to features, and the preprocessing it expects."""

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
    """Build a backbone.

    Args:
        name: A name in `stml_tf.registry.backbones`: one of this package's, such as `resnet50`, a model function of
            `keras.applications`, such as `ResNet50V2`, or one that was registered.
        weights: None for random weights; "imagenet" for Keras's own, where it has them; the path of a Keras weights
            file of this backbone; or, for this package's own, what `read_pytorch_checkpoint` takes: a `.safetensors`
            or `.pth` file, a Hugging Face folder, or the name of a package that carries weights.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]` of any size to feature maps
        `[batch, height', width', channels]`; a vision transformer, to features `[batch, channels]`.

    Raises:
        UserError: If the name is unknown, the weights do not exist or do not fit, or Keras is set to what no backbone
            here is made for.
    """
    require_keras_settings()
    entry = registry.backbones.find(name)
    named = weights in entry.named_weights
    if weights == "imagenet" and not named:
        raise UserError(
            f"{name} has no ImageNet weights of Keras's; give a weights file, Keras's or PyTorch's, or null."
        )
    build = partial(registry.resolve(entry.build), **entry.options)
    if named:
        return build_with_named_weights(build, name, weights)
    backbone = build(weights=None) if entry.named_weights else build()
    if weights is not None:
        load_weights_file(backbone, weights, owner=name)
    return backbone


def load_weights_file(model: keras.Model, path: str, *, owner: str) -> None:
    """Fill a model from a weights file, Keras's or PyTorch's, or raise a UserError that names whose were expected."""
    if is_pytorch_checkpoint(path):
        require_own_network(owner)
        load_pytorch_weights(model, path)
        return
    try:
        files.is_sealed(Path(path))
        model.load_weights(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} holds no weights for {owner}: {error}") from error


def require_own_network(name: str) -> None:
    """Raise a UserError if PyTorch's weights are not read for a backbone of this name."""
    known = [own for own, entry in registry.backbones.items() if entry.reads_pytorch]
    if name not in known:
        raise UserError(
            f"No PyTorch weights are read for {name!r}: choose one of {', '.join(known)}, or give a Keras weights file."
        )


def preprocessing(name: str) -> Callable[[Tensor], Tensor]:
    """Return the function from RGB images `[..., height, width, 3]` of 0 to 255 to what the backbone expects.

    Raises:
        UserError: If the name is unknown.
    """
    preprocess = registry.backbones.find(name).preprocess
    return (lambda images: images) if preprocess is None else registry.resolve(preprocess)
