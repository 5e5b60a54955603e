"""Embedding of images, search among embeddings, and retrieval metrics."""

from stml_tf.evaluation.embed import embed, raw_pixels
from stml_tf.evaluation.metrics import retrieval_metrics
from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.evaluation.query_gallery import query_gallery_metrics

__all__ = ["embed", "nearest_neighbors", "query_gallery_metrics", "raw_pixels", "retrieval_metrics"]
