"""Local response normalisation across channels.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 2012, section
3.3.
"""

from typing import Any

import keras
from keras import layers, ops

from stml_tf.tensor import Tensor


@keras.saving.register_keras_serializable(package="stml_tf")
class LocalResponseNorm(layers.Layer):
    """A layer that divides each value by `(1 + alpha * mean of the squares of neighbouring channels) ** beta`.

    Channels beyond the first and last count as zeros. `alpha` multiplies the mean, as in Caffe and PyTorch; in
    `tf.nn.local_response_normalization` it multiplies the sum.

    Args:
        size: Number of neighbouring channels, the channel itself in the middle.
        alpha: Weight of the mean of squares.
        beta: Exponent.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.alpha, self.beta = size, alpha, beta

    def call(self, features: Tensor) -> Tensor:
        """Normalise feature maps.

        Args:
            features: `[batch, height, width, channels]`.

        Returns:
            `[batch, height, width, channels]`.
        """
        channels, side = features.shape[-1], self.size // 2
        # float32 even under mixed precision: squares of the first layers' features exceed the range of float16.
        squares = ops.square(ops.cast(features, "float32"))
        padded = ops.pad(squares, [[0, 0], [0, 0], [0, 0], [side, side]])
        total = sum(padded[..., start : start + channels] for start in range(self.size))
        divisor = ops.power(1.0 + self.alpha / self.size * total, self.beta)
        return ops.cast(features, self.compute_dtype) / ops.cast(divisor, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "alpha": self.alpha, "beta": self.beta}
