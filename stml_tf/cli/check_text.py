"""The output of `check`: what needs attention first, then what there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stml_tf.cli.terminal import number, visible

if TYPE_CHECKING:
    from stml_tf.runs.check import Check, SetFacts
    from stml_tf.runs.findings import Finding

_NAMED = 5
_LOOKED_FOR = {
    "unreadable": "unreadable",
    "leaks": "in training and test",
    "identical": "identical",
    "near_identical": "near-identical",
    "blank": "blank",
    "tiny": "tiny",
    "huge": "huge",
    "grey": "grey among coloured",
    "dark": "dark",
    "blurred": "blurred",
}


def check_lines(check: Check) -> Iterator[str]:
    """Say in lines what looking over a run has shown."""
    from stml_tf.runs.findings import Severity

    total = sum(facts.num_images for facts in check.sets.values())
    parts = ", ".join(number(facts.num_images, f"{name} image") for name, facts in check.sets.items())
    yield f"{visible(check.name)}: {parts}"
    if check.looked.num_examined < total:
        yield f"Looked at {check.looked.num_examined:,} of them, from the first to the last."
    headings = {
        Severity.REFUSED: "Training would not begin",
        Severity.ATTENTION: "Needs attention",
        Severity.NOTE: "Good to know",
    }
    for severity, heading in headings.items():
        findings = [finding for finding in check.findings if finding.severity is severity]
        if findings:
            yield ""
            yield heading
            for finding in findings:
                yield from _finding_lines(finding)
    found = {finding.kind for finding in check.findings}
    yield ""
    if absent := [noun for kind, noun in _LOOKED_FOR.items() if kind not in found]:
        yield f"{'None' if len(absent) == len(_LOOKED_FOR) else 'No images'} found that are {_listed(absent)}."
    for name, facts in check.sets.items():
        yield from _set_lines(name, facts)
    if check.recipe is not None:
        recipe = check.recipe
        yield (
            f"{'Views':<12}{recipe.views.num_views} of {recipe.views.size} px; "
            f"batches of {number(recipe.batch.size)}, {recipe.model.backbone}"
        )
    if check.steps is not None:
        yield from (f"{what:<12}{line}" for what, line in check.steps.lines())


def _finding_lines(finding: Finding) -> Iterator[str]:
    yield f"  {_visible_lines(finding.told)}{'' if finding.told.endswith('.') else '.'} {finding.advice}".rstrip()
    yield from (f"      {visible(file)}" for file in finding.files[:_NAMED])
    if len(finding.files) > _NAMED:
        yield f"      and {len(finding.files) - _NAMED:,} more"


def _set_lines(name: str, facts: SetFacts) -> Iterator[str]:
    formats = ", ".join(f"{count:,} {file_format}" for file_format, count in facts.formats.items()) or "none readable"
    folders = f" in {number(facts.num_folders, 'folder')}" if facts.num_folders else ""
    sides = ""
    if facts.sides:
        least, middle, most = facts.sides
        sides = f"; shorter side {middle:,} px" if least == most else f"; shorter side {least:,} to {most:,} px"
        sides += "" if least == most else f", half below {middle:,}"
    yield f"{name.capitalize():<12}{formats}{folders}{sides}"
    if facts.classes:
        ordered = list(facts.classes.items())
        (largest, most), (smallest, least) = ordered[0], ordered[-1]
        single = sum(count == 1 for _, count in ordered)
        yield (
            f"{'':<12}{len(ordered):,} classes: largest {visible(largest)} ({most:,}), smallest {visible(smallest)} "
            f"({least:,}), {single or 'none'} with a single image"
        )


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _visible_lines(text: str) -> str:
    return "\n    ".join(map(visible, text.splitlines()))
