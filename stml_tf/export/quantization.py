"""Keeps a network's kernels as 8-bit integers, which takes a quarter of the disk and of the memory.

Each output channel has a scale of its own, by which its integers become float32 again where they are used (symmetric
per-channel quantisation of weights alone; Krishnamoorthi, arXiv 1806.08342, sections 2.2 and 3.1). The arithmetic is
float32's, so nothing becomes faster. Keras's own `quantize` knows dense layers only, and a backbone is convolutions.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from stml_tf.errors import UserError
from stml_tf.models.precision import in_float32
from stml_tf.tensor import Tensor

_LEAST_COSINE = 0.99


class Int8Network:
    """A network with 8-bit kernels; is called as the network is.

    Args:
        network: Preprocessed images [batch, height, width, 3] -> embeddings [batch, dim]. It is left as it is; what is
            no kernel (biases, BatchNorm) is shared with it.

    Attributes:
        output_shape: That of the network.
    """

    def __init__(self, network: keras.Model) -> None:
        self._network = network
        self._trainable = [_compressed(variable) for variable in network.trainable_variables]
        self._non_trainable = [_compressed(variable) for variable in network.non_trainable_variables]
        self.output_shape = network.output_shape

    def __call__(self, images: Tensor, training: bool = False) -> Tensor:
        """Return what the network makes of preprocessed images; integers have no gradient, so there is no training."""
        if training:
            raise ValueError("A network with 8-bit weights cannot be trained: train first, then export.")
        values = [[value() for value in each] for each in (self._trainable, self._non_trainable)]
        with in_float32(self._network):
            embeddings, _ = self._network.stateless_call(*values, images, training=False)
        return embeddings


def require_same_directions(embeddings: np.ndarray, int8_embeddings: np.ndarray) -> float:
    """Compare the embeddings of the same images by a network and by its 8-bit form.

    Args:
        embeddings: [count, dim], float; of any length.
        int8_embeddings: Likewise.

    Returns:
        The least cosine of all images.

    Raises:
        ValueError: If it is not above 0.99.
    """
    lengths = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(int8_embeddings, axis=1)
    cosines = (embeddings * int8_embeddings).sum(axis=1) / np.maximum(lengths, 1e-12)
    if not cosines.min() > _LEAST_COSINE:
        raise UserError(
            f"8-bit weights change this network too much: the cosine between the embeddings of an image falls to "
            f"{cosines.min():.4f} ({cosines.mean():.4f} on average over {len(cosines)} images), and must stay above "
            f"{_LEAST_COSINE}. Export it without --quantize; --dtype float16 makes the embeddings smaller."
        )
    return float(cosines.min())


class _Int8Kernel:
    def __init__(self, kernel: np.ndarray) -> None:
        # A depthwise kernel [height, width, channels, 1] has its channels before the last axis.
        channels = kernel.ndim - (1 if kernel.shape[-1] > 1 else 2)
        others = tuple(axis for axis in range(kernel.ndim) if axis != channels)
        largest = np.abs(kernel).max(axis=others, keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        self._integers = keras.Variable(np.rint(kernel / scale), dtype="int8", trainable=False, name="integers")
        self._scale = keras.Variable(scale, trainable=False, name="scale")

    def __call__(self) -> Tensor:
        return ops.cast(self._integers, "float32") * self._scale


def _compressed(variable: keras.Variable) -> Any:
    """Make a function that returns the variable's value, from integers if it is a kernel."""
    return _Int8Kernel(ops.convert_to_numpy(variable)) if len(variable.shape) > 1 else lambda: variable.value
