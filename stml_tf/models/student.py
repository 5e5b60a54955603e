"""The student: a backbone, average plus max pooling, and two heads.

Kim, Kim, Cho, Kwak: Self-Taught Metric Learning without Labels, CVPR 2022, arXiv 2205.01903, section 3.1.
"""

from collections.abc import Iterator, Mapping

import h5py
import keras
from keras import layers

from stml_tf.errors import UserError
from stml_tf.models.backbones.by_name import build_backbone, load_weights_file
from stml_tf.models.heads import AUXILIARY_HEAD, EMBEDDING_HEAD, build_head
from stml_tf.models.trainable import add_lora, freeze, split_backbone


def build_student(
    backbone: str,
    *,
    embedding_dim: int,
    teacher_dim: int,
    weights: str | None = None,
    freeze_batch_norm: bool = False,
    synchronize_batch_norm: bool = False,
    trainable: str | int | Mapping[str, int] = "all",
) -> keras.Model:
    """Build a student: a backbone with an embedding head and an auxiliary head.

    Args:
        backbone: Name of a backbone; see `build_backbone`.
        embedding_dim: Width of `f`, the embedding to keep.
        teacher_dim: Width of `g`, the auxiliary embedding that the teacher shares.
        weights: Weights of the backbone, see `build_backbone`; or the path of the weights file of a whole student.
        freeze_batch_norm: Whether BatchNorm keeps its statistics, scale and offset.
        synchronize_batch_norm: Whether BatchNorm on several devices uses the statistics of all their images, rather
            than those of each device.
        trainable: The part of the backbone that is trained along with the heads: "all" of it; "heads" for none; a
            number for that many of its last blocks; or `{"lora": rank}` for low-rank matrices added to the dense layers
            of a vision transformer.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]`, of any height and width that the backbone takes,
        to `(f, g)`, `[batch, embedding_dim]` and `[batch, teacher_dim]` float32, not normalised.

    Raises:
        UserError: If the backbone is unknown, its weights do not fit, or a width is below 1.
    """
    if embedding_dim < 1 or teacher_dim < 1:
        raise UserError(f"embedding_dim={embedding_dim} and teacher_dim={teacher_dim} must be at least 1.")
    saved_widths = _saved_head_widths(weights)
    if saved_widths not in (None, (embedding_dim, teacher_dim)):
        raise UserError(
            f"{weights} holds a student with embedding_dim={saved_widths[0]} and teacher_dim={saved_widths[1]}: set "
            f"these instead of {embedding_dim} and {teacher_dim}, or give weights of the backbone only."
        )
    images, pooled = pooled_backbone(
        backbone,
        weights=None if saved_widths else weights,
        freeze_batch_norm=freeze_batch_norm,
        synchronize_batch_norm=synchronize_batch_norm,
        trainable=trainable,
    )
    outputs = [build_head(embedding_dim, EMBEDDING_HEAD)(pooled), build_head(teacher_dim, AUXILIARY_HEAD)(pooled)]
    student = keras.Model(images, outputs, name="student")
    if saved_widths:
        load_weights_file(student, weights, owner=f"a student on {backbone}")
    return student


def pooled_backbone(
    backbone: str,
    *,
    weights: str | None = None,
    freeze_batch_norm: bool = False,
    synchronize_batch_norm: bool = False,
    trainable: str | int | Mapping[str, int] = "all",
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Build the part that every student begins with: a backbone and pooling.

    Args:
        backbone: See `build_student`, as for all others.
        weights: Weights of the backbone.
        freeze_batch_norm: Whether BatchNorm keeps its statistics, scale and offset.
        synchronize_batch_norm: Whether BatchNorm uses the statistics of all devices' images.
        trainable: The part of the backbone that is trained.

    Returns:
        Symbolic images `[batch, height, width, 3]` and their features `[batch, channels]`: the average of the
        backbone's feature maps plus their maximum, or the features of a vision transformer as they are.
    """
    trunk = build_backbone(backbone, weights=weights)
    for layer in _batch_norms(trunk):
        layer.trainable = layer.trainable and not freeze_batch_norm
        layer.synchronized = synchronize_batch_norm
    images = keras.Input(trunk.input_shape[1:], name="images")
    if trainable == "heads":
        return images, freeze(keras.Model(trunk.input, _pooled(trunk.output)), images)
    if isinstance(trainable, Mapping):
        add_lora(trunk, trainable["lora"])
    elif trainable != "all":
        first, last = split_backbone(trunk, trainable)
        return images, _pooled(last(freeze(first, images)))
    return images, _pooled(trunk(images))


def _pooled(features: keras.KerasTensor) -> keras.KerasTensor:
    if len(features.shape) == 2:
        return features
    average = layers.GlobalAveragePooling2D(name="average")(features)
    return layers.Add(name="pooled")([average, layers.GlobalMaxPooling2D(name="max")(features)])


def brings_heads(weights: str | None) -> bool:
    """Return whether a weights file holds the heads of a student as well as its backbone.

    Args:
        weights: The recipe's `model.weights`: the path of a weights file, "imagenet" or None, which hold no heads.
    """
    return _saved_head_widths(weights) is not None


def _saved_head_widths(weights: str | None) -> tuple[int, int] | None:
    """Return the widths of `f` and `g` in the weights file of a student; None for any other file, or no file."""
    if weights in (None, "imagenet") or not h5py.is_hdf5(weights):
        return None
    try:
        with h5py.File(weights) as file:
            # Keras groups layers by class: a student has its backbone and, in this order, its two heads.
            backbone, *heads = ("layers/functional", "layers/dense/vars/0", "layers/dense_1/vars/0")
            if any(key not in file for key in (backbone, *heads)):
                return None
            return tuple(file[head].shape[1] for head in heads)
    except (OSError, KeyError, AttributeError, IndexError):  # Damaged: loading the weights says so.
        return None


def _batch_norms(model: keras.Model) -> Iterator[layers.BatchNormalization]:
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _batch_norms(layer)
