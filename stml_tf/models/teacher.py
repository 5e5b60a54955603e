"""The teacher: a moving average of the student's trunk and auxiliary head.

Kim, Kim, Cho, Kwak: Self-Taught Metric Learning without Labels, CVPR 2022, arXiv 2205.01903, equation 8.
"""

import keras

from stml_tf.errors import UserError
from stml_tf.models.heads import AUXILIARY_HEAD


def auxiliary_network(student: keras.Model) -> keras.Model:
    """The part of the student that the teacher averages: images to `g`. Shares the student's weights."""
    return keras.Model(student.input, student.get_layer(AUXILIARY_HEAD).output, name="auxiliary")


def build_teacher(student: keras.Model, *, start: str = "student") -> keras.Model:
    """Build a teacher with weights of its own.

    Args:
        student: What `build_student` returns.
        start: "student" for a copy of the student; "independent" keeps a random auxiliary head of its own, as the
            authors' code has it.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]` to `[batch, teacher_dim]`, without
        trainable weights.

    Raises:
        UserError: If `start` is neither of the two.
    """
    if start not in ("student", "independent"):
        raise UserError(f'The teacher starts from "student" or "independent", not from {start!r}.')
    source = auxiliary_network(student)
    teacher = keras.models.clone_model(source)
    own_head = teacher.get_layer(AUXILIARY_HEAD).get_weights()
    teacher.set_weights(source.get_weights())
    if start == "independent":
        teacher.get_layer(AUXILIARY_HEAD).set_weights(own_head)
    # The weights alone: a layer that is not trainable would never use the batch's statistics, which a caller may want.
    for weight in teacher.weights:
        weight.trainable = False
    return teacher


def update_teacher(teacher: keras.Model, auxiliary: keras.Model, *, momentum: float) -> None:
    """Move every weight of the teacher, BatchNorm's statistics included, towards the student's.

    Args:
        teacher: What `build_teacher` returns.
        auxiliary: What `auxiliary_network` returns for the same student.
        momentum: Share of the teacher that stays, in [0, 1).
    """
    for average, current in zip(teacher.weights, auxiliary.weights, strict=True):
        average.assign(average * momentum + current * (1.0 - momentum))
