"""BYOL: the student predicts what the teacher makes of the other view; no other image takes part.

Grill et al.: Bootstrap Your Own Latent, NeurIPS 2020, arXiv 2006.07733.
"""

from typing import Any

import keras

from stml_tf.losses import byol_loss
from stml_tf.methods.two_views import TwoViewModel
from stml_tf.models import build_mlp
from stml_tf.tensor import Tensor


@keras.saving.register_keras_serializable("stml_tf")
class BYOLModel(TwoViewModel):
    """Bootstrap your own latent, see `TwoViewModel`.

    One view predicts the other, not also the other way round, as in the comparison of the paper on Self-Taught Metric
    Learning, where it is MeanShift with a single neighbour.

    Args:
        student: What `build_projection_student` returns.
        hidden_dim: Width of the predictor's hidden layer.
        momentum: Share of the teacher that stays at each step, in [0, 1).

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(self, student: keras.Model, *, hidden_dim: int, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(student, momentum=momentum, **kwargs)
        width = student.output_shape[1][-1]
        self.hidden_dim = hidden_dim
        self.predictor = build_mlp(width, hidden_dim, width, name="predictor")

    def objective(self, projections: Tensor, targets: Tensor) -> Tensor:
        """Distance of predictions from targets."""
        return byol_loss(self.predictor(projections, training=True), targets)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden_dim": self.hidden_dim}
