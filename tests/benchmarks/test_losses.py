"""Similarity and losses of a step, forward and backward, beside PyTorch's."""

import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses.geometry import relative_distances
from stml_tf.losses.relaxed_contrastive import relaxed_contrastive
from stml_tf.losses.self_distillation import self_distillation
from stml_tf.methods.pseudo_labels import self_taught_similarity

pytestmark = pytest.mark.benchmark


@tf.function
def our_step(f, g, teacher, image_ids):
    similarity = self_taught_similarity(teacher, image_ids, num_neighbors=10, sigma=3.0).combined
    with tf.GradientTape() as tape:
        tape.watch((f, g))
        of_f, of_g = relative_distances(f), relative_distances(g)
        contrastive = (
            relaxed_contrastive(of_f, similarity, delta=1.0) + relaxed_contrastive(of_g, similarity, delta=1.0)
        ) / 2.0
        loss = contrastive + self_distillation(of_f, of_g)
    return loss, *tape.gradient(loss, (f, g))


@pytest.mark.parametrize("rows", [240, 960])
def test_losses(benchmarks, rows):
    import torch

    from tests.benchmarks import authors_losses

    random = np.random.default_rng(0)
    f, g, teacher = (random.standard_normal((rows, dim)).astype(np.float32) for dim in (512, 1024, 1024))
    ids = np.repeat(np.arange(rows // 2), 2)
    ours = [tf.constant(each) for each in (f, g, teacher, ids)]
    f, g, teacher, ids = (torch.from_numpy(each) for each in (f, g, teacher, ids))
    f.requires_grad_()
    g.requires_grad_()

    def their_step(loop):
        with torch.no_grad():
            similarity = authors_losses.similarity(teacher, ids, 10, 3.0, loop=loop)
        loss = authors_losses.loss(f, g, similarity, 1.0)
        return loss, *torch.autograd.grad(loss, (f, g))

    # Both compute the same, so that the ratio compares like with like.
    for a, b in zip(our_step(*ours), their_step(loop=True), strict=True):
        a, b = a.numpy(), b.detach().numpy()
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())
    for reference, loop, reach in (
        ("PyTorch, loop over rows", True, "0.12" if rows == 240 else "0.16"),
        ("PyTorch, no loop", False, ""),
    ):
        benchmarks.compare(
            f"similarity and losses with gradients, f 512, g 1024, N {rows}",
            lambda: [each.numpy() for each in our_step(*ours)],
            reference,
            lambda loop=loop: their_step(loop),
            reach=reach,
            rounds=5,
        )
