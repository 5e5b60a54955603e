"""Networks: backbones, the student with its two heads, and the teacher that follows it."""

from stml_tf.models.backbones import build_backbone, preprocessing
from stml_tf.models.student import build_student, head_variables
from stml_tf.models.teacher import auxiliary_network, build_teacher, update_teacher

__all__ = [
    "auxiliary_network",
    "build_backbone",
    "build_student",
    "build_teacher",
    "head_variables",
    "preprocessing",
    "update_teacher",
]
