"""Backbones by name: a network from preprocessed images to feature maps, and the preprocessing it expects."""

import sys
from collections.abc import Callable

import keras

from stml_tf.models.backbones.bn_inception import build_bn_inception
from stml_tf.models.backbones.conv4 import build_conv4, preprocess_conv4
from stml_tf.models.backbones.efficientnet_lite import build_efficientnet_lite0, preprocess_efficientnet_lite
from stml_tf.models.backbones.googlenet import build_googlenet, preprocess_inception
from stml_tf.models.backbones.resnet import build_resnet18, build_resnet34, build_resnet50, preprocess_resnet
from stml_tf.models.keras_settings import require_keras_settings
from stml_tf.tensor import Tensor

OWN_BACKBONES: dict[str, tuple[Callable[[], keras.Model], Callable[[Tensor], Tensor]]] = {
    "conv4": (build_conv4, preprocess_conv4),
    "googlenet": (build_googlenet, preprocess_inception),
    "bn_inception": (build_bn_inception, preprocess_inception),
    "resnet18": (build_resnet18, preprocess_resnet),
    "resnet34": (build_resnet34, preprocess_resnet),
    "resnet50": (build_resnet50, preprocess_resnet),
    "efficientnet_lite0": (build_efficientnet_lite0, preprocess_efficientnet_lite),
}


def build_backbone(name: str, *, weights: str | None = None) -> keras.Model:
    """Build a backbone.

    Args:
        name: One of `OWN_BACKBONES`, or the name of a model function in `keras.applications`, such as `ResNet50V2`.
        weights: None for random weights; "imagenet" for Keras's own, where it has them; or the path of a weights file
            of this backbone.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]` of any size to feature maps
        `[batch, height', width', channels]`.

    Raises:
        ValueError: If the name is unknown, the weights do not exist or do not fit, or Keras is set to what no backbone
            here is made for.
    """
    require_keras_settings()
    if name in OWN_BACKBONES:
        if weights == "imagenet":
            raise ValueError(
                f"{name} has no ImageNet weights of Keras's; give the path of a weights file, such as `stml-tf "
                "convert-weights` makes of a PyTorch checkpoint, or null."
            )
        backbone = OWN_BACKBONES[name][0]()
    else:
        build = _keras_application(name)
        pretrained = "imagenet" if weights == "imagenet" else None
        backbone = build(include_top=False, weights=pretrained, input_shape=(None, None, 3))
    if weights not in (None, "imagenet"):
        load_weights_file(backbone, weights, owner=name)
    return backbone


def load_weights_file(model: keras.Model, path: str, *, owner: str) -> None:
    """Fill a model from a Keras weights file, or raise a ValueError that names whose weights were expected."""
    try:
        model.load_weights(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} holds no weights for {owner}: {error}") from error


def preprocessing(name: str) -> Callable[[Tensor], Tensor]:
    """The function that turns RGB images `[..., height, width, 3]` of 0 to 255 into what the backbone expects."""
    if name in OWN_BACKBONES:
        return OWN_BACKBONES[name][1]
    # Each family of keras.applications keeps its own convention beside its models.
    return sys.modules[_keras_application(name).__module__].preprocess_input


def _keras_application(name: str) -> Callable[..., keras.Model]:
    build = getattr(keras.applications, name, None)
    if build is None or not callable(build):
        raise ValueError(
            f"Unknown backbone {name!r}: choose one of {', '.join(OWN_BACKBONES)}, or a model of keras.applications, "
            "such as ResNet50V2."
        )
    return build
