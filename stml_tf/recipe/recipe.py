"""The recipe: everything that decides a training run, as one typed JSON document.

Importing this module is quick and loads no TensorFlow, so that a wrong recipe is refused at once.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from stml_tf.recipe.data import FolderData, GlyphsData, PublishedData, TfdsData
from stml_tf.recipe.errors import RecipeError, describe_bad_json, describe_problems, did_you_mean, shorten
from stml_tf.recipe.sections import (
    KERAS_BACKBONES,
    Baseline,
    Batch,
    Evaluation,
    Loss,
    Model,
    Optimizer,
    Sampling,
    Schedule,
    Section,
    Teacher,
    Training,
    Views,
)
from stml_tf.recipe.supervision import SUPERVISED_METHODS, Supervision, supervision_conflicts


def _spell_out_tfds(data: Any) -> Any:
    """`"name": "tfds:NAME"` is short for `"name": "tfds", "dataset": "NAME"`."""
    name = data.get("name") if isinstance(data, dict) else None
    if isinstance(name, str) and name.startswith("tfds:") and "dataset" not in data:
        return {**data, "name": "tfds", "dataset": name.removeprefix("tfds:")}
    return data


# What a method does not read: another value than the default there would be a misunderstanding.
_OF_SELF_TAUGHT = (
    *("loss.sigma", "loss.delta", "model.teacher_dim", "sampling.coverage"),
    *("teacher.start", "teacher.center", "teacher.update", "training.accumulate"),
)
_OF_BASELINES = tuple(f"baseline.{key}" for key in Baseline.model_fields)
_OF_SUPERVISION = tuple(f"supervision.{key}" for key in Supervision.model_fields)
_NOT_READ = {
    # One recipe serves self_taught, supervised and semi_supervised, so that they can be compared.
    "self_taught": _OF_BASELINES,
    "supervised": _OF_BASELINES,
    "semi_supervised": _OF_BASELINES,
    "moco": (*_OF_SELF_TAUGHT, *_OF_SUPERVISION, "baseline.top_k"),
    "byol": (*_OF_SELF_TAUGHT, *_OF_SUPERVISION, "baseline.memory_size", "baseline.temperature", "baseline.top_k"),
    "mean_shift": (*_OF_SELF_TAUGHT, *_OF_SUPERVISION, "baseline.temperature"),
}
_BASELINES = ("moco", "byol", "mean_shift")


class Recipe(Section):
    """Everything that decides a training run."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the run's folder and of the saved model: letters, digits, dots, dashes and underscores.",
    )
    about: str = Field("", description="What the recipe is for, in a sentence.")
    method: Literal["self_taught", "semi_supervised", "supervised", "moco", "byol", "mean_shift"] = Field(
        "self_taught", description="The training method."
    )
    seed: int = Field(0, ge=0, description="Seed of everything random in the run.")
    data: Annotated[
        Annotated[GlyphsData | FolderData | PublishedData | TfdsData, Field(discriminator="name")],
        BeforeValidator(_spell_out_tfds),
    ] = Field(description="The images to train and test on.")
    views: Views = Field(description="The random views of each image.")
    model: Model = Field(description="The network.")
    teacher: Teacher = Field(Teacher(), description="The moving average of the network that makes the pseudo labels.")
    sampling: Sampling = Field(Sampling(), description="How a batch is drawn.")
    loss: Loss = Field(Loss(), description="The loss of self_taught.")
    supervision: Supervision = Field(Supervision(), description="The labelled half of semi_supervised; supervised.")
    baseline: Baseline = Field(Baseline(), description="The settings of moco, byol and mean_shift.")
    batch: Batch = Field(Batch(), description="The size of a batch.")
    optimizer: Optimizer = Field(description="The optimizer.")
    schedule: Schedule = Field(Schedule(), description="How the learning rate changes.")
    training: Training = Field(description="How long to train.")
    evaluation: Evaluation = Field(Evaluation(), description="How the result is measured.")

    @model_validator(mode="after")
    def _sections_fit_together(self) -> "Recipe":
        if conflicts := list(self._conflicts()):
            raise ValueError("\n".join(conflicts))
        return self

    @property
    def embedding(self) -> str:
        """What is evaluated and exported, in words."""
        if self.method not in _BASELINES:
            return f"embeddings of {self.model.embedding_dim} dimensions"
        if self.baseline.embedding == "projection":
            return f"embeddings of {self.model.embedding_dim} dimensions, the output of the MLP head"
        return "the pooled features below the MLP head as embeddings"

    @property
    def learns_from_labels(self) -> bool:
        return self.method in SUPERVISED_METHODS

    @property
    def images_per_step(self) -> int:
        """How many images the network is shown in a step."""
        return self.supervision.num_labeled if self.method == "supervised" else self.batch.size

    def _conflicts(self) -> Iterator[str]:
        yield from self._unread()
        if self.method in _BASELINES:
            yield from self._baseline_conflicts()
        if self.learns_from_labels:
            yield from supervision_conflicts(self)
        else:
            yield from self._neighbor_conflicts()
        size = self.batch.size
        if self.images_per_step % self.training.accumulate:
            yield (
                f"training.accumulate: {self.training.accumulate} given; allowed: a divisor of the "
                f"{self.images_per_step} images of a step, as its pieces are equal"
            )
        if isinstance(self.data, GlyphsData) and size > self.data.num_train_images():
            yield (
                f"batch.size: {size} given; allowed: at most the {self.data.num_train_images()} training images of "
                "data, so use smaller batches or more classes or instances"
            )
        if self.schedule.warmup_epochs >= self.training.epochs:
            yield (
                f"schedule.warmup_epochs: {self.schedule.warmup_epochs} given; allowed: fewer than training.epochs "
                f"({self.training.epochs})"
            )
        eval_size = self.evaluation.size or self.views.size
        if self.evaluation.resize is not None and self.evaluation.resize < eval_size:
            origin = "evaluation.size" if self.evaluation.size else "views.size"
            yield (
                f"evaluation.resize: {self.evaluation.resize} given; allowed: at least {origin} ({eval_size}), which "
                "is cut out of it"
            )

    def _neighbor_conflicts(self) -> Iterator[str]:
        size, num_neighbors = self.batch.size, self.sampling.num_neighbors
        if num_neighbors > size:
            yield (
                f"sampling.num_neighbors: {num_neighbors} given; allowed: at most batch.size ({size}), as a query and "
                "its neighbours fill a batch"
            )
        elif size % num_neighbors:
            yield (
                f"batch.size: {size} given; allowed: a multiple of sampling.num_neighbors ({num_neighbors}), such as "
                f"{size - size % num_neighbors} or {size - size % num_neighbors + num_neighbors}"
            )

    def _unread(self) -> Iterator[str]:
        for path in _NOT_READ[self.method]:
            name, key = path.split(".")
            section = getattr(self, name)
            if (given := getattr(section, key)) != type(section).model_fields[key].default:
                yield f"{path}: {json.dumps(given)} given; allowed: leave it out, as {self.method} does not read it"

    def _baseline_conflicts(self) -> Iterator[str]:
        if self.sampling.num_neighbors != 1:
            yield (
                f"sampling.num_neighbors: {self.sampling.num_neighbors} given; allowed: 1, as {self.method} is trained "
                "on images in random order, without their neighbours"
            )
        if self.views.num_views != 2:
            yield (
                f"views.num_views: {self.views.num_views} given; allowed: 2, as {self.method} shows one view to the "
                "student and the other to the teacher"
            )
        least = max(self.batch.size, self.baseline.top_k)
        if self.method == "mean_shift" and self.baseline.memory_size < least:
            yield (
                f"baseline.memory_size: {self.baseline.memory_size} given; allowed: at least {least}, so that it holds "
                "the batch (batch.size) and the neighbours that are looked for in it (baseline.top_k)"
            )


def load_recipe(path_or_name: str | Path, overrides: Sequence[str] = (), *, check_files: bool = True) -> Recipe:
    """Read and check a recipe.

    Args:
        path_or_name: a JSON file, or the name of a shipped recipe such as "quickstart".
        overrides: "key.path=value" each, applied in order; a value that is not JSON is taken as text.
        check_files: also refuse a `model.weights` file that does not exist. A run that has begun no longer needs it.

    Returns:
        The recipe with every default filled in.

    Raises:
        RecipeError: naming the file, and for each problem the key, what was given and what is allowed.
    """
    source, text = _read(path_or_name)
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise RecipeError(describe_bad_json(source, error)) from None
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None
    if not isinstance(document, dict):
        raise RecipeError(f"{source}: {shorten(document)} given; allowed: an object with the keys of a recipe")
    if overrides:
        source = f"{source} with {', '.join(overrides)}"
    for override in overrides:
        _apply(document, override, source)
    try:
        # Through JSON, as pydantic's strictness has rules for JSON: lists become tuples there, but "12" no number.
        recipe = Recipe.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise RecipeError(describe_problems(source, error, document, recipe_schema())) from None
    if check_files and (advice := missing_weights(recipe)):
        allowed = 'a file, "imagenet" or null' if recipe.model.backbone in KERAS_BACKBONES else "a file or null"
        given = json.dumps(recipe.model.weights)
        raise RecipeError(f"{source}:\n  model.weights: no such file: {given} given; allowed: {allowed}; {advice}")
    return recipe


def missing_weights(recipe: Recipe) -> str | None:
    """How to come by the file that `model.weights` names, where it does not exist; else None."""
    weights, backbone = recipe.model.weights, recipe.model.backbone
    if weights in (None, "imagenet") or Path(weights).exists():
        return None
    if backbone in KERAS_BACKBONES:
        return 'it is a file that Keras has saved; "imagenet" takes Keras\'s own weights'
    return f"make it from a PyTorch checkpoint: stml-tf convert-weights CHECKPOINT --backbone {backbone} -o {weights}"


def save_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe with every default spelled out; `load_recipe` gives back an equal one."""
    Path(path).write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, with a description of every key."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def shipped_recipes() -> dict[str, str]:
    """Name -> what it is for, of each recipe that comes with the package."""
    return {name: json.loads(path.read_text(encoding="utf-8")).get("about", "") for name, path in _shipped().items()}


def _shipped() -> dict[str, Path]:
    installed, checkout = Path(__file__).parents[1] / "shipped_recipes", Path(__file__).parents[2] / "recipes"
    folder = installed if installed.is_dir() else checkout
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def _read(path_or_name: str | Path) -> tuple[str, str]:
    """What to call the recipe in messages, and its text."""
    source, path, shipped = str(path_or_name), Path(path_or_name), _shipped()
    if not path.is_file() and source not in shipped:
        raise RecipeError(
            f"{source}: no such file; allowed: a JSON file, or a shipped recipe's name, of {', '.join(shipped)}"
            f"{did_you_mean(path.stem, shipped)}"
        )
    try:
        # With or without the byte order mark that some editors begin a file with.
        return source, (path if path.is_file() else shipped[source]).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError(f"{source}: not a text file; allowed: JSON in UTF-8") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise RecipeError(f"the key {json.dumps(key)} is given {keys.count(key)} times in one object; keep one")
    return dict(pairs)


def _apply(document: dict[str, Any], override: str, source: str) -> None:
    path, equals, text = override.partition("=")
    *parents, key = path.split(".")
    if not (equals and all([*parents, key])):
        raise RecipeError(f"{source}: {json.dumps(override)} given; allowed: key.path=value, such as batch.size=60")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    section = document
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise RecipeError(f"{source}:\n  {path}: unknown key, as {parent} is a value and has no keys")
    section[key] = value
