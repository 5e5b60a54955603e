"""Embeds many images piece by piece, so that a run that was interrupted goes on where it was.

Each piece is a file in a folder of its own, named by what it was made from: the model, and the images' paths, sizes and
times of change. A piece that is there is right; one whose images have changed is not found, and made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stml_tf.data.inspection import Unreadable

if TYPE_CHECKING:
    from stml_tf.export.embedder import Embedder

PIECE_SIZE = 1024

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EmbeddedPieces:
    """The embeddings of many images, on disk. Iterating gives those of each piece, `[some, dim]` float32, in order.

    Attributes:
        files: Each piece's file.
        paths: Of the images that were embedded, in order.
        dim: Length of an embedding.
        unreadable: The images that were left out.
    """

    files: list[Path]
    paths: list[Path]
    dim: int
    unreadable: list[Unreadable]

    def __iter__(self) -> Iterator[np.ndarray]:
        for file in self.files:
            with np.load(file) as content:
                embeddings = content["embeddings"]
            if len(embeddings):
                yield embeddings


@contextmanager
def embedding_run(
    embedder: Embedder, images: Sequence[Path], folder: Path, *, least: int = 1, on_progress: Progress | None = None
) -> Iterator[EmbeddedPieces]:
    """Embed images, for as long as it takes to write the result elsewhere.

    Args:
        embedder: The network.
        images: Absolute paths.
        folder: Where the pieces are kept. Made if it is missing, and deleted at the end; after an error or an interrupt
            the finished pieces stay for the next run.
        least: How many of the images have to be readable.
        on_progress: Called with how many images are done and how many there are.

    Raises:
        ValueError: If fewer than `least` of the images can be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [images[start : start + PIECE_SIZE] for start in range(0, len(images), PIECE_SIZE)]
    names = (f"{number:06d}-{_identity(embedder.fingerprint, piece)}.npz" for number, piece in enumerate(pieces))
    files = [folder / name for name in names]
    _embed_missing(embedder, pieces, files, on_progress or (lambda done, total: None))
    result = _read_summary(pieces, files)
    if len(result.paths) < least:
        shutil.rmtree(folder)
        first = result.unreadable[0]
        raise ValueError(
            f"only {len(result.paths)} of the {len(images)} images can be read. "
            f"The first that cannot: {first.path}: {first.reason}"
        )
    yield result
    shutil.rmtree(folder)


def _embed_missing(
    embedder: Embedder, pieces: Sequence[Sequence[Path]], files: Sequence[Path], on_progress: Progress
) -> None:
    missing = [(piece, file) for piece, file in zip(pieces, files, strict=True) if not _is_whole(file)]
    total = sum(map(len, pieces))
    done = total - sum(len(piece) for piece, _ in missing)
    on_progress(done, total)
    for piece, file in missing:

        def report(here: int, already: int = done) -> None:
            on_progress(already + here, total)

        embedded = embedder.embed_images(piece, on_progress=report)
        done += len(piece)
        unreadable = json.dumps([[image.index, image.reason] for image in embedded.unreadable])
        partial = file.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(stream, embeddings=embedded.embeddings, indices=embedded.indices, unreadable=unreadable)
        partial.replace(file)


def _read_summary(pieces: Sequence[Sequence[Path]], files: list[Path]) -> EmbeddedPieces:
    paths, unreadable = [], []
    dim = first = 0
    for piece, file in zip(pieces, files, strict=True):
        with np.load(file) as content:
            paths += [piece[index] for index in content["indices"]]
            dim = dim or content["embeddings"].shape[1]
            reasons = json.loads(str(content["unreadable"]))
        unreadable += [Unreadable(first + index, piece[index], reason) for index, reason in reasons]
        first += len(piece)
    return EmbeddedPieces(files, paths, dim, unreadable)


def _identity(fingerprint: str, piece: Sequence[Path]) -> str:
    digest = hashlib.sha256(fingerprint.encode())
    for path in piece:
        try:
            stat = path.stat()
            seen = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            seen = "missing"
        digest.update(os.fsencode(path) + f"\0{seen}\0".encode())
    return digest.hexdigest()[:16]


def _is_whole(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
