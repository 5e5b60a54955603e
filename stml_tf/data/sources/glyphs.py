"""A dataset that needs no download: characters, drawn from the fonts that matplotlib brings along.

A class is a character and its images are that character in different fonts, each turned, sheared, scaled and shifted a
little. Letters of several scripts, digits and symbols take part.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from stml_tf.data.catalog import Catalog, ImageSet, split_classes
from stml_tf.errors import UserError

# Letters with case or of one form, digits and numbers, mathematical, currency and other symbols. Modifier letters and
# free-standing accents are left out: many of them are the same few dots and dashes.
_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lo", "Nd", "Nl", "No", "Sm", "Sc", "So"})
_MIN_FONTS = 12

_COMPARED_SIZE = 16  # px of an em where drawings are compared; the frame is half as large again
_SAME_DRAWING = 0.02  # squared distance of two drawings, as a share of the fainter one's squared norm

_EM = 0.72  # of the image's side
_LARGEST_INK = 0.86  # of the image's side, before the jitter
_OVERSAMPLING = 2
_ROTATION = math.radians(10)
_SHEAR = 0.1
_SCALE = 0.1
_SHIFT = 0.05


def load_glyphs(
    *,
    num_classes: int = 1000,
    instances: int = 12,
    image_size: int = 32,
    seed: int = 0,
    train_classes: float | int = 0.5,
) -> Catalog:
    """Draw the glyphs, dark on white, and split them by class.

    The image of a class and instance depends on the seed and the image size alone, so a larger set holds a smaller
    one: its first classes are the smaller set's, and so are the first images of each.

    Args:
        num_classes: How many characters to draw, training and test together.
        instances: Images of each character. There are up to 16 fonts; from then on they come round again, with new
            jitter.
        image_size: Side of the square images in pixels, at least 8.
        seed: Chooses the characters, their order, their fonts' order and the jitter.
        train_classes: The share (float) or count (int) of the characters that train, see `split_classes`.

    Returns:
        A catalog whose images are uint8 `[num_images, image_size, image_size, 3]` in memory (the three channels are a
        view of one), ordered by class, with labels and Unicode names of the classes. No class trains and tests.

    Raises:
        UserError: If a number is too small, or there are fewer characters than `num_classes`.
    """
    for name, value, least in (
        ("num_classes", num_classes, 2),
        ("instances", instances, 1),
        ("image_size", image_size, 8),
        ("seed", seed, 0),
    ):
        if value < least:
            raise UserError(f"{name} is {value}, but the glyphs need at least {least}")
    characters = _distinct_characters()
    if num_classes > len(characters):
        raise UserError(
            f"num_classes is {num_classes}, but there are {len(characters)} characters that look different from each "
            f"other and exist in {_MIN_FONTS} or more fonts; ask for {len(characters)} at most, or for more instances"
        )
    order = np.random.default_rng(seed).permutation(len(characters))
    chosen = [characters[position] for position in order[:num_classes]]
    grey = np.concatenate([_draw_class(character, instances, image_size, seed) for character in chosen])
    glyphs = ImageSet(
        images=np.broadcast_to(grey[..., None], (*grey.shape, 3)),
        labels=np.repeat(np.arange(num_classes, dtype=np.int64), instances),
        class_names=tuple(unicodedata.name(character) for character in chosen),
    )
    train, test = split_classes(glyphs, train_classes)
    return Catalog(name="glyphs", train=train, test=test)


@functools.cache
def _font_coverage() -> dict[Path, frozenset[int]]:
    """Find the code points that each font draws. Fonts of single sizes and of private code points are left out."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = sorted({*folder.glob("DejaVu*.ttf"), *folder.glob("STIXGeneral*.ttf")} - {*folder.glob("*Display.ttf")})
    coverage = {}
    for file in files:
        with TTFont(file, lazy=True) as font:
            coverage[file] = frozenset(font.getBestCmap())
    return coverage


@functools.cache
def _distinct_characters() -> tuple[str, ...]:
    """List all characters to choose from, in code point order.

    Latin A, Greek Alpha and Cyrillic A are one drawing, thus one class. Of characters that coincide in most of the
    fonts that both exist in, the first one stays.
    """
    coverage = _font_coverage()
    candidates = [
        chr(point)
        for point in sorted(frozenset().union(*coverage.values()))
        if unicodedata.category(chr(point)) in _CATEGORIES
        and sum(point in points for points in coverage.values()) >= _MIN_FONTS
    ]
    exists = np.array([[ord(character) in points for character in candidates] for points in coverage.values()])
    shared = exists.T.astype(np.float32) @ exists.astype(np.float32)
    alike = np.zeros(shared.shape, np.int8)
    blank = np.zeros(len(candidates), bool)
    for file, here in zip(coverage, map(np.flatnonzero, exists), strict=True):
        drawings = np.stack([_compared_drawing(file, candidates[index]) for index in here]) / np.float32(255)
        norms = np.einsum("ij,ij->i", drawings, drawings)
        distances = norms[:, None] + norms - 2 * (drawings @ drawings.T)
        some, others = np.nonzero(distances <= _SAME_DRAWING * np.minimum(norms[:, None], norms))
        alike[here[some], here[others]] += 1  # few of the pairs
        blank[here] |= norms == 0
    coincide = 2 * alike > shared
    kept: list[int] = []
    for index in np.flatnonzero(~blank):
        if not coincide[index, kept].any():
            kept.append(index)
    return tuple(candidates[index] for index in kept)


def _compared_drawing(file: Path, character: str) -> np.ndarray:
    side = _COMPARED_SIZE * 3 // 2
    font = _font(file, _COMPARED_SIZE)
    left, top, right, bottom = font.getbbox(character)
    frame = Image.new("L", (side, side))
    ImageDraw.Draw(frame).text(((side - left - right) // 2, (side - top - bottom) // 2), character, fill=255, font=font)
    return np.frombuffer(frame.tobytes(), np.uint8)


@functools.lru_cache(maxsize=64)
def _font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    # One glyph at a time needs no shaping, and the basic layout is the same on every machine.
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def _draw_class(character: str, instances: int, image_size: int, seed: int) -> np.ndarray:
    """Draw a class, uint8 `[instances, image_size, image_size]`, dark on white."""
    rng = np.random.default_rng((seed, ord(character)))
    files = [file for file, points in _font_coverage().items() if ord(character) in points]
    drawn = rng.permutation(len(files))[:instances]
    drawings = [_large_drawing(files[index], character, image_size) for index in drawn]
    jitter = rng.uniform(-1, 1, size=(instances, 5))
    images = np.empty((instances, image_size, image_size), np.uint8)
    for instance in range(instances):
        images[instance] = _jittered(drawings[instance % len(drawings)], image_size, jitter[instance])
    return 255 - images


def _large_drawing(file: Path, character: str, image_size: int) -> Image.Image:
    """Draw the ink alone, white on black, `_OVERSAMPLING` times as large as it will be."""
    font = _font(file, max(1, round(_EM * image_size * _OVERSAMPLING)))
    left, top, right, bottom = font.getbbox(character)
    drawing = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(drawing).text((1 - left, 1 - top), character, fill=255, font=font)
    return drawing


def _jittered(drawing: Image.Image, image_size: int, jitter: np.ndarray) -> Image.Image:
    """Centre a drawing and turn, shear, scale and shift it; `jitter` [5] is uniform in [-1, 1]."""
    angle, shear, scale, shift_x, shift_y = jitter.tolist()
    angle *= _ROTATION
    shrink = min(1.0, _LARGEST_INK * image_size * _OVERSAMPLING / max(drawing.size))
    # From the image's pixels back to the drawing's: undo the shift, then rotation, shear and scale.
    step = _OVERSAMPLING / (shrink * (1 + _SCALE * scale))
    cos, sin = step * math.cos(angle), step * math.sin(angle)
    a, b, d, e = cos, sin + _SHEAR * shear * cos, -sin, cos - _SHEAR * shear * sin
    centre_x = image_size * (0.5 + _SHIFT * shift_x)
    centre_y = image_size * (0.5 + _SHIFT * shift_y)
    c = drawing.width / 2 - a * centre_x - b * centre_y
    f = drawing.height / 2 - d * centre_x - e * centre_y
    return drawing.transform(
        (image_size, image_size), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    )
