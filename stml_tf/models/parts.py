"""The parts of a student, which is any network with two outputs: a shared trunk, and a head for each output."""

import keras

from stml_tf.errors import UserError
from stml_tf.models.trainable import learning_input


def require_student(student: keras.Model) -> None:
    """Refuse a model that cannot be a student.

    Args:
        student: The model.

    Raises:
        UserError: Unless it is a functional model from one input to two outputs, each `[batch, dim]`.
    """
    if not isinstance(student, keras.Model) or not getattr(student, "inputs", None):
        raise UserError(
            f"The student is a {type(student).__name__}, not a functional model, so no part of it can be copied: wrap "
            "it, as in `images = keras.Input((None, None, 3))` and `keras.Model(images, network(images))`."
        )
    outputs = student.outputs
    if len(student.inputs) != 1 or len(outputs) != 2 or any(len(output.shape) != 2 for output in outputs):
        raise UserError(
            f"The student has {len(student.inputs)} inputs and the outputs {[output.shape for output in outputs]}; "
            "allowed: one input and two outputs, an embedding [batch, dim] and one that the teacher shares."
        )


def auxiliary_network(student: keras.Model) -> keras.Model:
    """Return the part of a student that the teacher averages, with shared weights.

    Args:
        student: A functional model from images to `(f, g)`.

    Returns:
        A model from `learning_input` to g `[batch, teacher_dim]`.
    """
    return keras.Model(learning_input(student), student.outputs[1], name="auxiliary")


def auxiliary_head(student: keras.Model) -> list[keras.Layer]:
    """Return the layers that only the second output passes through, or its last layer if there are none.

    Args:
        student: A functional model from images to `(f, g)`.

    Returns:
        One layer or more.
    """
    _, of_auxiliary = _own_layers(student)
    return of_auxiliary or [student.outputs[1]._keras_history.operation]


def head_variables(student: keras.Model) -> list[keras.Variable]:
    """Return the trainable variables of the two heads, which may have a learning rate of their own.

    Args:
        student: A functional model from images to `(f, g)`.

    Returns:
        The variables of the layers that only one of the outputs passes through, those of f first.
    """
    own = _own_layers(student)
    return [variable for layers in own for layer in layers for variable in layer.trainable_variables]


def _own_layers(student: keras.Model) -> tuple[list[keras.Layer], list[keras.Layer]]:
    """Return, for each output, the layers that the other one does not pass through."""
    layers = [keras.Model(student.inputs[0], output).layers for output in student.outputs]
    seen = [{id(layer) for layer in each} for each in layers]
    first, second = (
        [layer for layer in own if id(layer) not in others] for own, others in zip(layers, seen[::-1], strict=True)
    )
    return first, second
