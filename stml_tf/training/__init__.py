"""Training: the model that teaches itself, its optimizers and schedules, checkpoints and callbacks."""

from stml_tf.training.adamp import AdamP
from stml_tf.training.schedules import EpochSchedule
from stml_tf.training.self_taught import SelfTaughtModel

__all__ = ["AdamP", "EpochSchedule", "SelfTaughtModel"]
