"""The section of a recipe on learning from labels."""

from pydantic import Field, JsonValue, field_validator

from stml_tf.recipe.names import LossName
from stml_tf.recipe.sections import Section


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

    @field_validator("options")
    @classmethod
    def _options_repeat_nothing(cls, options: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for key in ("name", "num_classes", "dim"):
            if key in options:
                raise ValueError(f"{key} is known from the data and the model, so take it out of the options")
        return options

    @property
    def num_labeled(self) -> int:
        """Labelled images in a batch."""
        return self.classes_per_batch * self.images_per_class
