"""AdamP: Adam that takes no step along scale-invariant weights.

Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights" (ICLR 2021),
algorithm 2. Weights in front of a normalisation can grow without changing the network, and momentum makes them grow
fast, which shrinks the effective learning rate. Where the gradient is almost orthogonal to the weights, AdamP takes the
weights' own direction out of the update and decays them less.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from stml_tf.errors import UserError


@keras.saving.register_keras_serializable(package="stml_tf")
class AdamP(keras.optimizers.Optimizer):
    """Adam with the radial part of the update projected away from scale-invariant weights.

    Each weight tensor with two or more axes is viewed channel by channel, then as a whole; the first view in which all
    gradients are almost orthogonal to the weights is projected. In Keras the output axis comes last, so a channel spans
    all other axes. A kernel `[height, width, in, 1]` is taken to be depthwise: its channels are its `in` filters of
    `[height, width]`. A depthwise kernel with several outputs per channel looks like an ordinary convolution and is
    treated as one, so only the view of the whole can be right for it.

    `weight_decay` is decoupled and scaled by the learning rate, `w *= 1 - learning_rate * weight_decay`, and by
    `wd_ratio` as well where the update was projected. `exclude_from_weight_decay` works as on any Keras optimizer.

    Args:
        learning_rate: A float, or a `LearningRateSchedule`.
        beta_1: Decay of the mean of the gradients, in [0, 1).
        beta_2: Decay of the mean of the squared gradients, in [0, 1).
        epsilon: Added to denominators, positive.
        weight_decay: Decay per unit of learning rate, 0 or more.
        delta: Weights count as scale-invariant if the largest |cosine| of gradient and weights is below
            `delta / sqrt(number of weights in the view)`.
        wd_ratio: Factor of the weight decay where the update was projected, in [0, 1].
        nesterov: Whether to use Nesterov momentum.
        name: Name of the optimizer.
        **kwargs: Further arguments of every Keras optimizer, such as `clipnorm`.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        name: str = "adamp",
        **kwargs: Any,
    ) -> None:
        for argument, value, allowed, within in (
            ("beta_1", beta_1, "in [0, 1)", 0 <= beta_1 < 1),
            ("beta_2", beta_2, "in [0, 1)", 0 <= beta_2 < 1),
            ("epsilon", epsilon, "positive", epsilon > 0),
            ("weight_decay", weight_decay, "0 or more", weight_decay >= 0),
            ("delta", delta, "0 or more", delta >= 0),
            ("wd_ratio", wd_ratio, "in [0, 1]", 0 <= wd_ratio <= 1),
        ):
            if not within:
                raise UserError(f"AdamP: {argument} must be {allowed}, but {value} was given.")
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.delta = delta
        self.wd_ratio = wd_ratio
        self.nesterov = nesterov

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create both moments of each variable as zeros, unless they exist.

        Args:
            variables: The variables to optimise.
        """
        if self.built:
            return
        super().build(variables)
        self._means = [self._moment(variable, "mean") for variable in variables]
        self._squares = [self._moment(variable, "square") for variable in variables]

    def _moment(self, variable: keras.Variable, name: str) -> keras.Variable:
        # At least float32: in float16 the squares of ordinary gradients underflow to 0, and the update would explode.
        # Named by path, as in Keras's own optimizers: a name alone is not unique, and some count the networks built.
        owner = variable.path.replace("/", "_")
        return self.add_variable(shape=variable.shape, dtype=_compute_dtype(variable), name=f"{owner}_{name}")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable.

        Args:
            gradient: The gradient, of the variable's shape.
            variable: The variable. Low-precision variables are computed in float32.
            learning_rate: The current learning rate, a scalar.
        """
        mean = self._means[self._get_variable_index(variable)]
        square = self._squares[self._get_variable_index(variable)]
        weights = ops.cast(variable, mean.dtype)
        # Adding 0 makes a sparse gradient, as of an embedding table, dense: the projection needs whole channels.
        gradient = ops.add(ops.zeros_like(weights), ops.cast(gradient, mean.dtype))
        learning_rate = ops.cast(learning_rate, mean.dtype)
        step = ops.cast(self.iterations + 1, mean.dtype)

        new_mean = self.beta_1 * mean + (1 - self.beta_1) * gradient
        new_square = self.beta_2 * square + (1 - self.beta_2) * ops.square(gradient)
        self.assign(mean, new_mean)
        self.assign(square, new_square)

        direction = self.beta_1 * new_mean + (1 - self.beta_1) * gradient if self.nesterov else new_mean
        square_correction = 1 - ops.power(ops.cast(self.beta_2, mean.dtype), step)
        update = direction / (ops.sqrt(new_square) / ops.sqrt(square_correction) + self.epsilon)
        update, decay_share = self._project(weights, gradient, update)

        if self.weight_decay and self._use_weight_decay(variable):
            weights = weights * (1 - learning_rate * self.weight_decay * decay_share)
        mean_correction = 1 - ops.power(ops.cast(self.beta_1, mean.dtype), step)
        self.assign(variable, weights - learning_rate / mean_correction * update)

    def _project(self, weights: Any, gradient: Any, update: Any) -> tuple[Any, Any]:
        """Return the update, without its radial part where weights look scale-invariant, and the decay factor."""
        decay_share = ops.ones((), dtype=update.dtype)
        if len(weights.shape) < 2:
            return update, decay_share
        projected_update = update
        # The channel view comes last, as it takes precedence over the view of the whole tensor.
        for axes in (tuple(range(len(weights.shape))), _channel_axes(weights.shape)):
            view_size = math.prod(weights.shape[axis] for axis in axes)
            norm = _norm(weights, axes)
            cosine = ops.sum(weights * gradient, axes, keepdims=True) / (
                ops.maximum(norm, self.epsilon) * ops.maximum(_norm(gradient, axes), self.epsilon)
            )
            is_invariant = ops.max(ops.abs(cosine)) < self.delta / math.sqrt(view_size)
            radius = weights / (norm + self.epsilon)
            tangential = update - radius * ops.sum(radius * update, axes, keepdims=True)
            projected_update = ops.where(is_invariant, tangential, projected_update)
            decay_share = ops.where(is_invariant, self.wd_ratio, decay_share)
        return projected_update, decay_share

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Do nothing: Keras would decay before the update, but only the update knows how much AdamP decays."""

    def get_config(self) -> dict[str, Any]:
        """Return all arguments as plain values."""
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "wd_ratio": self.wd_ratio,
            "nesterov": self.nesterov,
        }


def _compute_dtype(variable: keras.Variable) -> str:
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def _channel_axes(shape: Sequence[int]) -> tuple[int, ...]:
    is_depthwise = len(shape) > 2 and shape[-1] == 1
    return tuple(range(len(shape) - (2 if is_depthwise else 1)))


def _norm(values: Any, axes: tuple[int, ...]) -> Any:
    return ops.sqrt(ops.sum(ops.square(values), axes, keepdims=True))
