"""Weights that people have as PyTorch files."""

from stml_tf.models.pytorch.names import convert_pytorch_weights, load_pytorch_weights

__all__ = ["convert_pytorch_weights", "load_pytorch_weights"]
