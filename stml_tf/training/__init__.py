"""Training: the models of all methods, their optimizers and schedules, checkpoints and callbacks."""

from stml_tf.training.adamp import AdamP
from stml_tf.training.byol import BYOLModel
from stml_tf.training.mean_shift import MeanShiftModel
from stml_tf.training.moco import MoCoModel
from stml_tf.training.schedules import EpochSchedule
from stml_tf.training.self_taught import SelfTaughtModel
from stml_tf.training.semi_supervised import SemiSupervisedModel
from stml_tf.training.student_teacher import StudentTeacherModel

__all__ = [
    "AdamP",
    "BYOLModel",
    "EpochSchedule",
    "MeanShiftModel",
    "MoCoModel",
    "SelfTaughtModel",
    "SemiSupervisedModel",
    "StudentTeacherModel",
]
