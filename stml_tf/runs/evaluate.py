"""What can be done with a run that has ended: measure it again, on other data too, and export it."""

from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stml_tf.data.catalog import ImageSet
from stml_tf.data.loader import pixels_of
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.evaluation import embed, query_gallery_metrics
from stml_tf.export.quantization import Int8Network, require_same_directions
from stml_tf.export.saved_model_writer import embedding_network
from stml_tf.fitting.checkpoints import Checkpoint, Checkpoints
from stml_tf.recipe.load import load_recipe
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.model import build_model
from stml_tf.runs.student_views import embedder, export_student, fixed_views

_CALIBRATION_IMAGES = 1_000


def evaluate(source: Path, *, data_dir: Path | None = None) -> dict[str, float]:
    """Measure retrieval with the network of a run's last checkpoint, or with a SavedModel, on the recipe's test images.

    Args:
        source: A run folder, or a SavedModel: a version's folder, or the one above, whose newest version is taken.
        data_dir: Where the recipe's data paths start from.

    Returns:
        What `retrieval_metrics` returns.

    Raises:
        ValueError: If the folder is neither, or there are no test images.
    """
    saved_model = _saved_model_in(source)
    if saved_model is not None:
        recipe = load_recipe(saved_model / "assets.extra" / "recipe.json", check_files=False)
        images, num_queries = _test_images(recipe, data_dir)
        embeddings = _embed_with_saved_model(saved_model, images)
    else:
        recipe = RunFolder(source).recipe()
        images, num_queries = _test_images(recipe, data_dir)
        student, _ = _restored_student(source, recipe)
        embeddings = embed(
            embedder(student),
            fixed_views(recipe, images),
            count=len(images),
            normalize=recipe.evaluation.normalize,
        )
    return query_gallery_metrics(
        embeddings,
        images.labels,
        num_queries=num_queries,
        recall_at=recipe.evaluation.recall_at,
        nmi=recipe.evaluation.nmi,
    )


def export(run_dir: Path, out: Path, *, quantize: bool = False, data_dir: Path | None = None, **options: Any) -> Path:
    """Write the network of a run's last checkpoint as the next version of a SavedModel.

    Args:
        run_dir: A run folder.
        out: Folder of the SavedModel's versions, such as `saved_models/birds`.
        quantize: Keep the weights as 8-bit integers. What that costs is measured on the recipe's test images, or where
            it has none on the first 1,000 training images, and noted in the model card.
        data_dir: Where the recipe's data paths start from; only read to quantize.
        options: `dtype` and `batch_size`, see `export_saved_model`.

    Returns:
        The version's folder, such as `saved_models/birds/1`.

    Raises:
        ValueError: If the folder is no run, or holds no intact checkpoint; or if 8-bit weights move an embedding too
            much, or there are no images to tell.
    """
    recipe = RunFolder(run_dir).recipe()
    student, checkpoint = _restored_student(run_dir, recipe)
    metrics = {k: v for k, v in checkpoint.metrics.items() if v is not None}
    if not quantize:
        return export_student(recipe, student, out, metrics, **options)
    network = embedding_network(student)
    int8_network = Int8Network(network)
    quantization = _cost_of_quantization(recipe, network, int8_network, data_dir)
    return export_student(recipe, int8_network, out, metrics, quantization=quantization, **options)


def _restored_student(run_dir: Path, recipe: Recipe) -> tuple[keras.Model, Checkpoint]:
    checkpoints = Checkpoints(RunFolder(run_dir).checkpoints)
    checkpoint = checkpoints.latest()
    if checkpoint is None:
        raise ValueError(f"{run_dir} holds no intact checkpoint: train again with --overwrite.")
    model = build_model(
        recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": None})}),
        num_classes=checkpoint.extra.get("num_classes"),
    )
    checkpoints.restore(model, checkpoint)
    return model.student, checkpoint


def _cost_of_quantization(
    recipe: Recipe, network: keras.Model, int8_network: Int8Network, data_dir: Path | None
) -> dict[str, Any]:
    """What the model card says of it: the least cosine on how many images, and R@1 of both where it can be measured."""
    catalog = open_catalog(data_dir=data_dir, **recipe.data.model_dump())
    images, num_queries = catalog.test_set()
    if images is None:
        images = catalog.train.take(range(min(len(catalog.train), _CALIBRATION_IMAGES)))
    float_embeddings, int8_embeddings = (
        embed(
            tf.function(partial(each, training=False), reduce_retracing=True),
            fixed_views(recipe, images),
            count=len(images),
            normalize=recipe.evaluation.normalize,
        )
        for each in (network, int8_network)
    )
    cost = {"images": len(images), "least_cosine": require_same_directions(float_embeddings, int8_embeddings)}
    if catalog.test is not None:
        for dtype, embeddings in (("float32", float_embeddings), ("int8", int8_embeddings)):
            metrics = query_gallery_metrics(embeddings, images.labels, num_queries=num_queries, recall_at=(1,))
            cost[f"recall@1_{dtype}"] = metrics["recall@1"]
    return cost


def _test_images(recipe: Recipe, data_dir: Path | None) -> tuple[ImageSet, int | None]:
    images, num_queries = open_catalog(data_dir=data_dir, **recipe.data.model_dump()).test_set()
    if images is None:
        raise ValueError(
            f"The recipe {recipe.name} has no test images to evaluate on: its data.test is null. Set it to a folder "
            "with one folder a class."
        )
    return images, num_queries


def _saved_model_in(source: Path) -> Path | None:
    """The SavedModel at `source`, or its newest version below, or None."""
    versions = sorted((path for path in source.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    found = [path for path in (source, *reversed(versions)) if (path / "saved_model.pb").exists()]
    return found[0] if found else None


def _embed_with_saved_model(saved_model: Path, images: ImageSet) -> np.ndarray:
    signature = tf.saved_model.load(str(saved_model)).signatures["pixels"]
    # One at a time: files differ in size, and a batch of pixels has one size.
    pixels = (pixels_of(images, index)[None] for index in range(len(images)))
    return embed(lambda batch: signature(pixels=batch)["embedding"], pixels, count=len(images), normalize=False)
