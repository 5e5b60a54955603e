"""Serving: the exported network."""

from stml_tf.serving.export import export_saved_model

__all__ = ["export_saved_model"]
