"""Training methods: one `keras.Model` each, with a student and a teacher that follows it."""

from stml_tf.methods.byol import BYOLModel
from stml_tf.methods.mean_shift import MeanShiftModel
from stml_tf.methods.moco import MoCoModel
from stml_tf.methods.self_taught import SelfTaughtModel
from stml_tf.methods.semi_supervised import SemiSupervisedModel
from stml_tf.methods.student_teacher import StudentTeacherModel

__all__ = [
    "BYOLModel",
    "MeanShiftModel",
    "MoCoModel",
    "SelfTaughtModel",
    "SemiSupervisedModel",
    "StudentTeacherModel",
]
