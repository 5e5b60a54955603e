"""From images to embeddings, and from embeddings to figures of merit."""

from stml_tf.evaluation.embed import embed, raw_pixels
from stml_tf.evaluation.metrics import retrieval_metrics

__all__ = ["embed", "raw_pixels", "retrieval_metrics"]
