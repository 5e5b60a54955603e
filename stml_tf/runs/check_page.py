"""The page of a check: what needs attention, with pictures, and what the network will see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stml_tf.data.decoding import UnreadableImageError
from stml_tf.data.loader import pixels_of
from stml_tf.pages.pictures import Picture, picture_of_pixels
from stml_tf.pages.template import render
from stml_tf.runs.check import Check, SetFacts
from stml_tf.runs.findings import TRAINING, Finding, Place, Severity, counted
from stml_tf.runs.shown_views import ShownViews

_SHOWN = 12
_NAMED = 50
_HEADINGS = {
    Severity.REFUSED: "Training would not begin",
    Severity.ATTENTION: "Needs attention",
    Severity.NOTE: "Good to know",
}


@dataclass(frozen=True)
class _Told:
    finding: Finding
    pictures: list[Picture]
    named: Sequence[str]
    more: int


def check_page(check: Check) -> str:
    """Lay out what looking over a run has shown; HTML, with every picture in it."""
    groups = [
        (heading, [_told(check, finding) for finding in check.findings if finding.severity is severity])
        for severity, heading in _HEADINGS.items()
    ]
    parts = ", ".join(counted(facts.num_images, f"{name} image") for name, facts in check.sets.items())
    verdict = "Training would not begin with these images as they are." if check.refused else "Training can begin."
    return render(
        "check.html",
        title=f"{check.name} before training",
        about=f"{parts}. {verdict}",
        groups=[(heading, told) for heading, told in groups if told],
        sets={name: _facts(facts) for name, facts in check.sets.items()},
        steps=[] if check.steps is None else list(check.steps.lines()),
        views=[_views(check, views) for views in check.views],
        num_views=check.recipe.views.num_views if check.recipe else 0,
    )


def _told(check: Check, finding: Finding) -> _Told:
    pictures = [_picture(check, place) for place in finding.places[:_SHOWN]]
    named = finding.files[:_NAMED]
    return _Told(finding, pictures, named, len(finding.files) - len(named))


def _picture(check: Check, place: Place) -> Picture:
    name = check.looked.name(place)
    try:
        pixels = pixels_of(check.looked.sets[place[0]], place[1])
    except (UnreadableImageError, OSError):
        return Picture(None, name, caption=name)
    return picture_of_pixels(pixels, alt=name, caption=name.rsplit("/", 1)[-1], title=name)


def _views(check: Check, views: ShownViews) -> tuple[Picture, list[Picture]]:
    path = check.looked.name((TRAINING, views.index))
    name = path.rsplit("/", 1)[-1]
    image = picture_of_pixels(views.image, alt=f"Image {name}", heading="Image", caption=name, title=path)
    return image, [
        picture_of_pixels(view, alt=f"View {number} of {name}") for number, view in enumerate(views.views, start=1)
    ]


def _facts(facts: SetFacts) -> dict[str, str]:
    told = {
        "Images": f"{facts.num_images:,}",
        "Looked at": f"{facts.num_examined:,}",
        "Formats": ", ".join(f"{count:,} {file_format}" for file_format, count in facts.formats.items()),
    }
    if facts.num_folders:
        told["Folders"] = f"{facts.num_folders:,}"
    if facts.sides:
        told["Shorter side"] = f"{facts.sides[0]:,} to {facts.sides[2]:,} px, half below {facts.sides[1]:,}"
    if facts.classes:
        ordered = list(facts.classes.items())
        told["Classes"] = f"{len(ordered):,}, {sum(count == 1 for _, count in ordered):,} with a single image"
        told["Largest"] = ", ".join(f"{name} ({count:,})" for name, count in ordered[:5])
        told["Smallest"] = ", ".join(f"{name} ({count:,})" for name, count in ordered[:-6:-1])
    return told
