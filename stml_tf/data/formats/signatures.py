"""What an image file is, by its first bytes. Its name does not matter."""

from __future__ import annotations

import numpy as np

HEAD = 32  # Bytes at the beginning of a file that tell what it is.

# Each signature is a run of bytes and where it begins; all of a row's have to match.
_SIGNATURES: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    ("JPEG", ((0, b"\xff\xd8\xff"),)),
    ("PNG", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("GIF", ((0, b"GIF87a"),)),
    ("GIF", ((0, b"GIF89a"),)),
    ("WebP", ((0, b"RIFF"), (8, b"WEBP"))),
    ("BMP", ((0, b"BM"), (15, b"\0\0\0"))),  # The size of the header that follows is below 256.
    ("TIFF", ((0, b"II*\0"),)),
    ("TIFF", ((0, b"MM\0*"),)),
    ("TIFF", ((0, b"II+\0"),)),
    ("TIFF", ((0, b"MM\0+"),)),
    ("AVIF", ((4, b"ftypavif"),)),
    ("AVIF", ((4, b"ftypavis"),)),
    ("HEIC", ((4, b"ftypheic"),)),
    ("HEIC", ((4, b"ftypheix"),)),
    ("HEIC", ((4, b"ftypheim"),)),
    ("HEIC", ((4, b"ftypheis"),)),
    ("HEIC", ((4, b"ftyphevc"),)),
    ("HEIC", ((4, b"ftypmif1"),)),
    ("HEIC", ((4, b"ftypmsf1"),)),
    ("JPEG 2000", ((0, b"\0\0\0\x0cjP  \r\n\x87\n"),)),
    ("JPEG 2000", ((0, b"\xff\x4f\xff\x51"),)),
)

# What names promise; what the file holds is what counts.
FORMAT_OF_SUFFIX = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".png": "PNG",
    ".gif": "GIF",
    ".webp": "WebP",
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".avif": "AVIF",
    **dict.fromkeys((".heic", ".heif"), "HEIC"),
    **dict.fromkeys((".jp2", ".j2k", ".jpx"), "JPEG 2000"),
}

TENSORFLOW_FORMATS = ("JPEG", "PNG", "GIF", "WebP", "BMP")
PILLOW_FORMATS = ("TIFF", "AVIF", "HEIC", "JPEG 2000")
FORMATS = (*TENSORFLOW_FORMATS, *PILLOW_FORMATS)


def signature_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay all signatures out as arrays.

    Returns:
        Bytes to find, uint8 `[num_signatures, HEAD]`; which of them count, bool of the same shape; and the position in
        `FORMATS` of what they mean, int64 `[num_signatures]`.
    """
    expected = np.zeros((len(_SIGNATURES), HEAD), np.uint8)
    counts = np.zeros((len(_SIGNATURES), HEAD), bool)
    for row, (_, runs) in enumerate(_SIGNATURES):
        for start, run in runs:
            expected[row, start : start + len(run)] = np.frombuffer(run, np.uint8)
            counts[row, start : start + len(run)] = True
    return expected, counts, np.array([FORMATS.index(name) for name, _ in _SIGNATURES])


def format_of(head: bytes) -> str | None:
    """Tell the format of a file, one of `FORMATS`, by its first `HEAD` bytes; None if it is no image."""
    for name, runs in _SIGNATURES:
        if all(head[start : start + len(run)] == run for start, run in runs):
            return name
    return None
