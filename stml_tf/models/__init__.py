"""Networks: backbones, the student with its two heads, and the teacher that follows it."""

from stml_tf.models.backbones.by_name import build_backbone, preprocessing
from stml_tf.models.parts import auxiliary_network, head_variables
from stml_tf.models.precision import computing_in, in_float32, trains_single_channels
from stml_tf.models.projection import build_mlp, build_projection_student
from stml_tf.models.pytorch import load_pytorch_weights
from stml_tf.models.pytorch.convert import convert_pytorch_weights
from stml_tf.models.student import build_student
from stml_tf.models.teacher import build_teacher, update_teacher

__all__ = [
    "auxiliary_network",
    "build_backbone",
    "build_mlp",
    "build_projection_student",
    "build_student",
    "build_teacher",
    "computing_in",
    "convert_pytorch_weights",
    "head_variables",
    "in_float32",
    "load_pytorch_weights",
    "preprocessing",
    "trains_single_channels",
    "update_teacher",
]
