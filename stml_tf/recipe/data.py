"""The `data` section of a recipe, with a class for each kind of data."""

import inspect
import json
from collections.abc import Iterator
from typing import Annotated, Any, Union

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    Tag,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from stml_tf import registry
from stml_tf.errors import did_you_mean
from stml_tf.recipe.names import OneOf, UnlabeledName
from stml_tf.recipe.sections import MAX_IMAGES, MAX_SEED, MAX_SIDE, Section, ShareOrCount
from stml_tf.registry import Source, resolve

MAX_GLYPH_BYTES = 4 * 2**30

LabeledClasses = Annotated[
    ShareOrCount | None,
    Field(
        description="Training classes that keep their labels, as a share or a count, for supervised and "
        "semi_supervised; images of the other classes count as unlabelled. null: all."
    ),
]
LabeledFraction = Annotated[
    Annotated[float, Field(gt=0, lt=1)] | None,
    Field(
        description="Share of the images of each training class that keep their labels; the others count as "
        "unlabelled. null: all."
    ),
]

AllowLeaks = Annotated[
    bool,
    Field(
        description="Allow test images to be training images, too, byte for byte; they are counted and listed. True "
        "for published data sets, whose split is used as it is."
    ),
]


def _described_by(section: str | None) -> OneOf:
    """Allow the names of the data sets whose keys a class of this module describes."""
    return OneOf(lambda: [source.name for source in _sources() if source.section == section])


def _sources() -> list[Source]:
    """Return the data sets that `data.name` may name, sorted by name."""
    return [source for _, source in sorted(registry.sources.items()) if not source.only_unlabeled]


class DataSection(Section):
    """Data of which only a part of the training labels may be kept."""

    @model_validator(mode="after")
    def _one_way_to_keep_labels(self) -> "DataSection":
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
        """Whether there are training images without a label as well as labelled ones."""
        unlabeled = getattr(self, "unlabeled", None)
        return any(part is not None for part in (self.labeled_classes, self.labeled_fraction, unlabeled))

    def num_train_images(self) -> int | None:
        """Return the number of training images; None if only the data themselves can tell."""
        return None


class GlyphsData(DataSection):
    """Characters drawn in the fonts that matplotlib ships: a class is a character, and each font gives an image."""

    name: Annotated[str, _described_by("GlyphsData")] = Field(
        description="Characters drawn in fonts; nothing is downloaded."
    )
    num_classes: int = Field(1000, ge=2, le=MAX_IMAGES, description="Characters, training and test together.")
    instances: int = Field(12, ge=2, le=MAX_IMAGES, description="Images of each character.")
    image_size: int = Field(32, ge=8, le=MAX_SIDE, description="Side of a drawn image in pixels.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the jitter with which characters are drawn.")
    train_classes: ShareOrCount = Field(
        0.5, description="Classes to train on, as a share or a count; the others are the test classes."
    )
    allow_leaks: AllowLeaks = False
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

    @model_validator(mode="after")
    def _fit_into_memory(self) -> "GlyphsData":
        size = self.num_classes * self.instances * self.image_size**2
        if size > MAX_GLYPH_BYTES:
            raise ValueError(
                f"instances: {self.instances} given; allowed: so many that num_classes ({self.num_classes}) times "
                f"instances images of image_size {self.image_size} take at most {MAX_GLYPH_BYTES // 2**30} GiB of "
                f"memory, not {size / 2**30:,.0f}"
            )
        return self

    def _num_train_classes(self) -> int:
        if isinstance(self.train_classes, int):
            return self.train_classes
        return int(self.train_classes * self.num_classes + 0.5)

    def num_train_images(self) -> int:
        return self._num_train_classes() * self.instances


Level = Annotated[int, Field(ge=0, le=255, strict=True)]
Color = Annotated[tuple[Level, Level, Level], Field(strict=False)]  # JSON has lists, not tuples.


class FileData(DataSection):
    """Data that are image files: how they are decoded, and how many of them may be unreadable."""

    name: str
    background: Color = Field(
        (255, 255, 255), description="Colour, as red, green and blue, that shows where an image is transparent."
    )
    bit_depth: int = Field(
        16, ge=8, le=16, description="Number of bits used in 16-bit files: 10 or 12 for many cameras."
    )
    max_unreadable: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Largest share of a set's images that may be left out because they cannot be decoded.",
    )
    allow_leaks: AllowLeaks = False


class FolderData(FileData):
    """Your own image files. Paths are relative to the data folder that is given when training starts."""

    name: Annotated[str, _described_by("FolderData")] = Field(description="Your own image files.")
    train: str = Field("train", min_length=1, description="Folder of training images, flat or nested.")
    test: str | None = Field(
        "test",
        description="Folder of test images, with a folder for each class; null: none. The default is 'test', or null "
        "if train_classes is given.",
    )
    train_classes: ShareOrCount | None = Field(
        None,
        description="Classes of `train` to train on, as a share or a count; the others become the test classes. "
        "null: all of them.",
    )
    train_labels: bool = Field(
        False,
        description="Read the classes of training images from their folders, to learn from if the method does, or else "
        "to monitor the pseudo labels.",
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


class PublishedData(FileData):
    """A published data set in its official layout, with the split of its classes that results are reported on."""

    name: Annotated[str, _described_by("PublishedData")] = Field(
        description="CUB-200-2011, Cars196, Stanford Online Products or In-Shop Clothes."
    )
    unlabeled: UnlabeledName | None = Field(
        None,
        description="Another data set to train on without labels, NABirds or CompCars, in the same data folder; null: "
        "none.",
    )
    allow_leaks: AllowLeaks = True
    labeled_classes: LabeledClasses = None
    labeled_fraction: LabeledFraction = None


class TfdsData(FileData):
    """An image classification data set of TensorFlow Datasets, split by class; `"tfds:NAME"` is short for it."""

    name: Annotated[str, _described_by("TfdsData")] = Field(description="A data set of TensorFlow Datasets.")
    dataset: str = Field(min_length=1, description="Its name there, such as oxford_flowers102.")
    train_classes: ShareOrCount = Field(
        0.5, description="Classes to train on, as a share or a count; the others are the test classes."
    )
    labeled_classes: LabeledClasses = None
    labeled_fraction: LabeledFraction = None


class OtherData(FileData):
    """Any other registered data set, whose further keys are the arguments of the function that loads it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    name: Annotated[str, _described_by(None)] = Field(description="A registered data set.")
    labeled_classes: LabeledClasses = None
    labeled_fraction: LabeledFraction = None

    @property
    def has_unlabeled(self) -> bool:
        return True  # perhaps: only the data themselves can tell

    @model_validator(mode="after")
    def _keys_are_arguments(self) -> "OtherData":
        if problems := list(self._wrong_keys()):
            raise ValueError("\n".join(problems))
        return self

    def _wrong_keys(self) -> Iterator[str]:
        # A class or function of a plug-in, which is already imported: this loads nothing.
        parameters = inspect.signature(resolve(registry.sources[self.name].build)).parameters.values()
        named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        keys = [each for each in named if each.name not in ("data_dir", "download")]
        given = self.__pydantic_extra__
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            known = [each.name for each in keys]
            for key in given:
                if key not in known:
                    allowed = ", ".join(["name", *known, *(name for name in type(self).model_fields if name != "name")])
                    yield f"{key}: unknown key; allowed in data: {allowed}{did_you_mean(key, known)}"
        for each in keys:
            if each.default is each.empty and each.name not in given:
                yield f"{each.name}: missing; {self.name} needs it"


def _spell_out_tfds(data: Any) -> Any:
    """Expand `"name": "tfds:NAME"` to `"name": "tfds", "dataset": "NAME"`."""
    name = data.get("name") if isinstance(data, dict) else None
    if isinstance(name, str) and name.startswith("tfds:") and "dataset" not in data:
        return {**data, "name": "tfds", "dataset": name.removeprefix("tfds:")}
    return data


def _section_of(data: Any) -> str | None:
    """Return the name of the class that describes the data, or the given name if there is none."""
    if not isinstance(data, dict):
        return getattr(data, "name", None) and type(data).__name__
    name = data.get("name")
    source = registry.sources.get(name) if isinstance(name, str) else None
    if source is None or source.only_unlabeled:
        return None if name is None else str(name)
    return source.section or OtherData.__name__


class _Kinds:
    """The part of the JSON Schema that maps names of data sets to the classes that describe them."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        union = schema["schema"]  # within the function that spells names out
        refs = {kind: handler(choice)["$ref"] for kind, choice in union["choices"].items()}
        mapping = {source.name: refs[source.section or OtherData.__name__] for source in _sources()}
        used = [{"$ref": ref} for ref in refs.values() if ref in mapping.values()]
        return {"oneOf": used, "discriminator": {"propertyName": "name", "mapping": mapping}}


_SECTIONS = (GlyphsData, FolderData, PublishedData, TfdsData, OtherData)
Data = Annotated[
    Annotated[
        Union[tuple(Annotated[section, Tag(section.__name__)] for section in _SECTIONS)],  # noqa: UP007
        Discriminator(_section_of),
    ],
    _Kinds(),
    BeforeValidator(_spell_out_tfds),
]
