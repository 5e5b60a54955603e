"""The student of the self-supervised baselines, with an MLP head in place of the two linear ones.

The head has the place of `g` in `build_student`, so the same teacher follows it.
"""

from collections.abc import Mapping

import keras
from keras import layers

from stml_tf.errors import UserError
from stml_tf.models.heads import AUXILIARY_HEAD
from stml_tf.models.student import pooled_backbone


def build_projection_student(
    backbone: str,
    *,
    embedding_dim: int,
    hidden_dim: int,
    batch_norm: bool = True,
    embedding: str = "projection",
    weights: str | None = None,
    freeze_batch_norm: bool = False,
    synchronize_batch_norm: bool = False,
    trainable: str | int | Mapping[str, int] = "all",
) -> keras.Model:
    """Build the student of a method that compares two views.

    Args:
        backbone: Name of a backbone; see `build_backbone`.
        embedding_dim: Width of the projection, which is the output of the MLP head.
        hidden_dim: Width of the head's hidden layer.
        batch_norm: Whether BatchNorm follows the hidden layer.
        embedding: The output to keep: "projection", or "features" for the pooled features below the head.
        weights: Weights of the backbone; see `build_backbone`.
        freeze_batch_norm: Whether the backbone's BatchNorm keeps its statistics, scale and offset.
        synchronize_batch_norm: Whether BatchNorm, including the head's, uses the statistics of all devices' images.
        trainable: The part of the backbone that is trained; see `build_student`.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]` to `(embedding, projection)`, each
        `[batch, dim]` float32, not normalised. The projection is trained; the embedding is evaluated and exported.

    Raises:
        UserError: If the backbone or `embedding` is unknown, the weights do not fit, or a width is below 1.
    """
    if embedding not in ("projection", "features"):
        raise UserError(f'The embedding is the "projection" or the "features" below it, not {embedding!r}.')
    images, features = pooled_backbone(
        backbone,
        weights=weights,
        freeze_batch_norm=freeze_batch_norm,
        synchronize_batch_norm=synchronize_batch_norm,
        trainable=trainable,
    )
    head = build_mlp(
        features.shape[-1],
        hidden_dim,
        embedding_dim,
        batch_norm=batch_norm,
        synchronize_batch_norm=synchronize_batch_norm,
        name=AUXILIARY_HEAD,
    )
    projection = head(features)
    # float32 even under mixed precision, like the heads.
    kept = projection if embedding == "projection" else layers.Identity(dtype="float32", name="features")(features)
    return keras.Model(images, [kept, projection], name="student")


def build_mlp(
    input_dim: int,
    hidden_dim: int,
    output_dim: int,
    *,
    batch_norm: bool = True,
    synchronize_batch_norm: bool = False,
    name: str = "mlp",
) -> keras.Model:
    """Build an MLP of two dense layers, with ReLU and optionally BatchNorm in between.

    Args:
        input_dim: Width of the input.
        hidden_dim: Width of the hidden layer.
        output_dim: Width of the output.
        batch_norm: Whether BatchNorm follows the first dense layer.
        synchronize_batch_norm: Whether BatchNorm uses the statistics of all devices' images.
        name: Name of the model.

    Returns:
        A model from `[batch, input_dim]` to `[batch, output_dim]` float32.

    Raises:
        UserError: If a width is below 1.
    """
    if hidden_dim < 1 or output_dim < 1:
        raise UserError(f"hidden_dim={hidden_dim} and output_dim={output_dim} must be at least 1.")
    # float32 even under mixed precision, like the heads of `build_student`.
    norm = []
    if batch_norm:
        norm = [
            layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=synchronize_batch_norm, dtype="float32")
        ]
    hidden, output = (layers.Dense(width, dtype="float32") for width in (hidden_dim, output_dim))
    return keras.Sequential([keras.Input((input_dim,)), hidden, *norm, layers.ReLU(dtype="float32"), output], name=name)
