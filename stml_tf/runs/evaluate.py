"""Measures a run that is over, or a SavedModel, on the recipe's test images."""

import os
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import ImageSet
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.errors import UserError
from stml_tf.export import Embedder
from stml_tf.export.saved_model import find_saved_model
from stml_tf.recipe.load import load_recipe
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.embed import embed_images, student_network
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.measure import retrieval
from stml_tf.runs.restore import restore_student


def evaluate(source: str | os.PathLike[str], *, data_dir: Path | None = None) -> dict[str, float | int]:
    """Measure retrieval with the network of a run's last checkpoint, or with a SavedModel.

    Args:
        source: A run folder, or a SavedModel: a version's folder, or the one above, whose newest version is taken.
        data_dir: Where the recipe's data paths start from.

    Returns:
        What `retrieval_metrics` returns.

    Raises:
        UserError: If the folder is neither, or there are no test images.
    """
    source = Path(source)
    saved_model = find_saved_model(source)
    if saved_model is None:
        recipe = RunFolder(source).recipe()
        images, num_queries = test_images(recipe, data_dir)
        student, _ = restore_student(source, recipe)
        network = student_network(student)
        embeddings = embed_images(recipe, network, images, normalize=recipe.evaluation.normalize)
    else:
        recipe = load_recipe(saved_model / "assets.extra" / "recipe.json", check_files=False)
        images, num_queries = test_images(recipe, data_dir)
        embeddings = embed_with_saved_model(saved_model, images)
    return retrieval(recipe, embeddings, images, num_queries)


def test_images(recipe: Recipe, data_dir: Path | None) -> tuple[ImageSet, int | None]:
    """Open a recipe's test images: the images, and how many of them are queries.

    Raises:
        UserError: If there are none.
    """
    images, num_queries = open_catalog(data_dir=data_dir, **recipe.data.model_dump()).test_set()
    if images is None:
        raise UserError(
            f"The recipe {recipe.name} has no test images to evaluate on: its data.test is null. Set it to a folder "
            "with one folder a class."
        )
    return images, num_queries


def embed_with_saved_model(saved_model: Path, images: ImageSet) -> np.ndarray:
    """Embed images with an export; float32 `[len(images), dim]`.

    Raises:
        UserError: If an image cannot be decoded.
    """
    embedded = Embedder(saved_model).embed_images(images.images)
    if embedded.unreadable:
        bad = embedded.unreadable[0]
        raise UserError(f"{images.describe(bad.index)} cannot be read: {bad.reason}. Repair or remove it.")
    return embedded.embeddings
