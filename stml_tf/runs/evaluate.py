"""Evaluation of a run or a SavedModel on test images."""

import inspect
import os
from pathlib import Path

import keras

from stml_tf import registry
from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.fingerprint import class_names_checksum
from stml_tf.data.formats.rule import DEFAULT_DECODING
from stml_tf.data.inspection import readable_test_set
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.data.sources.folder import load_labeled_folder
from stml_tf.errors import UserError
from stml_tf.export.saved_model import find_saved_model, read_metadata
from stml_tf.plugins import require_registered
from stml_tf.recipe.load import load_recipe
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.embed import decoding_of, embed_images, embed_with_saved_model, student_network
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.given import LossFunction, holding
from stml_tf.runs.measure import retrieval
from stml_tf.runs.open_data import listing_all
from stml_tf.runs.restore import restore_student
from stml_tf.runs.same_images import test_classes_of


def evaluate(
    source: str | os.PathLike[str],
    *,
    data_dir: Path | None = None,
    images: Catalog | str | os.PathLike[str] | None = None,
    backbone: keras.Model | None = None,
    loss: LossFunction | None = None,
) -> dict[str, float | int]:
    """Measure retrieval with the last checkpoint of a run, or with a SavedModel.

    Args:
        source: A run folder, or a SavedModel: the folder of a version, or the one above, of which the newest version is
            taken.
        data_dir: Folder that the recipe's data paths start from. If it does not hold the recipe's data set, but a
            folder for each class, all of its images are measured.
        images: Test images to use instead of the recipe's: a folder with a folder for each class, or a `Catalog`, of
            which the test images and gallery are used. Required for a run whose images were passed to `train`.
        backbone: The model that was passed to `train`, if one was.
        loss: The loss that was passed to `train`, if one was.

    Returns:
        The metrics by name; see `retrieval_metrics`.

    Raises:
        UserError: If the folder is neither, something that the run was made with is missing, or there are no test
            images.
    """
    source = Path(source)
    catalog = _test_catalog(images)
    with holding(backbone=backbone, loss=loss, images=catalog):
        saved_model = find_saved_model(source)
        recipe = RunFolder(source).recipe() if saved_model is None else recipe_of_saved_model(saved_model)
        known_classes = test_classes_of(RunFolder(source)) if saved_model is None else _test_classes(saved_model)
        with listing_all(RunFolder(source)):
            found, num_queries = _test_images(recipe, catalog, data_dir, known_classes)
        if saved_model is None:
            student, _ = restore_student(source, recipe)
            network = student_network(student)
            embeddings = embed_images(recipe, network, found, normalize=recipe.evaluation.normalize)
        else:
            embeddings = embed_with_saved_model(saved_model, found)
        return retrieval(recipe, embeddings, found, num_queries).metrics


def recipe_of_saved_model(saved_model: Path) -> Recipe:
    """Read the recipe that a SavedModel was trained with.

    Args:
        saved_model: Folder of a version.

    Raises:
        UserError: If it holds no recipe, or something that the recipe names is not registered.
    """
    metadata = read_metadata(saved_model)
    if "recipe" not in metadata:
        raise UserError(f"{saved_model} holds no recipe, so it does not say what to measure: give a run folder.")
    require_registered(metadata.get("plugins", ()), saved_model)
    return load_recipe(metadata["recipe"], check_files=False)


def _test_classes(saved_model: Path) -> str | None:
    return read_metadata(saved_model).get("test_classes")


def _test_catalog(images: Catalog | str | os.PathLike[str] | None) -> Catalog | None:
    if images is None or isinstance(images, Catalog):
        return images
    if isinstance(images, str | os.PathLike):
        labeled = load_labeled_folder(Path(images))
        return Catalog(str(images), labeled, labeled)
    raise UserError(
        f"images: {type(images).__name__} given; allowed: a folder with a folder for each class, or a Catalog with "
        "test images, as retrieval is judged by classes"
    )


def _test_images(
    recipe: Recipe, catalog: Catalog | None, data_dir: Path | None, known_classes: str | None
) -> tuple[ImageSet, int | None]:
    if catalog is None:
        catalog = _recipe_data(recipe, data_dir, known_classes)
    elif catalog.test is not None and catalog.test.decoding == DEFAULT_DECODING:
        catalog = catalog.decoded(decoding_of(recipe.data))  # as the network has seen its images
    if catalog.test is None:
        raise UserError(
            f"{catalog.name}, the data of the recipe {recipe.name}, has no test images to evaluate on: set data.test "
            "to a folder with a folder for each class, or pass such a folder as images=..."
        )
    images, num_queries, _ = readable_test_set(catalog)
    return images, num_queries


def _recipe_data(recipe: Recipe, data_dir: Path | None, known_classes: str | None) -> Catalog:
    """Open the recipe's data or, if `data_dir` holds another data set, all of its images.

    The folder of a recipe that splits one folder by class is recognised by its test classes. Any other folder is
    measured as a whole, as none of its images were trained on.
    """
    if data_dir is None:
        return open_catalog(**recipe.data.model_dump())
    if not _may_hold(recipe, data_dir):
        return _whole_folder(recipe, data_dir)
    try:
        catalog = open_catalog(data_dir=data_dir, **recipe.data.model_dump())
    except ValueError as error:
        if recipe.data.name == "folder":
            raise
        try:  # The published data set is not there: perhaps the folder holds other images.
            return _whole_folder(recipe, data_dir)
        except ValueError:
            raise error from None
    splits_a_folder = getattr(recipe.data, "train_classes", None) is not None and recipe.data.name == "folder"
    if splits_a_folder and known_classes is not None and known_classes != class_names_checksum(catalog.test):
        return _whole_folder(recipe, data_dir)
    return catalog


def _may_hold(recipe: Recipe, data_dir: Path) -> bool:
    """Return whether a folder is laid out like the recipe's data, which it cannot be if those are not files."""
    data = recipe.data
    if "data_dir" not in inspect.signature(registry.resolve(registry.sources.find(data.name).build)).parameters:
        return False
    if data.name != "folder":
        return True
    return (data_dir / (data.test or data.train)).is_dir()


def _whole_folder(recipe: Recipe, folder: Path) -> Catalog:
    labeled = load_labeled_folder(folder)
    return Catalog(folder.resolve().name, labeled, labeled).decoded(decoding_of(recipe.data))
