"""The section of a recipe on learning from labels, and how it has to fit the other sections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, JsonValue, PlainValidator, WithJsonSchema

from stml_tf.recipe.data import FolderData
from stml_tf.recipe.errors import did_you_mean
from stml_tf.recipe.sections import Section

if TYPE_CHECKING:
    from stml_tf.recipe.recipe import Recipe

SUPERVISED_METHODS = ("supervised", "semi_supervised")
SUPERVISED_LOSSES = (
    *("contrastive", "lifted_structure", "multi_similarity", "n_pairs", "normalized_softmax", "proxy_anchor"),
    *("supervised_contrastive", "triplet"),
)
ADDONS_PREFIX = "tfa:"


def _loss_name(value: Any) -> str:
    name = str(value)
    if not (name in SUPERVISED_LOSSES or (name.startswith(ADDONS_PREFIX) and name != ADDONS_PREFIX)):
        raise ValueError(
            f'allowed: {", ".join(SUPERVISED_LOSSES)}, or "tfa:" and a name in tensorflow_addons.losses'
            f"{did_you_mean(name, SUPERVISED_LOSSES)}"
        )
    return name


LossName = Annotated[
    str,
    PlainValidator(_loss_name),
    WithJsonSchema({"anyOf": [{"enum": list(SUPERVISED_LOSSES)}, {"type": "string", "pattern": "^tfa:.+$"}]}),
]


class Supervision(Section):
    """Learning from labels: all of supervised, and half of semi_supervised; the other methods do not read it."""

    loss: LossName = Field(
        "multi_similarity", description="The supervised loss, by its name in stml_tf.losses, or tfa:NAME."
    )
    options: dict[str, JsonValue] = Field({}, description="Further arguments of the loss, passed on as they are.")
    classes_per_batch: int = Field(8, ge=2, description="Classes in the labelled part of a batch.")
    images_per_class: int = Field(4, ge=1, description="Images of each of these classes.")
    weight: float = Field(
        50.0,
        gt=0,
        description="Weight of the self-taught losses beside the supervised one, in semi_supervised. They are small "
        "numbers, as distances in them are relative.",
    )
    joint: bool = Field(
        True,
        description="Pseudo labels over both parts of a batch, with true relations in the place of predicted ones "
        "among labelled images; false: over the unlabelled part.",
    )
    warmup_epochs: int = Field(
        0, ge=0, description="Epochs that semi_supervised begins with in which it learns from labels alone."
    )

    @property
    def num_labeled(self) -> int:
        """Labelled images in a batch."""
        return self.classes_per_batch * self.images_per_class


def supervision_conflicts(recipe: Recipe) -> Iterator[str]:
    """What does not fit together where a method learns from labels, a line each."""
    supervision, size, num_neighbors = recipe.supervision, recipe.batch.size, recipe.sampling.num_neighbors
    labeled = supervision.num_labeled
    if isinstance(recipe.data, FolderData) and not recipe.data.has_labels:
        yield (
            f"data.train_labels: false given; allowed: true, as {recipe.method} learns from the classes of training "
            "images; or give data.train_classes"
        )
    product = (
        f"supervision.classes_per_batch: {supervision.classes_per_batch} given; allowed: such that, times "
        f"images_per_class ({supervision.images_per_class}), there are"
    )
    if recipe.method == "supervised":
        if labeled > size:
            yield f"{product} at most batch.size ({size}) labelled images in a batch, not {labeled}"
        return
    if not recipe.data.has_unlabeled:
        yield (
            "data.labeled_classes: null given; allowed: the share or the number of training classes that keep their "
            "labels, as semi_supervised needs unlabelled images too; or give data.labeled_fraction, or name other "
            "images in data.unlabeled"
        )
    if labeled >= size:
        yield f"{product} fewer labelled images than batch.size ({size}), not {labeled}: the others are unlabelled"
    elif (size - labeled) % num_neighbors:
        below = size - (size - labeled) % num_neighbors
        nearest = f"{below} or {below + num_neighbors}" if below > labeled else str(below + num_neighbors)
        yield (
            f"batch.size: {size} given; allowed: {labeled} labelled images (supervision.classes_per_batch times "
            f"images_per_class) and a multiple of sampling.num_neighbors ({num_neighbors}), such as {nearest}"
        )
    if supervision.warmup_epochs >= recipe.training.epochs:
        yield (
            f"supervision.warmup_epochs: {supervision.warmup_epochs} given; allowed: fewer than training.epochs "
            f"({recipe.training.epochs})"
        )
