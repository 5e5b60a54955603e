"""The network that made a gallery, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stml_tf.errors import UserError
from stml_tf.export.saved_model import find_saved_model, require_same_model
from stml_tf.search.manifest import Model

if TYPE_CHECKING:
    from stml_tf.export.embedder import Embedder


class GalleryModel:
    """Finds a gallery's network, and loads it once it is needed.

    Args:
        gallery: The gallery's folder, for messages.
        made_by: What the gallery says of its network; None if it was made from embeddings alone.
        moved_to: Where the network is, if it is no longer where it was.

    Attributes:
        embedder: The network; None until `load`.
    """

    def __init__(self, gallery: Path, made_by: Model | None, *, moved_to: Path | str | None = None) -> None:
        self._gallery = gallery
        self._made_by = made_by
        self._moved_to = moved_to
        self.embedder: Embedder | None = None

    def find(self) -> Path:
        """Return the folder of the network.

        Raises:
            UserError: If it is gone, or another network is in its place, or none made the gallery.
        """
        if self._made_by is None:
            raise UserError(f"{self._gallery} was made from embeddings, without a model: search it with embeddings")
        path = Path(self._moved_to or self._made_by.path)
        if self._moved_to is None and find_saved_model(path) is None:
            raise UserError(
                f"the model that made {self._gallery} is no longer in {path}: say where it is with --model "
                "(in Python, Gallery.load(..., model=...))"
            )
        return require_same_model(path, self._made_by.fingerprint, product=self._gallery)

    def load(self) -> Embedder:
        """Load the network.

        Raises:
            UserError: As `find` does, or if it is damaged.
        """
        if self.embedder is None:
            from stml_tf.export.embedder import Embedder  # Loads TensorFlow.

            self.embedder = Embedder(self.find())
        return self.embedder
