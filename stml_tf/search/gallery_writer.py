"""Writes the files of a gallery, its approximate index included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from stml_tf.search import gallery_files as files
from stml_tf.search.approximate import ApproximateIndex
from stml_tf.search.gallery_files import Approximation, Kind, Manifest, Model

BLOCK = 65_536


@dataclass(frozen=True)
class IndexToExtend:
    """An approximate index of the first `count` embeddings."""

    file: Path
    count: int


def check_kind(kind: str) -> None:
    """Refuse a kind of search that is none.

    Raises:
        ValueError: If it is so.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind is {kind!r}, but must be one of {', '.join(get_args(Kind))}")


def blocks_of(embeddings: np.ndarray) -> Iterator[np.ndarray]:
    """Embeddings `[count, dim]`, some rows at a time."""
    for start in range(0, len(embeddings), BLOCK):
        yield embeddings[start : start + BLOCK]


def write_gallery(
    folder: Path,
    blocks: Iterable[np.ndarray],
    paths: list[str],
    *,
    dim: int,
    model: Model | None,
    kind: Kind,
    version: int = 1,
    extend: IndexToExtend | None = None,
) -> Manifest:
    """Write a version of a gallery and put it in force; the files of the one before are deleted.

    Args:
        folder: The gallery's folder.
        blocks: The embeddings, `[some, dim]` each.
        paths: What they are of.
        dim: Length of an embedding.
        model: What made them.
        kind: How they are searched.
        version: Counts the changes of a gallery.
        extend: The approximate index of the version before, to add to; None builds one anew.

    Returns:
        The new manifest.

    Raises:
        ValueError: If an embedding is not finite. Then the version before stays in force, as after any error.
    """
    embeddings_file = folder / f"embeddings-{version}.npy"
    paths_file = folder / f"paths-{version}.json"
    index_file = folder / f"index-{version}.faiss"
    try:
        normalized = files.write_embeddings(embeddings_file, blocks, count=len(paths), dim=dim)
        files.write_paths(paths_file, paths)
        approximation = None
        if kind != "exact":
            index = _index(kind, np.load(embeddings_file, mmap_mode="r"), extend)
            index.save(index_file)
            approximation = Approximation(effort=index.effort, recall_at_10=index.recall)
        manifest = Manifest(
            format=files.FORMAT,
            version=version,
            count=len(paths),
            dim=dim,
            normalized=normalized,
            model=model,
            kind=kind,
            approximation=approximation,
            embeddings=files.described(embeddings_file),
            paths=files.described(paths_file),
            index=None if kind == "exact" else files.described(index_file),
        )
        files.write_manifest(folder, manifest)
    finally:
        files.delete_unused(folder)
    return manifest


def _index(kind: Kind, embeddings: np.ndarray, extend: IndexToExtend | None) -> ApproximateIndex:
    if extend is None:
        return ApproximateIndex.build(kind, embeddings)
    index = ApproximateIndex.load(extend.file, kind)
    index.add(embeddings[extend.count :])
    index.tune(embeddings)
    return index
