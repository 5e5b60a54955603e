"""BatchNorm in one operation: Keras's layer takes a dozen, each a pass over the feature maps."""

from typing import Any

import keras
import tensorflow as tf

from stml_tf.tensor import Tensor


@keras.saving.register_keras_serializable("stml_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, faster in training: same arguments, variables and results, up to rounding.

    Where it is synchronised or does not train, Keras's own operations run.

    Args:
        *args: As for `keras.layers.BatchNormalization`.
        **kwargs: Likewise.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        fused = training and self.trainable and not self.synchronized and mask is None and self._is_plain()
        if not fused or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation returns the variance of the population, estimated; Keras keeps that of the batch itself.
        values = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance * (values - 1.0) / values)
        return outputs

    def _is_plain(self) -> bool:
        return self.center and self.scale and self.axis in (-1, 3) and not getattr(self, "renorm", False)

    def _move(self, statistic: keras.Variable, value: Any) -> None:
        statistic.assign(statistic * self.momentum + value * (1.0 - self.momentum))
