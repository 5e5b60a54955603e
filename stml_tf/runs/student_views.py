"""What a recipe's student is used for, during training and after it: embedding images, and an export."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from stml_tf.data.catalog import ImageSet
from stml_tf.data.loader import evaluation_batches
from stml_tf.data.transforms import evaluation_view
from stml_tf.distribution.devices import on_all_replicas
from stml_tf.export.quantization import Int8Network
from stml_tf.export.saved_model_writer import export_saved_model
from stml_tf.models import preprocessing
from stml_tf.recipe.recipe import Recipe

EMBEDDING_BATCH = 256


def embedder(
    student: keras.Model, output: int = 0, strategy: tf.distribute.Strategy | None = None
) -> Callable[[Any], tf.Tensor]:
    """The student's embedding (output 0) or `g` (output 1) of preprocessed images, as a compiled function."""
    return on_all_replicas(
        lambda images: student(images, training=False)[output], strategy or tf.distribute.get_strategy()
    )


def fixed_views(recipe: Recipe, images: ImageSet) -> tf.data.Dataset:
    """One preprocessed view of every image, as evaluation and neighbour search see it."""
    size = recipe.evaluation.size or recipe.views.size
    return evaluation_batches(
        images,
        batch_size=EMBEDDING_BATCH,
        view=partial(evaluation_view, size=size, resize=recipe.evaluation.resize),
        preprocess=preprocessing(recipe.model.backbone),
    )


def export_student(
    recipe: Recipe,
    student: keras.Model | Int8Network,
    out: Path,
    metrics: dict[str, float],
    *,
    quantization: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write the student as the next version of a SavedModel; returns the version's folder.

    `options` are further ones of `export_saved_model`, such as `dtype`.
    """
    return export_saved_model(
        student,
        out,
        size=recipe.evaluation.size or recipe.views.size,
        resize=recipe.evaluation.resize,
        preprocess=preprocessing(recipe.model.backbone),
        metadata={
            "name": recipe.name,
            "about": recipe.about,
            "data": recipe.data.model_dump_json(),
            "recipe": recipe.model_dump(mode="json"),
            "metrics": metrics,
            **({"quantization": quantization} if quantization else {}),
        },
        **options,
    )
