"""PyTorch weights, read without PyTorch."""

from stml_tf.models.pytorch.names import load_pytorch_weights
from stml_tf.models.pytorch.read import is_pytorch_checkpoint

__all__ = ["is_pytorch_checkpoint", "load_pytorch_weights"]
