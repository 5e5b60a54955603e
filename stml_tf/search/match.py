"""An answer of a gallery."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Match:
    """An image of the gallery that answers a query.

    Attributes:
        path: Its file.
        distance: Euclidean distance of the embeddings.
        similarity: Their cosine, where the embeddings are normalised; else None.
    """

    path: Path
    distance: float
    similarity: float | None
