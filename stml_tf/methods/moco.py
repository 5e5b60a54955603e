"""MoCo: the student tells an image's other view from the views of many other images in a queue.

He, Fan, Wu, Xie, Girshick: Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020,
arXiv 1911.05722; with the MLP head of Chen, Fan, Girshick, He: Improved Baselines with Momentum Contrastive Learning,
arXiv 2003.04297.
"""

from typing import Any

import keras

from stml_tf.errors import UserError
from stml_tf.losses import info_nce_loss
from stml_tf.methods.embedding_memory import EmbeddingMemory
from stml_tf.methods.two_views import TwoViewModel
from stml_tf.tensor import Tensor


@keras.saving.register_keras_serializable("stml_tf")
class MoCoModel(TwoViewModel):
    """Momentum contrast; see `TwoViewModel`.

    Args:
        student: What `build_projection_student` returns, without BatchNorm in its head.
        memory_size: Number of embeddings in the queue, which are the negatives.
        temperature: Divisor of the cosines, above 0.
        momentum: Share of the teacher's weights that each step keeps, in [0, 1).

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        memory_size: int = 9600,
        temperature: float = 0.07,
        momentum: float = 0.999,
        **kwargs: Any,
    ) -> None:
        super().__init__(student, momentum=momentum, **kwargs)
        if temperature <= 0:
            raise UserError(f"temperature={temperature} must be above 0.")
        self.temperature = temperature
        self.memory = EmbeddingMemory(memory_size, student.output_shape[1][-1], name="queue")

    def objective(self, projections: Tensor, targets: Tensor) -> Tensor:
        """Return `info_nce_loss` against the queue, then add the targets to the queue."""
        loss = info_nce_loss(projections, targets, self.memory.embeddings, temperature=self.temperature)
        self.memory.push(targets)
        return loss

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "memory_size": self.memory.size, "temperature": self.temperature}
