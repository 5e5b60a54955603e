"""The type of a tensor in annotations."""

from typing import Any, TypeAlias

# Keras's backends share no class of tensors, and functions written in `keras.ops` take NumPy arrays as well.
Tensor: TypeAlias = Any
