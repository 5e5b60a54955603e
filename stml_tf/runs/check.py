"""Looks over a run before it begins: its images, what is wrong with them, and what training would take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.examination import MAX_EXAMINED, Examination, examine
from stml_tf.data.image_files import counted as counted_reasons
from stml_tf.data.image_files import find_images, printable
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.data.survey import survey_images
from stml_tf.dry_run import DryRunStopped, trial
from stml_tf.errors import UserError
from stml_tf.recipe.for_images import recipe_for_images
from stml_tf.recipe.load import load_recipe, missing_weights
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.find_copies import find_copies
from stml_tf.runs.find_flaws import find_flaws
from stml_tf.runs.findings import GALLERY, TEST, TRAINING, UNLABELED, Finding, LookedAt, Severity, by_severity, refusal
from stml_tf.runs.measure_steps import MeasuredSteps, measure_steps
from stml_tf.runs.shown_views import ShownViews, show_views
from stml_tf.runs.training_data import training_data

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None] | None]]


@dataclass(frozen=True)
class SetFacts:
    """Facts about a set of images.

    Attributes:
        num_images: How many there are.
        num_examined: How many of them were looked at.
        num_folders: In how many folders; 0 for images in memory.
        formats: How many of those looked at have each file format.
        sides: Shortest, median and longest of their shorter sides, in pixels; None where none can be read.
        classes: Where they are known: how many images each has, by name, the largest first.
    """

    num_images: int
    num_examined: int
    num_folders: int
    formats: dict[str, int]
    sides: tuple[int, int, int] | None
    classes: dict[str, int]


@dataclass(frozen=True, eq=False)
class Check:
    """The result of checking a run before it begins.

    Attributes:
        name: The recipe's or the folder's.
        recipe: What would be trained; None where no recipe can be chosen for the images.
        sets: Facts by set: training, unlabelled, test, gallery.
        left_out: How many files are no data, by reason.
        findings: The worst first.
        steps: What training steps take; None if none were taken.
        views: Some training images, and what the network is shown of them.
        looked: The images, for those who want to show some.
    """

    name: str
    recipe: Recipe | None
    sets: dict[str, SetFacts]
    left_out: str
    findings: list[Finding]
    steps: MeasuredSteps | None
    views: list[ShownViews]
    looked: LookedAt

    @property
    def refused(self) -> bool:
        """Whether training would refuse to begin."""
        return any(finding.severity is Severity.REFUSED for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return what a program may want to know."""

        def of(finding: Finding) -> dict[str, Any]:
            told = {name: getattr(finding, name) for name in ("kind", "count", "total", "told", "advice")}
            return {**told, "severity": finding.severity.name.lower(), "files": list(finding.files)}

        return {
            "name": self.name,
            "refused": self.refused,
            "findings": [of(finding) for finding in self.findings],
            "sets": {name: asdict(facts) for name, facts in self.sets.items()},
            "left_out": self.left_out,
            "steps": None if self.steps is None else asdict(self.steps),
            "recipe": None if self.recipe is None else self.recipe.model_dump(mode="json"),
        }


def check_folder(
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    steps: bool = True,
    progress: Progress = lambda _: nullcontext(),
) -> Check:
    """Look over a folder of images, as `train --images` would take it.

    Args:
        folder: The folder.
        overrides: Changes to the recipe that is chosen for it.
        steps: Whether to measure training steps.
        progress: From what is done to a context that gives what is called with how much is done, and of how much.

    Raises:
        UserError: If it holds no images, or none that can be opened.
    """
    survey = survey_images(folder)
    try:
        recipe = load_recipe(recipe_for_images(survey), overrides)
    except UserError as error:
        images, left_out = find_images(survey.folder)
        catalog = Catalog(survey.folder.name, ImageSet(images), None, left_out=tuple(left_out))
        return _look_over(catalog, None, root=survey.folder, refusals=[refusal(error)], progress=progress)
    return check_recipe(recipe, data_dir=survey.folder, steps=steps, progress=progress)


def check_recipe(
    recipe: Recipe, *, data_dir: Path | None = None, steps: bool = True, progress: Progress = lambda _: nullcontext()
) -> Check:
    """Look over what a recipe would train on, and take ten steps. Nothing is written.

    Args:
        recipe: The recipe; its weights may be missing.
        data_dir: Where its data paths start from.
        steps: Whether to measure training steps.
        progress: See `check_folder`.

    Raises:
        UserError: If the data cannot be had.
            Data that training would extract or download first cannot be had yet.
    """
    data = recipe.data.model_dump()
    if "allow_leaks" in data:
        data["allow_leaks"] = True  # They are found below, and told with everything else.
    try:
        with trial(True):
            catalog = open_catalog(data_dir=data_dir, **data)
    except DryRunStopped as stopped:
        raise UserError(
            f"The images of {recipe.name} are not there yet, and a check writes nothing: training would first "
            f"{stopped.what}. Do that yourself, or let training begin, and check again."
        ) from None
    refusals = []
    try:
        training_data(recipe, catalog)
    except UserError as error:
        refusals.append(refusal(error))
    if advice := missing_weights(recipe):
        refusals.append(refusal(UserError(f"{recipe.model.weights} does not exist: {advice}.")))
    check = _look_over(catalog, recipe, root=data_dir, refusals=refusals, progress=progress)
    if not steps or refusals or not recipe.trains:
        return check
    with progress("measuring training steps"):
        try:
            return replace(check, steps=measure_steps(recipe, _readable(catalog, check.looked)))
        except UserError as error:
            return replace(check, findings=by_severity([refusal(error), *check.findings]))


def _look_over(
    catalog: Catalog, recipe: Recipe | None, *, root: Path | None, refusals: list[Finding], progress: Progress
) -> Check:
    sets = {TRAINING: catalog.train, UNLABELED: catalog.unlabeled, TEST: catalog.test, GALLERY: catalog.gallery}
    sets = {name: images for name, images in sets.items() if images is not None}
    seen = {}
    for name, images in sets.items():
        with progress(f"looking at {name} images") as on_progress:
            seen[name] = examine(images, most=MAX_EXAMINED, on_progress=on_progress)
    looked = LookedAt(sets, seen, partial(_describe, root))
    with progress("comparing images"):
        copies = find_copies(looked, allow_leaks=bool(recipe and getattr(recipe.data, "allow_leaks", False)))
    flaws = find_flaws(catalog, looked, view_size=recipe and recipe.views.size)
    return Check(
        name=recipe.name if recipe else catalog.name,
        recipe=recipe,
        sets={name: _facts(images, seen[name]) for name, images in sets.items()},
        left_out=counted_reasons(catalog.left_out),
        findings=by_severity([*refusals, *copies, *flaws]),
        steps=None,
        views=show_views(recipe, catalog.train, among=list(seen[TRAINING].digests)) if recipe else [],
        looked=looked,
    )


def _facts(images: ImageSet, seen: Examination) -> SetFacts:
    sides = sorted(quality.shorter_side for quality in seen.qualities.values())
    files = [] if isinstance(images.images, np.ndarray) else [each for each in images.images if isinstance(each, Path)]
    classes = Counter() if images.labels is None else Counter(images.class_names[label] for label in images.labels)
    return SetFacts(
        num_images=len(images),
        num_examined=seen.num_examined,
        num_folders=len({file.parent for file in files}),
        formats=dict(seen.formats.most_common()),
        sides=(sides[0], sides[len(sides) // 2], sides[-1]) if sides else None,
        classes=dict(classes.most_common()),
    )


def _readable(catalog: Catalog, looked: LookedAt) -> Catalog:
    """Return the catalog without the images that cannot be decoded."""

    def of(name: str) -> ImageSet | None:
        if name not in looked.sets:
            return None
        bad = [each.index for each in looked.seen[name].unreadable]
        images = looked.sets[name]
        return images.take(np.delete(np.arange(len(images)), bad)) if bad else images

    return replace(catalog, train=of(TRAINING), unlabeled=of(UNLABELED), test=of(TEST), gallery=of(GALLERY))


def _describe(root: Path | None, images: ImageSet, index: int) -> str:
    """Name an image by its file, relative to the data folder."""
    image = images.images[index]
    if not isinstance(image, Path):
        return images.describe(index)
    inside = root is not None and image.is_relative_to(root)
    return printable(image.relative_to(root) if inside else image)
