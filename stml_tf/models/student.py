"""The student: a backbone, average plus max pooling, and two heads.

Kim, Kim, Cho, Kwak: Self-Taught Metric Learning without Labels, CVPR 2022, arXiv 2205.01903, section 3.1.
"""

import keras
from keras import layers

from stml_tf.models.backbones import build_backbone

EMBEDDING_HEAD = "f"
AUXILIARY_HEAD = "g"


def build_student(
    backbone: str,
    *,
    embedding_dim: int,
    teacher_dim: int,
    weights: str | None = None,
    freeze_batch_norm: bool = False,
) -> keras.Model:
    """Build the network that learns.

    Args:
        backbone: Name of a backbone, see `build_backbone`.
        embedding_dim: Width of `f`, the embedding that is kept.
        teacher_dim: Width of `g`, the auxiliary embedding that the teacher shares.
        weights: Weights of the backbone, see `build_backbone`.
        freeze_batch_norm: Whether BatchNorm keeps its statistics, scale and offset as they are.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]`, any height and width that the backbone can
        take, to `(f [batch, embedding_dim], g [batch, teacher_dim])`, float32, not normalised.

    Raises:
        ValueError: If the backbone is unknown, its weights do not fit, or a width is below 1.
    """
    if embedding_dim < 1 or teacher_dim < 1:
        raise ValueError(f"embedding_dim={embedding_dim} and teacher_dim={teacher_dim} must be at least 1.")
    trunk = build_backbone(backbone, weights=weights)
    if freeze_batch_norm:
        _freeze_batch_norm(trunk)
    images = keras.Input(trunk.input_shape[1:], name="images")
    features = trunk(images)
    pooled = layers.Add(name="pooled")(
        [layers.GlobalAveragePooling2D(name="average")(features), layers.GlobalMaxPooling2D(name="max")(features)]
    )
    outputs = [_head(embedding_dim, EMBEDDING_HEAD)(pooled), _head(teacher_dim, AUXILIARY_HEAD)(pooled)]
    return keras.Model(images, outputs, name="student")


def head_variables(student: keras.Model) -> list[keras.Variable]:
    """The trainable variables of the two heads, which may have a learning rate of their own."""
    heads = (student.get_layer(name) for name in (EMBEDDING_HEAD, AUXILIARY_HEAD))
    return [variable for head in heads for variable in head.trainable_variables]


def _head(width: int, name: str) -> layers.Dense:
    # Orthogonal: a head at least as wide as the features starts by keeping their distances as they are.
    # float32 under mixed precision too: distances between embeddings are differences of close numbers.
    return layers.Dense(width, kernel_initializer="orthogonal", dtype="float32", name=name)


def _freeze_batch_norm(model: keras.Model) -> None:
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
        elif isinstance(layer, keras.Model):
            _freeze_batch_norm(layer)
