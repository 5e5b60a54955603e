import sys

import numpy as np
import pytest

from stml_tf.errors import UserError
from stml_tf.evaluation.layout import _tsne, lay_out


def groups(random, images=20, dim=16):
    return np.concatenate([center + 0.1 * random.normal(size=(images, dim)) for center in 5 * np.eye(3, dim)])


def assert_apart(points):
    """Each point's nearest one is of its own group."""
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    assert (gaps.argmin(axis=1) // 20 == np.arange(len(points)) // 20).all()


def test_tsne_keeps_groups_apart_and_is_repeatable(random):
    embeddings = groups(random)
    points = _tsne(embeddings, 0)
    assert points.shape == (60, 2)
    assert_apart(points)
    np.testing.assert_array_equal(points, _tsne(embeddings, 0))


@pytest.mark.parametrize("rows", [5, 6])
def test_few_images_and_images_that_are_all_alike_have_a_map(monkeypatch, rows):
    monkeypatch.setitem(sys.modules, "umap", None)  # importing it fails
    points, method = lay_out(np.ones((rows, 4)))
    assert method == "t-SNE" and points.shape == (rows, 2)
    assert np.isfinite(points).all() and (points.min(), points.max()) == (0, 1)


@pytest.mark.slow  # it compiles itself
def test_umap_is_taken_where_it_is_installed(random):
    pytest.importorskip("umap", reason="the extra `umap` is not installed")
    points, method = lay_out(groups(random))
    assert method == "UMAP"
    assert_apart(points)


def test_too_few_are_refused():
    with pytest.raises(UserError, match="4 images given, but a map needs 5 or more"):
        lay_out(np.ones((4, 2)))
