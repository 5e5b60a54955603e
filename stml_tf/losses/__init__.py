"""Losses: each a pure function and a thin Keras class around it."""

from stml_tf.losses.relaxed_contrastive import RelaxedContrastiveLoss, relaxed_contrastive_loss
from stml_tf.losses.self_distillation import SelfDistillationLoss, self_distillation_loss

__all__ = [
    "RelaxedContrastiveLoss",
    "SelfDistillationLoss",
    "relaxed_contrastive_loss",
    "self_distillation_loss",
]
