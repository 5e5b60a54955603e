"""The images that a report shows, selected while the network is available, and kept in the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from stml_tf.pages.pictures import Picture


@dataclass(frozen=True)
class Found:
    """A query and its nearest neighbours, nearest first."""

    query: Picture
    matches: list[Picture]


@dataclass(frozen=True)
class ClassResult:
    """The retrieval results of a class.

    Attributes:
        name: Of the class.
        queries: How many of its images were looked for.
        recall_at_1: Share of them whose nearest neighbour is of the class.
        map_at_r: Their mean average precision.
        mistaken_for: The class that most of the wrong nearest neighbours are of; None where all are right.
        picture: One of its images.
    """

    name: str
    queries: int
    recall_at_1: float
    map_at_r: float
    mistaken_for: str | None
    picture: Picture | None = None


@dataclass(frozen=True)
class Map:
    """Embeddings in two dimensions.

    Attributes:
        method: What laid them out.
        points: `[images, 2]`.
        names: One an image.
        right: Whether the nearest neighbour is of the image's class; None without labels.
        sprite: `data:` address of all images in one, a square of squares.
        columns: How many lie side by side in it.
    """

    method: str
    points: list[tuple[float, float]]
    names: list[str]
    right: list[bool] | None
    sprite: str
    columns: int


@dataclass(frozen=True)
class Similarities:
    """Cosine similarities of training images.

    Attributes:
        edges: `[bins + 1]`, ascending.
        nearest: `[bins]`, how many images have their nearest neighbour there.
        random: `[bins]`, how many pairs drawn by chance lie there.
    """

    edges: list[float]
    nearest: list[int]
    random: list[int]


@dataclass(frozen=True)
class Pair:
    """Two images that are very much alike."""

    similarity: float
    first: Picture
    second: Picture


@dataclass(frozen=True)
class ViewsOfImage:
    """The views of an image that the network was shown."""

    original: Picture
    views: list[Picture]


@dataclass(frozen=True)
class Evidence:
    """All that a report shows of images.

    Attributes:
        looked_up: Where the queries come from: "test" or "training".
        worst: Queries that find least; empty without labels.
        random: Queries drawn by chance.
        classes: The worst classes, worst first; empty without labels.
        num_classes: How many there are.
        map: Of test images, of training images where there are none; None where there are too few.
        similarities: Of a sample of the training images.
        pairs: The pairs of that sample that are most alike.
        sampled: How many images the sample holds.
        training_images: How many there are.
        views: Some training images as the network was shown them.
    """

    looked_up: str
    worst: list[Found]
    random: list[Found]
    classes: list[ClassResult]
    num_classes: int
    map: Map | None
    similarities: Similarities | None
    pairs: list[Pair]
    sampled: int
    training_images: int
    views: list[ViewsOfImage]

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return TypeAdapter(Evidence).dump_python(self, mode="json")
