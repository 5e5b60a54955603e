"""Embeds many images piece by piece, so that a run that was interrupted goes on where it was.

Each piece is a file in a folder of its own, named by what it was made from: the model, and the images' paths, sizes and
times of change. A piece that is there and has its checksum is right; one whose images have changed is not found, and
made anew. A full disk ends the run for good: then the pieces go, as they would keep it full.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.search.image_facts import file_facts, file_stats

if TYPE_CHECKING:
    from stml_tf.data.inspection import Unreadable
    from stml_tf.export.embedder import Embedder

PIECE_SIZE = 1024

LOCK = "pieces.lock"

_PIECES = ("[0-9][0-9][0-9][0-9][0-9][0-9]-*.npz", LOCK)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EmbeddedPieces:
    """The embeddings of many images, on disk. Iterating gives those of each piece, `[some, dim]` float32, in order.

    Attributes:
        files: Each piece's file.
        paths: Of the images that were embedded, in order.
        facts: Of their files, see `stml_tf.search.manifest.FACTS_TYPE`.
        dim: Length of an embedding.
        unreadable: The images that were left out.
    """

    files: list[Path]
    paths: list[Path]
    facts: np.ndarray
    dim: int
    unreadable: list[Unreadable]

    def __iter__(self) -> Iterator[np.ndarray]:
        for file in self.files:
            with np.load(files.require_seal(file)) as content:
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

    Yields:
        What was embedded.

    Raises:
        UserError: If fewer than `least` of the images can be read, or the folder is a link.
        OSError: If the disk is full, or will be.
    """
    if folder.is_symlink():
        raise UserError(f"{folder} is a link, and nothing is written to where it leads: delete the link")
    pieces = [images[start : start + PIECE_SIZE] for start in range(0, len(images), PIECE_SIZE)]
    names = (f"{number:06d}-{_identity(embedder.fingerprint, piece)}.npz" for number, piece in enumerate(pieces))
    piece_files = [folder / name for name in names]
    try:
        _embed_missing(embedder, pieces, piece_files, on_progress or (lambda done, total: None))
        result = _read_summary(pieces, piece_files)
        if len(result.paths) < least:
            files.delete_known(folder, _PIECES)
            first = result.unreadable[0]
            raise UserError(
                f"only {len(result.paths)} of the {len(images)} images can be read. "
                f"The first that cannot: {first.path}: {first.reason}"
            )
        yield result
    except OSError as error:
        if error.errno in _FULL:
            files.delete_known(folder, _PIECES)
        raise
    files.delete_known(folder, _PIECES)


def _embed_missing(
    embedder: Embedder, pieces: Sequence[Sequence[Path]], piece_files: Sequence[Path], on_progress: Progress
) -> None:
    missing = [(piece, file) for piece, file in zip(pieces, piece_files, strict=True) if not _is_whole(file)]
    total = sum(map(len, pieces))
    done = total - sum(len(piece) for piece, _ in missing)
    on_progress(done, total)
    for piece, file in missing:

        def report(here: int, already: int = done) -> None:
            on_progress(already + here, total)

        before = file_stats(piece)
        embedded = embedder.embed_images(piece, on_progress=report)
        facts = file_facts(piece)
        # A file that was changed meanwhile keeps its earlier facts, so that it is known to be another by now.
        touched = (facts["size"] != before["size"]) | (facts["time"] != before["time"])
        facts[touched] = before[touched]
        if file is piece_files[0]:
            # Once for the pieces and once for what is made of them; known before hours have gone into it.
            files.require_room(file.parent, 2 * total * 4 * embedded.embeddings.shape[1])
        done += len(piece)
        unreadable = json.dumps([[image.index, image.reason] for image in embedded.unreadable])
        with files.write_file(file, sealed=True) as stream:
            np.savez(
                stream,
                embeddings=embedded.embeddings,
                indices=embedded.indices,
                facts=facts[embedded.indices],
                unreadable=unreadable,
            )


def _read_summary(pieces: Sequence[Sequence[Path]], piece_files: list[Path]) -> EmbeddedPieces:
    from stml_tf.data.inspection import Unreadable  # Loads TensorFlow, which has embedded by now.

    paths, facts, unreadable = [], [], []
    dim = first = 0
    for piece, file in zip(pieces, piece_files, strict=True):
        with np.load(file) as content:
            paths += [piece[index] for index in content["indices"]]
            facts.append(content["facts"])
            dim = dim or content["embeddings"].shape[1]
            reasons = json.loads(str(content["unreadable"]))
        unreadable += [Unreadable(first + index, piece[index], reason) for index, reason in reasons]
        first += len(piece)
    return EmbeddedPieces(piece_files, paths, np.concatenate(facts), dim, unreadable)


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
        with files.unreadable_is_damage(file), np.load(files.require_seal(file)) as content:
            return dict(content).keys() == {"embeddings", "indices", "facts", "unreadable"}
    except files.DamagedError:
        return False
