"""BYOL: the student predicts the teacher's embedding of the other view; no other image is involved.

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
    """Bootstrap your own latent; see `TwoViewModel`.

    Only one view predicts the other, as in the comparison of the paper on Self-Taught Metric Learning, where BYOL is
    MeanShift with a single neighbour.

    Args:
        student: What `build_projection_student` returns.
        hidden_dim: Width of the predictor's hidden layer.
        momentum: Share of the teacher's weights that each step keeps, in [0, 1).

    Raises:
        UserError: If `momentum` is out of range.
    """

    def __init__(self, student: keras.Model, *, hidden_dim: int, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(student, momentum=momentum, **kwargs)
        width = student.output_shape[1][-1]
        self.hidden_dim = hidden_dim
        self.predictor = build_mlp(width, hidden_dim, width, name="predictor")

    def objective(self, projections: Tensor, targets: Tensor) -> Tensor:
        """Return `byol_loss` of the predictions; see `TwoViewModel.objective`."""
        return byol_loss(self.predictor(projections, training=True), targets)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden_dim": self.hidden_dim}
