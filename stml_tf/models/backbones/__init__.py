"""Backbones: networks from preprocessed images to features, one file for each family."""

from stml_tf.models.backbones.by_name import build_backbone, preprocessing

__all__ = ["build_backbone", "preprocessing"]
