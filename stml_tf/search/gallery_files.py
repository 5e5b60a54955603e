"""A gallery on disk: one folder that is always whole.

`gallery.json` says what the gallery is and names the files that hold it, each with its checksum. A change writes new
files beside the old ones, and takes effect when a new `gallery.json` is renamed into place. A new gallery is written
under a temporary name, and the folder is renamed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from stml_tf.files import whole_file

FORMAT = 1
MANIFEST = "gallery.json"
_BLOCK = 1 << 20

Kind = Literal["exact", "hnsw", "ivfpq"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Part):
    """A file of the gallery: its name, and the SHA-256 of its content."""

    name: str
    sha256: str


class Model(_Part):
    """The network that made the embeddings: where it was then, and what tells it from any other."""

    path: str
    fingerprint: str


class Approximation(_Part):
    """How an approximate index searches: how hard, and the share of the true 10 nearest that it found so."""

    effort: int
    recall_at_10: float


class Manifest(_Part):
    """What `gallery.json` says."""

    format: int
    version: int
    count: int
    dim: int
    normalized: bool
    model: Model | None
    kind: Kind
    approximation: Approximation | None
    embeddings: File
    paths: File
    index: File | None


def read_manifest(folder: Path) -> Manifest:
    """What the gallery in a folder is, once its files have proved to be whole.

    Raises:
        ValueError: If there is no gallery, it is damaged, or a later version of this program wrote it.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise ValueError(f"{folder} is no gallery: it lacks {MANIFEST}. Make one with `stml-tf index`.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
            raise ValueError(
                f"{folder} is a gallery of format {content['format']}, and this version reads {FORMAT}: "
                "install a newer stml-tf"
            )
        manifest = Manifest.model_validate(content)
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise _damaged(file) from error
    for part in _parts(manifest):
        path = folder / part.name
        if not path.is_file() or checksum(path) != part.sha256:
            raise _damaged(path)
    return manifest


def read_paths(folder: Path, manifest: Manifest) -> list[str]:
    return json.loads((folder / manifest.paths.name).read_text(encoding="utf-8"))


def map_embeddings(folder: Path, manifest: Manifest) -> np.ndarray:
    """`[count, dim]` float32, read from the disk as it is needed."""
    return np.load(folder / manifest.embeddings.name, mmap_mode="r")


def write_embeddings(file: Path, blocks: Iterable[np.ndarray], *, count: int, dim: int) -> bool:
    """Write rows block by block.

    Args:
        file: An .npy file.
        blocks: `[some, dim]` each, any floats; `count` rows in all.
        count: Rows.
        dim: Columns.

    Returns:
        Whether all rows are of length one.

    Raises:
        ValueError: If a row holds NaN or infinity.
    """
    embeddings = np.lib.format.open_memmap(file, "w+", np.float32, (count, dim))
    done = 0
    normalized = True
    for block in blocks:
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(bad):
            raise ValueError(f"embeddings hold NaN or infinity, the first in row {done + bad[0]}")
        embeddings[done : done + len(block)] = block
        normalized = normalized and bool(np.allclose(np.linalg.norm(block, axis=1), 1, rtol=0, atol=1e-3))
        done += len(block)
    embeddings.flush()
    return normalized


def write_paths(file: Path, paths: list[str]) -> None:
    # ASCII, so that names that are not Unicode come back as they were.
    file.write_text(json.dumps(paths, indent=0), encoding="ascii")


@contextmanager
def new_gallery(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to write a gallery to, which takes the name of `folder` at the end, or goes away after an error."""
    refuse_existing(folder, overwrite=overwrite)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Refuse to write a gallery over something else.

    Raises:
        ValueError: If `folder` is a file, holds files that are no gallery, or a gallery that is not to be overwritten.
    """
    if folder.is_file():
        raise ValueError(f"{folder} is a file: give the gallery another folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} holds files that are no gallery: give the gallery another folder")
    if not overwrite:
        raise ValueError(
            f"{folder} holds a gallery already: add to it with `stml-tf add`, give another folder, "
            "or replace it with --overwrite"
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put a manifest, whose files are there, in force."""
    with whole_file(folder / MANIFEST) as partial:
        partial.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def delete_unused(folder: Path) -> None:
    """Delete what the manifest in force does not name: the version before, or one that was not finished."""
    file = folder / MANIFEST
    parts = _parts(Manifest.model_validate_json(file.read_bytes())) if file.exists() else []
    kept = {part.name for part in parts}
    for pattern in ("embeddings-*.npy", "paths-*.json", "index-*.faiss"):
        for path in folder.glob(pattern):
            if path.name not in kept:
                path.unlink()


def checksum(file: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def described(file: Path) -> File:
    """A file of the gallery as the manifest names it."""
    return File(name=file.name, sha256=checksum(file))


def _parts(manifest: Manifest) -> list[File]:
    return [part for part in (manifest.embeddings, manifest.paths, manifest.index) if part is not None]


def _damaged(file: Path) -> ValueError:
    return ValueError(f"the gallery is damaged: {file} is missing or not what was written. Build it anew.")
