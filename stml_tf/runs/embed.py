"""Embedding of images with the student of a run, on all devices, or with a SavedModel."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stml_tf.data.catalog import ImageSet
from stml_tf.data.formats.rule import DEFAULT_DECODING, Decoding
from stml_tf.data.loader import evaluation_batches
from stml_tf.data.transforms import evaluation_view
from stml_tf.distribution.devices import on_all_replicas
from stml_tf.errors import UserError
from stml_tf.evaluation import embed
from stml_tf.export import Embedder
from stml_tf.models import preprocessing
from stml_tf.models.heads import EMBEDDING_HEAD
from stml_tf.recipe.recipe import Recipe

EMBEDDING_BATCH = 256
EMBEDDING, AUXILIARY = 0, 1  # the student's outputs


def decoding_of(data: Any) -> Decoding:
    """Return how the image files of a recipe's `data` section are decoded; the default where it does not say."""
    default = DEFAULT_DECODING
    return Decoding(
        tuple(getattr(data, "background", default.background)), getattr(data, "bit_depth", default.bit_depth)
    )


def embed_images(
    recipe: Recipe,
    network: Callable[[Any], Any],
    images: ImageSet,
    *,
    normalize: bool,
    on_progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Embed a fixed view of every image of a set, as for evaluation and neighbour search.

    Args:
        recipe: Defines the view of an image.
        network: A function from preprocessed images `[batch, height, width, 3]` to embeddings `[batch, dim]`, such as
            `student_network` returns.
        images: The images.
        normalize: Whether to L2-normalise the embeddings.
        on_progress: Called after each batch with how many images are done.

    Returns:
        `[len(images), dim]` float32, in the order of the images.
    """
    return embed(network, fixed_views(recipe, images), count=len(images), normalize=normalize, on_progress=on_progress)


def embed_with_saved_model(model: Path | Embedder, images: ImageSet) -> np.ndarray:
    """Embed every image of a set with a SavedModel.

    Args:
        model: Folder of the SavedModel, or its embedder.
        images: The images.

    Returns:
        `[len(images), dim]` float32, in the order of the images.

    Raises:
        UserError: If an image cannot be decoded, or there is no SavedModel.
    """
    embedder = model if isinstance(model, Embedder) else Embedder(model)
    embedded = embedder.embed_images(images.images)
    if embedded.unreadable:
        bad = embedded.unreadable[0]
        raise UserError(f"{images.describe(bad.index)} cannot be read: {bad.reason}. Repair or remove it.")
    return embedded.embeddings


def student_network(
    student: keras.Model, output: int = EMBEDDING, strategy: tf.distribute.Strategy | None = None
) -> Callable[[Any], tf.Tensor]:
    """Compile one of a student's outputs as a function whose batches are divided among all replicas.

    Args:
        student: A model from preprocessed images to `(embedding, g)`.
        output: `EMBEDDING` or `AUXILIARY`.
        strategy: The strategy in whose scope the student was built; the current one by default.

    Returns:
        A function from preprocessed images `[batch, height, width, 3]` to `[batch, dim]` float32, not normalised.
    """
    return on_all_replicas(
        lambda images: tf.cast(student(images, training=False)[output], tf.float32),
        strategy or tf.distribute.get_strategy(),
    )


def feature_network(student: keras.Model, strategy: tf.distribute.Strategy | None = None) -> Callable[[Any], tf.Tensor]:
    """Compile a student up to its heads, like `student_network`.

    Args:
        student: A model from preprocessed images to `(embedding, g)`.
        strategy: The strategy in whose scope the student was built; the current one by default.

    Returns:
        A function from preprocessed images `[batch, height, width, 3]` to features `[batch, channels]` float32.
    """
    features = keras.Model(student.inputs, student.get_layer(EMBEDDING_HEAD).input)
    return on_all_replicas(
        lambda images: tf.cast(features(images, training=False), tf.float32),
        strategy or tf.distribute.get_strategy(),
    )


def fixed_views(recipe: Recipe, images: ImageSet) -> tf.data.Dataset:
    """Return one preprocessed view of every image, in order, in batches `[batch, size, size, 3]`."""
    size = recipe.evaluation.size or recipe.views.size
    return evaluation_batches(
        images,
        batch_size=EMBEDDING_BATCH,
        view=partial(evaluation_view, size=size, resize=recipe.evaluation.resize),
        preprocess=preprocessing(recipe.model.backbone),
    )
