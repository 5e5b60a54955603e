"""The teacher: a moving average of the student's trunk and auxiliary head.

Kim, Kim, Cho, Kwak: Self-Taught Metric Learning without Labels, CVPR 2022, arXiv 2205.01903, equation 8.
"""

import keras

from stml_tf.errors import UserError
from stml_tf.models.parts import auxiliary_head, auxiliary_network, require_student


def build_teacher(student: keras.Model, *, start: str = "student") -> keras.Model:
    """Build a teacher with weights of its own.

    Args:
        student: A functional model from images to two outputs, of which the teacher shares the second.
        start: "student" to copy the student; "independent" to keep a random auxiliary head of its own, as in the
            authors' code.

    Returns:
        A model to `[batch, teacher_dim]` float32, without trainable weights: from preprocessed images
        `[batch, height, width, 3]`, or from the frozen features if part of the student is frozen.

    Raises:
        UserError: If the student is not such a model, or `start` is neither of the two.
    """
    require_student(student)
    if start not in ("student", "independent"):
        raise UserError(f'The teacher starts from "student" or "independent", not from {start!r}.')
    source = auxiliary_network(student)
    teacher = keras.models.clone_model(source)
    head = [teacher.get_layer(layer.name) for layer in auxiliary_head(student)]
    own_weights = [layer.get_weights() for layer in head]
    teacher.set_weights(source.get_weights())
    if start == "independent":
        for layer, weights in zip(head, own_weights, strict=True):
            layer.set_weights(weights)
    # Only the weights: a layer that is not trainable would never use the batch's statistics, which a caller may want.
    for weight in teacher.weights:
        weight.trainable = False
    return teacher


def update_teacher(teacher: keras.Model, auxiliary: keras.Model, *, momentum: float) -> None:
    """Move every weight of the teacher, including BatchNorm's statistics, towards the student's.

    Args:
        teacher: What `build_teacher` returns.
        auxiliary: What `auxiliary_network` returns for the same student.
        momentum: Share of the teacher's weights that is kept, in [0, 1).
    """
    for average, current in zip(teacher.weights, auxiliary.weights, strict=True):
        average.assign(average * momentum + current * (1.0 - momentum))
