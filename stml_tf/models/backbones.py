"""Backbones by name: a network from preprocessed images to feature maps, and the preprocessing it expects."""

import sys
from collections.abc import Callable
from typing import Any

import keras

from stml_tf.models.conv4 import build_conv4, preprocess_conv4

Tensor = Any

_OWN: dict[str, tuple[Callable[[], keras.Model], Callable[[Tensor], Tensor]]] = {
    "conv4": (build_conv4, preprocess_conv4),
}


def build_backbone(name: str, *, weights: str | None = None) -> keras.Model:
    """Build a backbone.

    Args:
        name: `conv4`, or the name of a model function in `keras.applications`, such as `ResNet50`.
        weights: None for random weights; "imagenet" for Keras's own, where it has them; or the path of a weights file
            of this backbone.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]` of any size to feature maps
        `[batch, height', width', channels]`.

    Raises:
        ValueError: If the name is unknown, or the weights do not exist or do not fit.
    """
    if name in _OWN:
        if weights == "imagenet":
            raise ValueError(f"{name} has no ImageNet weights; give the path of a weights file, or null.")
        backbone = _OWN[name][0]()
    else:
        build = _keras_application(name)
        pretrained = "imagenet" if weights == "imagenet" else None
        backbone = build(include_top=False, weights=pretrained, input_shape=(None, None, 3))
    if weights not in (None, "imagenet"):
        try:
            backbone.load_weights(weights)
        except (OSError, ValueError) as error:
            raise ValueError(f"{weights} holds no weights for {name}: {error}") from error
    return backbone


def preprocessing(name: str) -> Callable[[Tensor], Tensor]:
    """The function that turns RGB images `[..., height, width, 3]` of 0 to 255 into what the backbone expects."""
    if name in _OWN:
        return _OWN[name][1]
    # Each family of keras.applications keeps its own convention beside its models.
    return sys.modules[_keras_application(name).__module__].preprocess_input


def _keras_application(name: str) -> Callable[..., keras.Model]:
    build = getattr(keras.applications, name, None)
    if build is None or not callable(build):
        raise ValueError(
            f"Unknown backbone {name!r}: choose one of {', '.join(sorted(_OWN))}, or a model of keras.applications, "
            "such as ResNet50."
        )
    return build
