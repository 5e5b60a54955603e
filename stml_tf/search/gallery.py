"""A searchable collection of images: built with a network, kept in a folder, added to, removed from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stml_tf.data.inspection import Unreadable
from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.export.saved_model import fingerprint, require_saved_model
from stml_tf.search import gallery_files as files
from stml_tf.search.approximate import ApproximateIndex
from stml_tf.search.embedding_files import write_unreadable
from stml_tf.search.embedding_run import Progress, embedding_run
from stml_tf.search.gallery_files import Kind, Manifest, Model
from stml_tf.search.gallery_model import GalleryModel
from stml_tf.search.gallery_writer import BLOCK, IndexToExtend, blocks_of, check_kind, write_gallery
from stml_tf.search.image_list import absolute, list_images
from stml_tf.search.match import Match

if TYPE_CHECKING:
    from stml_tf.export.embedder import Embedder

Images = Path | str | Iterable[Path | str]


class Gallery:
    """A folder of embeddings to search. Open one with `load`, make one with `build` or `from_embeddings`.

    The embeddings stay on disk and are read as they are needed. Only `add`, and queries that are images, load the
    network.

    Attributes:
        folder: Where it is.
        manifest: What it is: count, dim, normalized, kind, model.
        paths: Absolute path of each image, text.
        embeddings: `[count, dim]` float32, in the order of `paths`.
        unreadable: Images that the last `build` or `add` left out; `unreadable.txt` in the folder lists them.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, model: Path | str | None = None) -> None:
        self.folder = folder
        self.unreadable: list[Unreadable] = []
        self._model = GalleryModel(folder, manifest.model, moved_to=model)
        self._take(manifest)

    @classmethod
    def build(
        cls,
        model: Path | str | Embedder,
        images: Images,
        folder: Path | str,
        *,
        kind: Kind = "exact",
        overwrite: bool = False,
        on_progress: Progress | None = None,
    ) -> Gallery:
        """Embed images and make them searchable. An interrupted build goes on where it was when it is started again.

        Args:
            model: A SavedModel's folder, or the folder of its versions.
            images: A folder, a file that lists paths, or any number of these and of image files, see `list_images`.
            folder: The gallery's folder.
            kind: `exact`; or `hnsw` (fast) or `ivfpq` (small), which may miss some neighbours:
                `manifest.approximation` says how many they find.
            overwrite: Replace the gallery that is there.
            on_progress: Called with how many images are done and how many there are.

        Returns:
            The gallery, as `load` opens it.

        Raises:
            ValueError: If the model, the images or the folder cannot be used.
        """
        from stml_tf.export.embedder import Embedder  # Loads TensorFlow.

        folder = Path(folder).resolve()
        check_kind(kind)
        files.refuse_existing(folder, overwrite=overwrite)
        listed = list_images(images)
        embedder = model if isinstance(model, Embedder) else Embedder(model)
        work = folder.with_name(f"{folder.name}.partial")
        made_by = Model(path=str(embedder.path), fingerprint=embedder.fingerprint)
        with embedding_run(embedder, listed, work, on_progress=on_progress) as pieces:
            paths = [str(path) for path in pieces.paths]
            with files.new_gallery(folder, overwrite=overwrite) as partial:
                write_gallery(partial, pieces, paths, dim=pieces.dim, model=made_by, kind=kind)
                write_unreadable(partial / "unreadable.txt", pieces.unreadable)
        gallery = cls.load(folder)
        gallery._model.embedder = embedder
        gallery.unreadable = pieces.unreadable
        return gallery

    @classmethod
    def from_embeddings(
        cls,
        embeddings: np.ndarray,
        paths: Sequence[Path | str],
        folder: Path | str,
        *,
        model: Path | str | None = None,
        kind: Kind = "exact",
        overwrite: bool = False,
    ) -> Gallery:
        """Make embeddings searchable that are there already.

        Args:
            embeddings: `[count, dim]`, finite numbers; may be a memory-mapped array larger than memory.
            paths: What they are of, each once.
            folder: The gallery's folder.
            model: The SavedModel that made them; without it, only embeddings can be queries.
            kind: See `build`.
            overwrite: Replace the gallery that is there.

        Returns:
            The gallery, as `load` opens it.

        Raises:
            ValueError: If embeddings and paths do not fit, the embeddings are not finite, or as `build` does.
        """
        check_kind(kind)
        if embeddings.ndim != 2 or not embeddings.size or len(embeddings) != len(paths):
            raise ValueError(
                f"embeddings have the shape {embeddings.shape} for {len(paths)} paths, "
                "but must be [count, dim] with one path a row, and at least one row"
            )
        names = [str(absolute(path)) for path in paths]
        if len(set(names)) < len(names):
            raise ValueError(
                f"{len(names) - len(set(names))} of the {len(names)} paths are there twice: give each once"
            )
        made_by = None
        if model is not None:
            saved_model = require_saved_model(Path(model)).absolute()
            made_by = Model(path=str(saved_model), fingerprint=fingerprint(saved_model))
        with files.new_gallery(Path(folder).resolve(), overwrite=overwrite) as partial:
            write_gallery(partial, blocks_of(embeddings), names, dim=embeddings.shape[1], model=made_by, kind=kind)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path | str, *, model: Path | str | None = None) -> Gallery:
        """Open a gallery.

        Args:
            folder: The gallery's folder.
            model: Where the model is that made it, if it is no longer where it was.

        Raises:
            ValueError: If there is no gallery, a file of it is damaged, or another model made it.
        """
        folder = Path(folder).resolve()
        gallery = cls(folder, files.read_manifest(folder), model=model)
        if model is not None:
            gallery._model.find()
        return gallery

    def __len__(self) -> int:
        return self.manifest.count

    def search(self, images: Sequence[Path | str | bytes], *, k: int = 10) -> list[list[Match]]:
        """Find the images of the gallery that look most like each query.

        Args:
            images: Files, or their content.
            k: How many to find, at most as many as the gallery holds.

        Returns:
            Per query its k matches, nearest first. An image that is in the gallery itself is found, too.

        Raises:
            ValueError: If a query is no image, `k` does not fit, or the model is gone or is not the one that made the
                gallery.
        """
        self._check_k(k)
        queries = [image if isinstance(image, bytes) else Path(image) for image in images]
        if not queries:
            raise ValueError("there is no query: give at least one image")
        embedded = self._model.load().embed_images(queries)
        if embedded.unreadable:
            bad = embedded.unreadable[0]
            name = f"number {bad.index + 1}" if isinstance(queries[bad.index], bytes) else bad.path
            raise ValueError(f"the query {name} cannot be read: {bad.reason}")
        distances, indices = self.search_embeddings(embedded.embeddings, k=k)
        return [[self._match(*pair) for pair in zip(*row, strict=True)] for row in zip(distances, indices, strict=True)]

    def search_embeddings(self, queries: np.ndarray, *, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest embeddings.

        Args:
            queries: `[num_queries, dim]`, embeddings by the model that made the gallery.
            k: How many to find, at most as many as the gallery holds.

        Returns:
            As `nearest_neighbors` does: distances and rows of the gallery, both `[num_queries, k]`.

        Raises:
            ValueError: If the queries are not finite or of another dimension, or `k` does not fit.
        """
        self._check_k(k)
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.manifest.dim or not np.isfinite(queries).all():
            raise ValueError(
                f"queries have the shape {queries.shape}, but must be finite numbers [num_queries, {self.manifest.dim}]"
            )
        if self.manifest.index is None:
            return nearest_neighbors(queries, self.embeddings, k=k)
        return self._index().search(queries, self.embeddings, k=k)

    def add(self, images: Images, *, on_progress: Progress | None = None) -> int:
        """Embed more images and make them searchable, too. Those that the gallery holds already are passed over.

        Args:
            images: See `build`.
            on_progress: Called with how many images are done and how many there are.

        Returns:
            How many images were added.

        Raises:
            ValueError: If there are no images, or as `search` does for the model.
        """
        known = set(self.paths)
        new = [path for path in list_images(images) if str(path) not in known]
        self.unreadable = []
        if not new:
            return 0
        work = self.folder.with_name(f"{self.folder.name}.partial")
        with embedding_run(self._model.load(), new, work, least=0, on_progress=on_progress) as pieces:
            if pieces.paths:
                paths = self.paths + [str(path) for path in pieces.paths]
                old = self.manifest
                extend = None if old.index is None else IndexToExtend(self.folder / old.index.name, old.count)
                self._replace(chain(blocks_of(self.embeddings), pieces), paths, extend=extend)
        self.unreadable = pieces.unreadable
        write_unreadable(self.folder / "unreadable.txt", pieces.unreadable)
        return len(pieces.paths)

    def remove(self, images: Path | str | Iterable[Path | str]) -> int:
        """Take images out of the gallery; their files are not touched, and need not exist any more.

        Args:
            images: Paths of images, or of folders, which stand for all images below them.

        Returns:
            How many images were taken out.

        Raises:
            ValueError: If the gallery holds nothing at one of the paths, or nothing would be left.
        """
        sources = [str(absolute(path)) for path in ([images] if isinstance(images, str | Path) else images)]
        positions = {path: row for row, path in enumerate(self.paths)}
        kept = np.ones(len(self), bool)
        for source in sources:
            below = source.rstrip(os.sep) + os.sep
            rows = [positions[source]] if source in positions else []
            rows = rows or [row for path, row in positions.items() if path.startswith(below)]
            if not rows:
                raise ValueError(f"the gallery {self.folder} holds no image {source}, and none below it")
            kept[rows] = False
        if not kept.any():
            raise ValueError(f"all {len(self)} images of {self.folder} would be removed: delete the folder instead")
        rows = np.flatnonzero(kept)
        blocks = (self.embeddings[rows[start : start + BLOCK]] for start in range(0, len(rows), BLOCK))
        self._replace(blocks, [self.paths[row] for row in rows])
        return int((~kept).sum())

    def _match(self, distance: np.floating, row: np.integer) -> Match:
        similarity = float(1 - distance**2 / 2) if self.manifest.normalized else None
        return Match(Path(self.paths[row]), float(distance), similarity)

    def _check_k(self, k: int) -> None:
        if not 1 <= k <= len(self):
            raise ValueError(f"k is {k}, but must be from 1 to {len(self)}, the number of images in {self.folder}")

    def _take(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.paths = files.read_paths(self.folder, manifest)
        self.embeddings = files.map_embeddings(self.folder, manifest)
        self._loaded_index: ApproximateIndex | None = None

    def _replace(self, blocks: Iterable[np.ndarray], paths: list[str], *, extend: IndexToExtend | None = None) -> None:
        old = self.manifest
        version = old.version + 1
        self._take(
            write_gallery(
                self.folder,
                blocks,
                paths,
                dim=old.dim,
                model=old.model,
                kind=old.kind,
                version=version,
                extend=extend,
            )
        )

    def _index(self) -> ApproximateIndex:
        if self._loaded_index is None:
            self._loaded_index = ApproximateIndex.load(
                self.folder / self.manifest.index.name, self.manifest.kind, effort=self.manifest.approximation.effort
            )
        return self._loaded_index
