"""Optimizers and learning-rate schedules."""

from stml_tf.optimizers.adamp import AdamP
from stml_tf.optimizers.schedules import EpochSchedule

__all__ = ["AdamP", "EpochSchedule"]
