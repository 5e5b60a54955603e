"""Pictures made of small pictures: queries with their neighbours, and matrices of similarities side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["matrix_sheet", "neighbor_sheet"]

_CELL, _GAP, _CAPTION = 96, 6, 18
_PANEL = 240  # least side of a matrix
_PAPER, _INK = (255, 255, 255), (31, 35, 40)
# Wrong neighbours have a thicker frame as well as another colour, as red and green look alike to many.
_FRAMES = {True: ((26, 127, 55), 3), False: ((207, 34, 46), 7), None: ((140, 149, 159), 2)}


def neighbor_sheet(rows: Sequence[tuple[np.ndarray, Sequence[tuple[np.ndarray, bool | None]]]]) -> np.ndarray:
    """Draw queries, each with its neighbours to its right.

    Args:
        rows: Each query, uint8 `[height, width, 3]`, and its neighbours in order, each with whether it is of the same
            class, if that is known.

    Returns:
        `[height, width, 3]` uint8.
    """
    columns = 1 + max(len(neighbors) for _, neighbors in rows)
    pitch = _CELL + _GAP
    sheet = Image.new("RGB", (columns * pitch + 2 * _GAP, len(rows) * pitch + _GAP), _PAPER)
    for row, (query, neighbors) in enumerate(rows):
        top = _GAP + row * pitch
        sheet.paste(_framed(query, None), (_GAP, top))
        for column, (pixels, correct) in enumerate(neighbors, start=1):
            sheet.paste(_framed(pixels, correct), (2 * _GAP + column * pitch, top))
    return np.asarray(sheet)


def matrix_sheet(matrices: dict[str, np.ndarray]) -> np.ndarray:
    """Draw square matrices of numbers in [0, 1] side by side, 1 white and 0 black, each below its name.

    Args:
        matrices: By name, `[rows, rows]` each.

    Returns:
        `[height, width, 3]` uint8.
    """
    rows = max(map(len, matrices.values()))
    scale = -(-_PANEL // rows)
    side = scale * rows
    sheet = Image.new("RGB", (len(matrices) * (side + _GAP) + _GAP, side + _CAPTION + 2 * _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (name, matrix) in enumerate(matrices.items()):
        left = _GAP + place * (side + _GAP)
        draw.text((left, _GAP // 2), name, fill=_INK)
        grey = np.kron(np.round(255 * np.clip(matrix, 0, 1)).astype(np.uint8), np.ones((scale, scale), np.uint8))
        sheet.paste(Image.fromarray(grey), (left, _CAPTION + _GAP))
    return np.asarray(sheet)


def _framed(pixels: np.ndarray, correct: bool | None) -> Image.Image:
    color, width = _FRAMES[correct]
    cell = Image.new("RGB", (_CELL, _CELL), color)
    inner = _CELL - 2 * width
    image = Image.fromarray(np.ascontiguousarray(pixels))
    shrink = max(image.width, image.height) / inner
    image = image.resize(
        (max(1, round(image.width / shrink)), max(1, round(image.height / shrink))), Image.Resampling.BILINEAR
    )
    inside = Image.new("RGB", (inner, inner), _PAPER)
    inside.paste(image, ((inner - image.width) // 2, (inner - image.height) // 2))
    cell.paste(inside, (width, width))
    return cell
