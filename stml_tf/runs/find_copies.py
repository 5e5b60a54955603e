"""A search for images that occur twice: in training and test, which makes results meaningless, or within one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stml_tf.data.leaks import identical_pairs
from stml_tf.data.near_identical import look_the_same, nearest_alike, nearest_alike_within
from stml_tf.runs.findings import (
    GALLERY,
    TEST,
    TRAINING,
    UNLABELED,
    Finding,
    LookedAt,
    Place,
    Severity,
    by_share,
    counted,
)


def find_copies(looked: LookedAt, *, allow_leaks: bool) -> list[Finding]:
    """Find images that are there twice.

    Args:
        looked: What was seen of the images.
        allow_leaks: Whether test images may be training images.
    """
    leaks, leaked = _leaks(looked, allow_leaks=allow_leaks)
    return [*leaks, *_near_identical_to_training(looked, leaked), *_identical(looked), *_near_identical(looked)]


def _leaks(looked: LookedAt, *, allow_leaks: bool) -> tuple[list[Finding], set[Place]]:
    """Return the finding, and the test images that it concerns."""
    trained, tested = (
        [(name, index) for name in names if name in looked.sets for index in range(len(looked.sets[name]))]
        for names in ((TRAINING, UNLABELED), (TEST, GALLERY))
    )
    leaks = identical_pairs(*([looked.sets[name].images[index] for name, index in side] for side in (trained, tested)))
    if not leaks:
        return [], set()
    pairs = [(tested[copy], trained[original]) for original, copy in leaks]
    finding = Finding(
        "leaks",
        Severity.ATTENTION if allow_leaks else Severity.REFUSED,
        len(leaks),
        len(tested),
        f"{len(leaks):,} of {counted(len(tested), 'test image')} are training images too, byte for byte, so that what "
        "is measured would say nothing of new images",
        "They stay, as data.allow_leaks says so."
        if allow_leaks
        else "Take them out of one of the two, or set data.allow_leaks to true.",
        **_in_pairs(looked, pairs, "is"),
    )
    return [finding], {copy for copy, _ in pairs}


def _near_identical_to_training(looked: LookedAt, leaked: set[Place]) -> list[Finding]:
    train, test = looked.side((TRAINING, UNLABELED)), looked.side((TEST,))
    pairs = [
        (test[copy], train[original])
        for copy, original in nearest_alike(_pictures(looked, train), _pictures(looked, test))
        if test[copy] not in leaked and _same_in_detail(looked, train[original], test[copy])
    ]
    if not pairs:
        return []
    return [
        Finding(
            "near_identical_test",
            Severity.ATTENTION,
            len(pairs),
            len(test),
            f"{len(pairs):,} of {counted(len(test), 'test image')} look like a training image: saved again, resized, a "
            "little brighter, or the next picture of a series",
            "Results would be better than on new images: keep such pictures on one side.",
            **_in_pairs(looked, pairs, "looks like"),
        )
    ]


def _identical(looked: LookedAt) -> list[Finding]:
    """Images of the same bytes on one side, training or test."""
    groups: list[list[Place]] = []
    total = 0
    for side in _sides(looked):
        by_digest: dict[bytes, list[Place]] = {}
        for name, index in side:
            by_digest.setdefault(looked.seen[name].digests[index], []).append((name, index))
        groups += [group for group in by_digest.values() if len(group) > 1]
        total += len(side)
    copies = sum(len(group) - 1 for group in groups)
    if not copies:
        return []
    return [
        Finding(
            "identical",
            Severity.ATTENTION,
            copies,
            total,
            f"{counted(copies)} {'is' if copies == 1 else 'are'} byte for byte another one of the same set "
            f"({counted(len(groups), 'group')})",
            "A copy is taken for another image of another kind, and in a test set it is found for free: keep one.",
            **_in_pairs(looked, [(other, group[0]) for group in groups for other in group[1:]], "is"),
        )
    ]


def _near_identical(looked: LookedAt) -> list[Finding]:
    """Images of one side, training or test, that look the same and have other bytes."""
    pairs: list[tuple[Place, Place]] = []
    total = 0
    for side in _sides(looked):
        first = {looked.seen[name].digests[index]: (name, index) for name, index in reversed(side)}
        different = list(reversed(first.values()))
        total += len(side)
        for one, other in nearest_alike_within(_pictures(looked, different)):
            if _same_in_detail(looked, different[one], different[other]):
                pairs.append((different[other], different[one]))
    if not pairs:
        return []
    count = len({place for pair in pairs for place in pair})
    return [
        Finding(
            "near_identical",
            by_share(count, total),
            count,
            total,
            f"{count:,} of {counted(total)} look like another one of the same set",
            "Pictures of a series teach little beyond one of them: `stml-tf duplicates` groups them once there is a "
            "gallery.",
            **_in_pairs(looked, pairs, "looks like"),
        )
    ]


def _in_pairs(looked: LookedAt, pairs: Sequence[tuple[Place, Place]], relation: str) -> dict[str, Any]:
    """Return what a finding names and shows of pairs of a copy and its original."""
    return {
        "files": tuple(f"{looked.name(copy)} {relation} {looked.name(original)}" for copy, original in pairs),
        "places": tuple(place for pair in pairs for place in pair),
    }


def _sides(looked: LookedAt) -> tuple[list[Place], list[Place]]:
    return looked.side((TRAINING, UNLABELED)), looked.side((TEST, GALLERY))


def _pictures(looked: LookedAt, side: Sequence[Place]) -> dict[int, np.ndarray]:
    return {place: looked.seen[name].small[index] for place, (name, index) in enumerate(side)}


def _same_in_detail(looked: LookedAt, one: Place, other: Place) -> bool:
    return look_the_same(*(looked.seen[name].larger[index] for name, index in (one, other)))
