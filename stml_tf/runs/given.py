"""Objects that are passed to a run instead of names: a model, a loss or images, which JSON cannot hold.

Each is registered under the name "given" for the duration of the run, so a recipe can name it like anything else.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import keras

from stml_tf import registry
from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.sources.given import GivenImages, as_catalog
from stml_tf.errors import UserError
from stml_tf.recipe.data import FileData
from stml_tf.recipe.load import load_recipe
from stml_tf.recipe.recipe import Recipe
from stml_tf.registry import Backbone, Loss, Source
from stml_tf.tensor import Tensor

GIVEN = "given"

LossFunction = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def holding(
    *, backbone: keras.Model | None = None, loss: LossFunction | None = None, images: GivenImages | None = None
) -> Iterator[None]:
    """Register the given objects for the duration of the block.

    Args:
        backbone: See `train`, as for the other two.
        loss: The loss.
        images: The images.

    Raises:
        UserError: If the backbone, the loss or the images cannot be used.
    """
    with ExitStack() as stack:
        if backbone is not None:
            stack.enter_context(registry.backbones.holding(_backbone_entry(backbone)))
        if loss is not None:
            stack.enter_context(registry.losses.holding(_loss_entry(loss)))
        if images is not None:
            stack.enter_context(registry.sources.holding(_source_entry(as_catalog(images))))
        yield


def naming_what_is_given(
    recipe: Recipe, *, backbone: bool = False, loss: bool = False, images: GivenImages | None = None
) -> Recipe:
    """Return a recipe that names "given", or a folder, where an object is given.

    Call it within the block of `holding`.

    Args:
        recipe: The recipe.
        backbone: Whether a backbone is given.
        loss: Whether a loss is given.
        images: The images that are given, if any.

    Raises:
        RecipeError: If the rest of the recipe does not fit.
        UserError: If a loss is given to a method that does not learn from labels.
    """
    if loss and not recipe.learns_from_labels:
        raise UserError(
            f"loss: given, but {recipe.method} does not learn from labels; allowed with a method that does, such as "
            "supervised or semi_supervised"
        )
    document = recipe.model_dump(mode="json")
    if backbone:
        document["model"] |= {"backbone": GIVEN, "weights": None}  # it comes with its weights
    if loss:
        document["supervision"] |= {"loss": GIVEN, "options": {}}
    if images is not None:
        source = {"name": "folder", "train": ".", "test": None} if is_folder(images) else {"name": GIVEN}
        document["data"] = {**source, **_how_they_are_read(images), **_said_of_images(recipe)}
    return load_recipe(document)


def _how_they_are_read(images: GivenImages) -> dict[str, Any]:
    """Return how the files of a catalog or a set are decoded, so that the run and its export do the same."""
    found = {} if not isinstance(images, Catalog) else {"max_unreadable": images.max_unreadable}
    if isinstance(images, Catalog | ImageSet):
        decoding = images.train.decoding if isinstance(images, Catalog) else images.decoding
        found |= {"background": decoding.background, "bit_depth": decoding.bit_depth}
    return found


def _said_of_images(recipe: Recipe) -> dict[str, Any]:
    """Return the keys of a recipe's data that apply to any images."""
    said = recipe.data.model_dump(mode="json", include=recipe.data.model_fields_set)
    return {key: value for key, value in said.items() if key in FileData.model_fields and key != "name"}


def is_folder(images: GivenImages | None) -> bool:
    """Return whether images are given as a folder, which a recipe can name."""
    return isinstance(images, str | os.PathLike) and Path(images).is_dir()


def _backbone_entry(model: keras.Model) -> Backbone:
    if not isinstance(model, keras.Model):
        raise UserError(f"backbone: {type(model).__name__} given; allowed: a keras.Model, or a name in the recipe")
    if not getattr(model, "inputs", None) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(
            f"backbone: the model {model.name!r} given; allowed: a functional or sequential keras.Model with one input "
            "and one output, as its teacher is made by copying its layers"
        )
    rank = len(model.output_shape)
    if model.input_shape[-1] != 3 or len(model.input_shape) != 4 or rank not in (2, 4):
        raise UserError(
            f"backbone: a model from {model.input_shape} to {model.output_shape} given; allowed: from images "
            "[batch, height, width, 3] to feature maps [batch, height, width, channels] or vectors [batch, channels]"
        )

    def copy() -> keras.Model:
        # In the scope of the run's devices; the given model stays as it is.
        copied = keras.models.clone_model(model)
        copied.set_weights(model.get_weights())
        return copied

    about = f"keras.Model {model.name!r} from {model.input_shape} to {model.output_shape}"
    return Backbone(GIVEN, copy, origin=f"{about} with {model.count_params():,} parameters")


def _loss_entry(loss: LossFunction) -> Loss:
    if not callable(loss) or isinstance(loss, type):
        raise UserError(
            f"loss: {loss!r} given; allowed: a callable of labels [batch] and embeddings [batch, dim] that returns a "
            "scalar, or a name in the recipe"
        )
    module, name = getattr(loss, "__module__", ""), getattr(loss, "__qualname__", type(loss).__name__)
    return Loss(GIVEN, lambda: loss, origin=f"the loss {module}.{name}")


def _source_entry(catalog: Catalog) -> Source:
    sets = {"training": catalog.train, "unlabelled": catalog.unlabeled, "test": catalog.test}
    counts = ", ".join(f"{len(images):,} {name} images" for name, images in sets.items() if images is not None)

    def load() -> Any:
        return catalog

    return Source(GIVEN, load, origin=f"{catalog.name}: {counts}")
