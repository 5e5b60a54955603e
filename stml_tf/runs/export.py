"""Export of a run as a SavedModel, with float weights or 8-bit weights whose cost is measured."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from stml_tf import registry
from stml_tf.data.catalog import Catalog
from stml_tf.data.inspection import find_unreadable, leave_out, readable_test_set
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.data.sources.given import GivenImages
from stml_tf.errors import UserError
from stml_tf.evaluation import query_gallery_metrics
from stml_tf.export.quantization import Int8Network, require_same_directions
from stml_tf.export.saved_model_writer import embedding_network, export_saved_model
from stml_tf.models import preprocessing
from stml_tf.models.trainable import merge_lora
from stml_tf.plugins import records_of
from stml_tf.recipe.recipe import Recipe
from stml_tf.registry import Source
from stml_tf.runs.before_and_after import reached
from stml_tf.runs.embed import decoding_of, embed_images
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.given import GIVEN, LossFunction, holding
from stml_tf.runs.measure import Results
from stml_tf.runs.open_data import listing_all
from stml_tf.runs.prepare import Run
from stml_tf.runs.restore import restore_student
from stml_tf.runs.same_images import test_classes_of

_CALIBRATION_IMAGES = 1_000


def export(
    run_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    quantize: bool = False,
    data_dir: Path | None = None,
    backbone: keras.Model | None = None,
    loss: LossFunction | None = None,
    images: GivenImages | None = None,
    **options: Any,
) -> Path:
    """Export the checkpoint that a run keeps, by default the last, as the next version of a SavedModel.

    Args:
        run_dir: A run folder.
        out: Folder of the SavedModel's versions, such as `saved_models/birds`.
        quantize: Whether to store the weights as 8-bit integers. The cost is measured on the recipe's test images, or
            on the first 1,000 training images if there are none, and noted in the model card.
        data_dir: Folder that the recipe's data paths start from; only used to quantize.
        backbone: The model that was passed to `train`, if one was.
        loss: The loss that was passed to `train`, if one was.
        images: The images that were passed to `train`, if any were; only needed to quantize.
        **options: `dtype` and `batch_size`; see `export_saved_model`.

    Returns:
        The folder of the version, such as `saved_models/birds/1`.

    Raises:
        UserError: If the folder is not a run or holds no intact checkpoint, 8-bit weights change an embedding too much,
            or there are no images to measure that on.
    """
    run_dir, out = Path(run_dir), Path(out)
    folder = RunFolder(run_dir)
    with holding(backbone=backbone, loss=loss, images=images), _without_given_images(folder):
        recipe = folder.recipe()
        student, checkpoint = restore_student(run_dir, recipe)
        metrics = {name: value for name, value in checkpoint.metrics.items() if value is not None}
        options["test_classes"] = test_classes_of(folder)
        if not folder.is_over():
            options["unfinished"] = f"epoch {checkpoint.epoch} of {recipe.training.epochs}"
        if not quantize:
            return export_student(recipe, student, out, metrics, **options)
        network = embedding_network(student)
        int8_network = Int8Network(network)
        with listing_all(folder):
            quantization = _cost_of_quantization(recipe, network, int8_network, data_dir)
        return export_student(recipe, int8_network, out, metrics, quantization=quantization, **options)


@contextmanager
def _without_given_images(folder: RunFolder) -> Iterator[None]:
    """Open a run without the images that were passed to `train`, as only quantisation looks at them."""
    given = [each for each in folder.plugins() if (each["kind"], each["name"]) == (registry.sources.kind, GIVEN)]
    needed = bool(given) and GIVEN not in registry.sources

    def load() -> Catalog:
        raise UserError(
            f"{folder.path} was trained on images that were passed to train(): pass them again, as images=..."
        )

    with registry.sources.holding(Source(GIVEN, load, origin=given[0]["origin"]) if needed else None):
        yield


def export_run(run: Run, results: Results, out: Path) -> Path:
    """Export the student of a run as it is now.

    Args:
        run: The run, after its last step.
        results: What was measured, for the model card; empty without test images.
        out: Folder of the SavedModel's versions.

    Returns:
        The folder of the version.
    """
    metrics = results[reached(run.recipe)].metrics if results else {}
    with run.display.doing("writing the SavedModel"):
        return export_student(run.recipe, run.model.student, out, metrics, test_classes=test_classes_of(run.folder))


def export_student(
    recipe: Recipe,
    student: keras.Model | Int8Network,
    out: Path,
    metrics: dict[str, float],
    *,
    quantization: dict[str, Any] | None = None,
    test_classes: str | None = None,
    unfinished: str | None = None,
    **options: Any,
) -> Path:
    """Export a student as the next version of a SavedModel.

    Args:
        recipe: The recipe, which is stored with the network and defines the view of an image.
        student: The student, or its 8-bit form.
        out: Folder of the SavedModel's versions.
        metrics: Retrieval metrics, for the model card.
        quantization: The cost of 8-bit weights, for the model card.
        test_classes: Checksum of the test classes, by which a later evaluation recognises the recipe's folder.
        unfinished: How far the run has come, for the model card; None if it is over.
        **options: Further arguments of `export_saved_model`, such as `dtype`.

    Returns:
        The folder of the version.
    """
    return export_saved_model(
        merge_lora(student) if isinstance(student, keras.Model) else student,
        out,
        size=recipe.evaluation.size or recipe.views.size,
        resize=recipe.evaluation.resize,
        normalize=recipe.evaluation.normalize,
        preprocess=preprocessing(recipe.model.backbone),
        decoding=decoding_of(recipe.data),
        metadata={
            "name": recipe.name,
            "about": recipe.about,
            "data": recipe.data.model_dump_json(),
            "recipe": recipe.model_dump(mode="json"),
            "metrics": metrics,
            "plugins": records_of(recipe.registered_names),
            **({"quantization": quantization} if quantization else {}),
            **({"test_classes": test_classes} if test_classes else {}),
            **({"unfinished": unfinished} if unfinished else {}),
        },
        **options,
    )


def _cost_of_quantization(
    recipe: Recipe, network: keras.Model, int8_network: Int8Network, data_dir: Path | None
) -> dict[str, Any]:
    """Measure for the model card the least cosine, on how many images, and R@1 of both if there are test images."""
    catalog = open_catalog(data_dir=data_dir, **recipe.data.model_dump())
    images, num_queries, _ = readable_test_set(catalog)
    if images is None:
        images = catalog.train.take(range(min(len(catalog.train), _CALIBRATION_IMAGES)))
        images = leave_out(images, find_unreadable(images), max_share=catalog.max_unreadable)
    float_embeddings, int8_embeddings = (
        embed_images(
            recipe,
            tf.function(partial(each, training=False), reduce_retracing=True),
            images,
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
