"""A batch embedded in pieces, so that memory holds the activations of one piece at a time.

The loss compares all rows with all others, so gradients of pieces cannot simply be added up. Instead all pieces are
embedded and their activations forgotten; the loss gives a gradient to each embedding; then each piece is embedded once
more, and its part of that gradient is taken back to the weights. This costs a second forward pass.

Gao, Zhang, Han, Callan: Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, RepL4NLP 2021,
arXiv 2101.06983.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from stml_tf.errors import UserError
from stml_tf.tensor import Tensor

Backpropagate = Callable[[Sequence[Tensor], Sequence[keras.Variable]], list[Tensor]]


def forward(network: keras.Model, images: Tensor, *, pieces: int = 1) -> tuple[list[Tensor], Backpropagate]:
    """Embed a batch for training.

    Args:
        network: From images to a list of embeddings.
        images: `[rows, height, width, channels]`, preprocessed.
        pieces: How many equal pieces to take the batch in. BatchNorm normalises each piece by itself.

    Returns:
        The embeddings, each `[rows, dim]`, constants to any outer tape; and a function that turns their gradients and
        a list of variables into the gradients of these variables. It is to be called once.

    Raises:
        UserError: If the rows cannot be divided into that many pieces.
    """
    if pieces == 1:
        with tf.GradientTape() as tape:
            embeddings = network(images, training=True)
        return embeddings, lambda gradients, variables: tape.gradient(embeddings, variables, gradients)

    def backpropagate(gradients: Sequence[Tensor], variables: Sequence[keras.Variable]) -> list[Tensor]:
        totals: list[Tensor] = []
        for piece, *upstream in zip(*(_split(each, pieces) for each in (images, *gradients)), strict=True):
            with _after(totals):
                with tf.GradientTape() as tape:
                    embeddings = network(piece, training=True)
                found = tape.gradient(embeddings, variables, upstream)
                totals = [total + one for total, one in zip(totals, found, strict=True)] if totals else found
        return totals

    # The first pass leaves no trace: BatchNorm's statistics and the states of random generators go on with the second,
    # which therefore draws the same dropout as the first.
    with keras.StatelessScope():
        embeddings = embed_in_pieces(network, images, pieces=pieces, training=True)
    return embeddings, backpropagate


def embed_in_pieces(network: keras.Model, images: Tensor, *, pieces: int, training: bool = False) -> Any:
    """Compute what `network(images, training=training)` returns, piece by piece.

    Raises:
        UserError: If the rows cannot be divided into that many pieces.
    """
    if pieces == 1:
        return network(images, training=training)
    embedded: list[Any] = []
    for piece in _split(images, pieces):
        with _after(embedded[-1:]):
            embedded.append(network(piece, training=training))
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *embedded)


def _split(rows: Tensor, pieces: int) -> list[Tensor]:
    if rows.shape[0] is not None and rows.shape[0] % pieces:
        raise UserError(
            f"The {rows.shape[0]} rows on a device cannot be divided into {pieces} equal pieces: choose another "
            "training.accumulate, or another batch.size."
        )
    return tf.split(rows, pieces)


def _after(tensors: Any) -> Any:
    # TensorFlow runs whatever is ready: left to itself it would hold the activations of all pieces at once.
    return tf.control_dependencies(tf.nest.flatten(tensors))
