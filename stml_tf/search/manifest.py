"""What `gallery.json` says: which generation of a gallery is in force, and what its files hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from stml_tf import files
from stml_tf.errors import UserError

FORMAT = 2
MANIFEST = "gallery.json"

# Of a generation's folder.
EMBEDDINGS = "embeddings.npy"
PATHS = "paths.json"
FACTS = "facts.npy"
EQUAL = "equal.npy"
INDEX = "index.faiss"
GENERATION_FILES = (EMBEDDINGS, PATHS, FACTS, EQUAL, INDEX)

# What is known of each image's file: its size in bytes, when it was changed in nanoseconds, and the SHA-256 of its
# content. A size of -1 says that nothing is.
FACTS_TYPE = np.dtype([("size", "<i8"), ("time", "<i8"), ("sha256", "u1", (32,))])

_FIRST_FORMAT = re.compile(r"embeddings-\d+\.npy|paths-\d+\.json|index-\d+\.faiss")

GENERATION = re.compile(r"generation-\d{6,}-[0-9a-f]{8}")

Kind = Literal["exact", "hnsw", "ivfpq"]
Checksum = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Part):
    """A file of the generation: bytes, and the SHA-256 of its content."""

    size: Annotated[int, Field(ge=0)]
    sha256: Checksum


class Model(_Part):
    """The network that made the embeddings: where it was then, and what tells it from any other."""

    path: str
    fingerprint: str


class Approximation(_Part):
    """How an approximate index searches: how hard, and the share of the true ten nearest distinct images it found."""

    effort: Count
    recall_at_10: float


class Manifest(_Part):
    """What a gallery is.

    Attributes:
        generation: The folder that holds the files.
        sources: Absolute paths of what was indexed or added: folders, lists and images.
        files: By name.
    """

    format: Literal[2]
    generation: Annotated[str, StringConstraints(pattern=rf"^{GENERATION.pattern}$")]
    count: Count
    dim: Count
    normalized: bool
    model: Model | None
    kind: Kind
    approximation: Approximation | None
    sources: list[str]
    files: dict[str, File]

    @model_validator(mode="after")
    def _has_the_files_of_its_kind(self) -> Manifest:
        approximate = self.kind != "exact"
        if self.files.keys() != {EMBEDDINGS, PATHS, FACTS, *((EQUAL, INDEX) if approximate else ())}:
            raise ValueError(f"its files are {', '.join(self.files)}")
        if (self.approximation is not None) != approximate:
            raise ValueError(f"its kind is {self.kind}, its approximation {self.approximation}")
        return self


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the gallery in a folder.

    Raises:
        DamagedError: If it is not what was written.
        UserError: If there is no gallery, or another version of this program wrote it.
    """
    file = folder / MANIFEST
    if not file.is_file():
        if holds_generations(folder):
            raise UserError(
                f"{folder} is no gallery yet, or no longer: it lacks {MANIFEST} beside its generations. Make it anew "
                "with `stml-tf index --overwrite`."
            )
        raise UserError(f"{folder} is no gallery: it lacks {MANIFEST}. Make one with `stml-tf index`.")
    try:
        content = files.read_json(file)
        if isinstance(content.get("format"), int) and content["format"] > FORMAT:
            raise UserError(
                f"{folder} is a gallery of format {content['format']}, and this version reads {FORMAT}: "
                "install a newer stml-tf"
            )
        return Manifest.model_validate(content)
    except (files.DamagedError, ValidationError) as error:
        if first_format_files(folder):
            raise UserError(
                f"{folder} is a gallery of format 1, which an earlier version wrote: make it anew with "
                "`stml-tf index --overwrite`"
            ) from None
        raise damaged(file) from error


def holds_generations(folder: Path) -> bool:
    """Return whether a folder holds generations of a gallery, with or without a manifest."""
    return folder.is_dir() and any(GENERATION.fullmatch(path.name) for path in folder.iterdir())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put a generation, whose files are there, in force."""
    files.write_json(folder / MANIFEST, manifest.model_dump())


def first_format_files(folder: Path) -> list[Path]:
    """List the files of a gallery of format 1, which had no checksum of its manifest; none for another folder."""
    try:
        content = files.read_any_json(folder / MANIFEST)
        if content["format"] != 1:
            return []
        names = [content[part]["name"] for part in ("embeddings", "paths", "index") if content[part] is not None]
    except (files.DamagedError, KeyError, TypeError):
        return []
    return [folder / name for name in names if isinstance(name, str) and _FIRST_FORMAT.fullmatch(name)]


def damaged(file: Path) -> files.DamagedError:
    """Return the error for a file of a gallery that is not what was written."""
    return files.DamagedError(
        f"the gallery is damaged: {file} is missing or not what was written. Make it anew with "
        "`stml-tf index --overwrite`."
    )
