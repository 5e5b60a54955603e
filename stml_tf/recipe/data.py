"""The sections of a recipe that say which images to train and test on, a class for each kind of data."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stml_tf.recipe.sections import Section, ShareOrCount

LabeledClasses = Annotated[
    ShareOrCount | None,
    Field(
        description="Training classes that keep their labels, as a share or a count, for supervised and "
        "semi_supervised; the images of the others are unlabelled. null: all."
    ),
]
LabeledFraction = Annotated[
    Annotated[float, Field(gt=0, lt=1)] | None,
    Field(
        description="Share of the images of every training class that keep their labels; the others are unlabelled. "
        "null: all."
    ),
]


class PartlyLabeled(Section):
    """Data of which a part of the training labels may be kept, and the others never looked at."""

    @model_validator(mode="after")
    def _one_way_to_keep_labels(self) -> "PartlyLabeled":
        if self.labeled_classes is not None and self.labeled_fraction is not None:
            raise ValueError(
                f"labeled_fraction: {self.labeled_fraction} given together with labeled_classes "
                f"{self.labeled_classes}; allowed: one of them, so set the other to null"
            )
        return self

    @property
    def has_labels(self) -> bool:
        """Whether training images come with their classes."""
        return True

    @property
    def has_unlabeled(self) -> bool:
        """Whether there are training images without a label beside the labelled ones."""
        unlabeled = getattr(self, "unlabeled", None)
        return any(part is not None for part in (self.labeled_classes, self.labeled_fraction, unlabeled))


class GlyphsData(PartlyLabeled):
    """Characters drawn from the fonts that matplotlib ships: a class is a character, its images are fonts."""

    name: Literal["glyphs"] = Field(description="Characters drawn from fonts; nothing is downloaded.")
    num_classes: int = Field(1000, ge=2, description="Characters, training and test together.")
    instances: int = Field(12, ge=2, description="Images of each character.")
    image_size: int = Field(32, ge=8, description="Side of a drawn image in pixels.")
    seed: int = Field(0, ge=0, description="Seed of the jitter with which characters are drawn.")
    train_classes: ShareOrCount = Field(
        0.5, description="Classes to train on, as a share or a count; the others are the test classes."
    )
    labeled_classes: LabeledClasses = None
    labeled_fraction: LabeledFraction = None

    @model_validator(mode="after")
    def _both_sides_have_classes(self) -> "GlyphsData":
        if not 0 < self._num_train_classes() < self.num_classes:
            raise ValueError(
                f"train_classes: {self.train_classes} given; allowed: a share or a count that leaves some of the "
                f"{self.num_classes} classes for training and some for the test"
            )
        return self

    def _num_train_classes(self) -> int:
        if isinstance(self.train_classes, int):
            return self.train_classes
        return int(self.train_classes * self.num_classes + 0.5)

    def num_train_images(self) -> int:
        return self._num_train_classes() * self.instances


class FolderData(PartlyLabeled):
    """Image files of your own. Paths are relative to the data folder that is given when training starts."""

    name: Literal["folder"] = Field(description="Image files of your own.")
    train: str = Field("train", min_length=1, description="Folder of training images, flat or nested.")
    test: str | None = Field(
        "test",
        description="Folder of test images with a folder for each class; null: none. Left out, it is 'test', or null "
        "where train_classes is given.",
    )
    train_classes: ShareOrCount | None = Field(
        None,
        description="Classes of `train` to train on, as a share or a count, where the others are the test classes; "
        "null: all of them.",
    )
    train_labels: bool = Field(
        False,
        description="Read the class of training images from their folders: to learn from where the method does, else "
        "to watch the pseudo labels.",
    )
    unlabeled: str | None = Field(
        None, min_length=1, description="Folder of further training images without labels, flat or nested; null: none."
    )
    labeled_classes: LabeledClasses = None
    labeled_fraction: LabeledFraction = None

    @model_validator(mode="before")
    @classmethod
    def _no_test_folder_where_classes_are_split(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("train_classes") is not None:
            return {"test": None, **values}
        return values

    @property
    def has_labels(self) -> bool:
        return self.train_labels or self.train_classes is not None

    @model_validator(mode="after")
    def _kept_labels_are_read(self) -> "FolderData":
        for key in ("labeled_classes", "labeled_fraction"):
            if getattr(self, key) is not None and not self.has_labels:
                raise ValueError(
                    f"{key}: {getattr(self, key)} given; allowed where the training images have labels, so set "
                    "train_labels to true, or give train_classes"
                )
        return self

    @model_validator(mode="after")
    def _one_kind_of_test(self) -> "FolderData":
        if self.test is not None and self.train_classes is not None:
            raise ValueError(
                f"test: {json.dumps(self.test)} given together with train_classes {self.train_classes}; allowed: one "
                "of them, so set the other to null"
            )
        return self


class PublishedData(PartlyLabeled):
    """A published data set with the split of its classes that results are reported on, in its official layout."""

    name: Literal["cub", "cars196", "sop", "inshop"] = Field(
        description="CUB-200-2011, Cars196, Stanford Online Products or In-Shop Clothes."
    )
    unlabeled: Literal["nabirds", "compcars"] | None = Field(
        None,
        description="A further data set to train on without its labels, NABirds or CompCars, in the same data folder; "
        "null: none.",
    )
    labeled_classes: LabeledClasses = None
    labeled_fraction: LabeledFraction = None


class TfdsData(PartlyLabeled):
    """An image classification set of TensorFlow Datasets, split by class; `"name": "tfds:NAME"` is short for it."""

    name: Literal["tfds"] = Field(description="A set of TensorFlow Datasets.")
    dataset: str = Field(min_length=1, description="Its name there, such as oxford_flowers102.")
    train_classes: ShareOrCount = Field(
        0.5, description="Classes to train on, as a share or a count; the others are the test classes."
    )
    labeled_classes: LabeledClasses = None
    labeled_fraction: LabeledFraction = None
