"""MeanShift: the student predicts the teacher's embeddings of the other view's nearest neighbours.

Koohpayegani, Tejankar, Pirsiavash: Mean Shift for Self-Supervised Learning, ICCV 2021, arXiv 2105.07269.
"""

from typing import Any

import keras

from stml_tf.errors import UserError
from stml_tf.losses import mean_shift_loss
from stml_tf.methods.embedding_memory import EmbeddingMemory
from stml_tf.methods.two_views import TwoViewModel
from stml_tf.models import build_mlp
from stml_tf.tensor import Tensor


@keras.saving.register_keras_serializable("stml_tf")
class MeanShiftModel(TwoViewModel):
    """Mean shift; see `TwoViewModel`.

    Args:
        student: What `build_projection_student` returns.
        hidden_dim: Width of the predictor's hidden layer.
        memory_size: Number of embeddings among which neighbours are searched, at least the batch size.
        top_k: Neighbours that each prediction is drawn to, including the target itself.
        momentum: Share of the teacher's weights that each step keeps, in [0, 1).

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        hidden_dim: int,
        memory_size: int = 9600,
        top_k: int = 5,
        momentum: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(student, momentum=momentum, **kwargs)
        if not 1 <= top_k <= memory_size:
            raise UserError(f"top_k={top_k} must be from 1 to the memory's {memory_size} embeddings.")
        width = student.output_shape[1][-1]
        self.hidden_dim = hidden_dim
        self.top_k = top_k
        self.predictor = build_mlp(width, hidden_dim, width, name="predictor")
        self.memory = EmbeddingMemory(memory_size, width, name="memory")

    def objective(self, projections: Tensor, targets: Tensor) -> Tensor:
        """Return `mean_shift_loss` of the predictions, with the targets already in the memory."""
        self.memory.push(targets)
        predictions = self.predictor(projections, training=True)
        return mean_shift_loss(predictions, targets, self.memory.embeddings, top_k=self.top_k)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "memory_size": self.memory.size,
            "top_k": self.top_k,
        }
