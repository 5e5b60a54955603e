"""A search for images that teach a network little: unreadable, blank, tiny, blurred, dark, grey or huge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from stml_tf.data.bit_depth import bits_used
from stml_tf.data.catalog import Catalog
from stml_tf.data.image_files import HIDDEN, OWN_OUTPUT, SYSTEM_COPY, printable
from stml_tf.data.image_quality import DARK, HUGE_PIXELS, ImageQuality
from stml_tf.runs.findings import GALLERY, TEST, Finding, LookedAt, Place, Severity, by_share, counted

# A class of more than half of the images fills most batches, and most of what a query finds by chance is right.
LARGE_CLASS_SHARE = 0.5
# A view for which an image is enlarged to more than twice its size is mostly interpolation.
SMALLEST_SHARE_OF_VIEW = 0.5


def find_flaws(catalog: Catalog, looked: LookedAt, *, view_size: int | None) -> list[Finding]:
    """Find what is wrong with single images, and with how they are arranged.

    Args:
        catalog: The data.
        looked: What was seen of them.
        view_size: Side of the views that the network is to see; None where that is not known.
    """
    return [
        *_unreadable(catalog, looked),
        *_of_quality(looked, view_size),
        *_of_classes(looked),
        *_bit_depth(catalog),
        *_left_out(catalog),
    ]


def _unreadable(catalog: Catalog, looked: LookedAt) -> list[Finding]:
    found = []
    for name, seen in looked.seen.items():
        if not seen.unreadable:
            continue
        count, total = len(seen.unreadable), seen.num_examined
        refused = count > catalog.max_unreadable * total or count == total
        found.append(
            Finding(
                "unreadable",
                Severity.REFUSED if refused else Severity.ATTENTION,
                count,
                total,
                f"{count:,} of {counted(total, f'{name} image')} cannot be read"
                + (f"; at most {catalog.max_unreadable:.3g} of them may be left out" if refused else ""),
                "Repair or remove these files, or raise data.max_unreadable."
                if refused
                else "Training leaves them out; repair them if they matter.",
                tuple(f"{looked.describe(looked.sets[name], bad.index)}: {bad.reason}" for bad in seen.unreadable),
            )
        )
    return found


def _of_quality(looked: LookedAt, view_size: int | None) -> list[Finding]:
    measured = looked.qualities()
    total = len(measured)
    smallest = SMALLEST_SHARE_OF_VIEW * (view_size or 0)
    checks: tuple[tuple[str, Callable[[ImageQuality], bool], str, str], ...] = (
        ("blank", lambda image: image.is_blank, "show nothing: they are of one colour", "Remove them."),
        (
            "tiny",
            lambda image: image.shorter_side < smallest,
            f"are tiny: a shorter side below {smallest:.0f} pixels, half of the {view_size} that the network sees",
            "Find larger versions, or lower views.size.",
        ),
        (
            "blurred",
            lambda image: image.is_blurred,
            "are blurred, even at the size that a network sees",
            "Look at them: a network groups blurred images with blurred ones.",
        ),
        (
            "dark",
            lambda image: image.is_dark,
            f"are dark: 99 % of their pixels are below {DARK:.0f} of 255",
            "Look at them; 16-bit files may need data.bit_depth.",
        ),
        (
            "huge",
            lambda image: image.is_huge,
            f"are huge: more than {HUGE_PIXELS // 10**6} megapixels, slow to decode each time",
            'Shrink them once, or set training.cache to "disk".',
        ),
    )
    found = []
    for kind, is_so, told, advice in checks:
        places = [place for place, quality in measured if is_so(quality)]
        found += _about_images(looked, kind, places, total, told, advice)
    return [*found, *_mixed_colors(looked, measured)]


def _about_images(
    looked: LookedAt, kind: str, places: Sequence[Place], total: int, told: str, advice: str
) -> list[Finding]:
    if not places:
        return []
    count = len(places)
    told = f"{count:,} of {counted(total)} {told}"
    names = tuple(map(looked.name, places))
    return [Finding(kind, by_share(count, total), count, total, told, advice, names, tuple(places))]


def _mixed_colors(looked: LookedAt, measured: Sequence[tuple[Place, ImageQuality]]) -> list[Finding]:
    """Grey images among coloured ones, or the other way round. A set that is all grey is as it should be."""
    grey = [place for place, quality in measured if quality.is_grey]
    colored = [place for place, quality in measured if not quality.is_grey]
    few, told = (
        (grey, "grey, the others in colour") if len(grey) <= len(colored) else (colored, "in colour, the others grey")
    )
    advice = "A network tells them apart by that first: views.greyscale makes some views of all images grey."
    return _about_images(looked, "grey", few, len(measured), f"are {told}", advice)


def _of_classes(looked: LookedAt) -> list[Finding]:
    found = []
    for name, images in looked.sets.items():
        if images.labels is None or not len(images):
            continue
        classes, counts = np.unique(images.labels, return_counts=True)
        single = [images.class_names[label] for label in classes[counts == 1]]
        if single and name == TEST and GALLERY not in looked.sets:
            found.append(
                Finding(
                    "singletons",
                    by_share(len(single), len(images)),
                    len(single),
                    len(images),
                    f"{counted(len(single), 'test class', 'test classes')} of {len(classes):,} hold a single image, "
                    "for which there is nothing to find",
                    "Add images of these classes, or take them out; they are no queries.",
                    tuple(single),
                )
            )
        largest = int(counts.argmax())
        if len(classes) > 1 and counts[largest] > LARGE_CLASS_SHARE * len(images):
            found.append(
                Finding(
                    "large_class",
                    Severity.ATTENTION,
                    int(counts[largest]),
                    len(images),
                    f"The {name} class {images.class_names[classes[largest]]} holds {counts[largest]:,} of "
                    f"{counted(len(images))}, so that chance alone finds it most of the time",
                    "Compare MAP@R with the free baselines rather than with 0.",
                )
            )
    return found


def _bit_depth(catalog: Catalog) -> list[Finding]:
    bits, told = bits_used(catalog.train), catalog.train.decoding.bit_depth
    if bits is None or bits >= told:
        return []
    return [
        Finding(
            "bit_depth",
            Severity.ATTENTION,
            len(catalog.train),
            len(catalog.train),
            f"The 16-bit images looked at use {bits} bits, but are read as {told}, which makes them dark",
            f"Set data.bit_depth to {bits}.",
        )
    ]


def _left_out(catalog: Catalog) -> list[Finding]:
    """Report the files next to the images that are left out, by reason."""
    total = len(catalog.train) + len(catalog.test or ()) + len(catalog.left_out)
    found = []
    for reason, group in groupby(sorted(catalog.left_out, key=lambda each: each.reason), lambda each: each.reason):
        files = tuple(printable(each.path) for each in group)
        expected = reason in (HIDDEN, SYSTEM_COPY, OWN_OUTPUT)
        severity = Severity.NOTE if expected else by_share(len(files), total)
        told = f"{counted(len(files), 'file or folder', 'files or folders')} left out: {reason}"
        found.append(Finding("left_out", severity, len(files), total, told, "", files))
    return found
