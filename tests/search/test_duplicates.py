import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.search import duplicates
from stml_tf.search.duplicates import find_duplicates


def slow_groups(embeddings, threshold):
    """Grow each group from one image, neighbour by neighbour, in float64."""
    rows = embeddings.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1)
    alike = rows @ rows.T >= threshold - 1e-6
    groups, left = [], set(range(len(rows)))
    while left:
        group = frontier = {min(left)}
        while frontier:
            frontier = {int(other) for row in frontier for other in np.flatnonzero(alike[row])} - group
            group = group | frontier
        left -= group
        groups.append(sorted(group))
    return sorted((group for group in groups if len(group) > 1), key=lambda group: (-len(group), group))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 4), st.sampled_from([0.5, 0.9, 0.97, 1.0]))
def test_equals_the_slow_form(seed, count, dim, threshold):
    # Whole numbers: many embeddings are equal, opposite, or zero.
    embeddings = np.random.default_rng(seed).integers(-2, 3, (count, dim)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", 7)
        found = find_duplicates(embeddings, threshold=threshold)
    assert [group.tolist() for group in found] == slow_groups(embeddings, threshold)


def test_a_chain_across_blocks_is_one_group(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 3)
    angles = np.random.default_rng(0).permutation(20) * 0.1
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    (group,) = find_duplicates(embeddings, threshold=np.cos(0.11))
    np.testing.assert_array_equal(group, np.arange(20))
    assert find_duplicates(embeddings, threshold=np.cos(0.09)) == []


def test_memory_stays_far_below_all_pairs():
    # All alike: the pairs alone would be 8 million times two indices, 128 MB.
    embeddings = np.ones((4000, 4), np.float32)
    tracemalloc.start()
    progress = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", 256)
        (group,) = find_duplicates(embeddings, threshold=0.9, on_progress=lambda *done: progress.append(done))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(group) == 4000
    assert peak < 16e6
    assert progress[-1] == (7_998_000, 7_998_000)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_refuses(threshold):
    with pytest.raises(ValueError, match=f"the threshold is {threshold}, but must be a cosine similarity above 0"):
        find_duplicates(np.ones((3, 2)), threshold=threshold)
