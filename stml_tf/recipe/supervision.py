"""The `supervision` section of a recipe: learning from labels."""

from pydantic import Field, JsonValue, field_validator

from stml_tf.recipe.names import LossName
from stml_tf.recipe.sections import Section


class Supervision(Section):
    """The settings of supervised and of the labelled part of semi_supervised; other methods do not read them."""

    loss: LossName = Field(
        "multi_similarity", description="The supervised loss, by its name in stml_tf.losses, or tfa:NAME."
    )
    options: dict[str, JsonValue] = Field({}, description="Further arguments of the loss, passed on as they are.")
    classes_per_batch: int = Field(8, ge=2, description="Number of classes in the labelled part of a batch.")
    images_per_class: int = Field(4, ge=1, description="Number of images of each of these classes.")
    weight: float = Field(
        50.0,
        gt=0,
        description="Weight of the self-taught losses relative to the supervised one, in semi_supervised. Their values "
        "are small, as their distances are relative.",
    )
    joint: bool = Field(
        True,
        description="Compute pseudo labels over both parts of a batch, with the true relations among labelled images; "
        "false: only over the unlabelled part.",
    )
    warmup_epochs: int = Field(
        0, ge=0, description="Number of first epochs in which semi_supervised only learns from labels."
    )

    @field_validator("options")
    @classmethod
    def _options_repeat_nothing(cls, options: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for key in ("name", "num_classes", "dim"):
            if key in options:
                raise ValueError(f"{key} is known from the data and the model, so remove it from the options")
        return options

    @property
    def num_labeled(self) -> int:
        """The number of labelled images in a batch."""
        return self.classes_per_batch * self.images_per_class
