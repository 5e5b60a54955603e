"""Findings about the images of a run, and the images that are searched for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from stml_tf.data.catalog import ImageSet
from stml_tf.data.examination import Examination
from stml_tf.data.image_quality import ImageQuality
from stml_tf.errors import UserError

# The share of a set that training leaves out without a word where it cannot be read: so few images change nothing.
NOTABLE_SHARE = 0.01

TRAINING, UNLABELED, TEST, GALLERY = "training", "unlabelled", "test", "gallery"

# An image, as its set's name and its position there.
Place = tuple[str, int]


class Severity(IntEnum):
    """The severity of a finding, the worst first."""

    REFUSED = 0  # training would refuse the data
    ATTENTION = 1  # results would suffer or mislead
    NOTE = 2  # good to know


@dataclass(frozen=True)
class Finding:
    """Something about the data.

    Attributes:
        kind: A word for programs, such as "blurred".
        severity: How much it matters.
        count: How many images it is about.
        total: Of how many.
        told: What it is, with its numbers.
        advice: What to do about it.
        files: What it is about, in words: images, or pairs of them; all of them.
        places: The images, where they can be shown.
    """

    kind: str
    severity: Severity
    count: int
    total: int
    told: str
    advice: str = ""
    files: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, eq=False)
class LookedAt:
    """The sets of a catalog, and what was seen of their images, by the set's name."""

    sets: dict[str, ImageSet]
    seen: dict[str, Examination]
    describe: Callable[[ImageSet, int], str]

    @property
    def num_examined(self) -> int:
        return sum(each.num_examined for each in self.seen.values())

    def side(self, names: Sequence[str]) -> list[Place]:
        """Return all readable images of some sets."""
        return [(name, index) for name in names if name in self.seen for index in self.seen[name].digests]

    def name(self, place: Place) -> str:
        return self.describe(self.sets[place[0]], place[1])

    def qualities(self) -> list[tuple[Place, ImageQuality]]:
        return [
            ((name, index), quality) for name, seen in self.seen.items() for index, quality in seen.qualities.items()
        ]


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings, the worst first; of one severity, what is about the largest share of the images."""
    return sorted(findings, key=lambda finding: (finding.severity, -finding.count / max(finding.total, 1)))


def refusal(error: UserError) -> Finding:
    """Return the finding that training would refuse the data, with its own message."""
    return Finding("refused", Severity.REFUSED, 0, 0, f"Training would refuse this: {error}")


def counted(count: int, noun: str = "image", plural: str = "") -> str:
    """Return a count with its noun, such as `1,234 images`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def by_share(count: int, total: int) -> Severity:
    """Note what is about a few images of many."""
    return Severity.ATTENTION if count > NOTABLE_SHARE * total else Severity.NOTE
