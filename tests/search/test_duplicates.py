import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.search import duplicates
from stml_tf.search.duplicates import find_duplicates, propose_threshold


def slow_groups(embeddings, threshold, order):
    """Keep one after another, in float64; each takes those that are left and like it."""
    rows = embeddings.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1)
    alike = rows @ rows.T >= threshold - 1e-6
    groups, left = [], list(order)
    while left:
        kept, *rest = left
        groups.append((kept, sorted(row for row in rest if alike[kept, row])))
        left = [row for row in rest if not alike[kept, row]]
    return sorted(group for group in groups if group[1])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 4), st.sampled_from([0.5, 0.9, 0.97, 1.0]))
def test_equals_the_slow_form(seed, count, dim, threshold):
    # Whole numbers: many embeddings are equal, opposite, or zero.
    embeddings = np.random.default_rng(seed).integers(-2, 3, (count, dim)).astype(np.float32)
    order = np.random.default_rng(seed).permutation(count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", 7)
        found = find_duplicates(embeddings, threshold=threshold, preference=order)
    told = sorted((group.kept, sorted(group.others.tolist())) for group in found)
    assert told == slow_groups(embeddings, threshold, order.tolist())
    sizes = [len(group) for group in found]
    assert sizes == sorted(sizes, reverse=True)


def test_a_chain_is_no_group(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 3)
    angles = np.random.default_rng(0).permutation(20) * 0.1
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    groups = find_duplicates(embeddings, threshold=np.cos(0.11))
    assert max(map(len, groups)) <= 3
    for group in groups:
        true = embeddings[group.others] @ embeddings[group.kept]
        np.testing.assert_allclose(group.similarities, true, atol=1e-6)
        assert (true >= np.cos(0.11) - 1e-6).all()
        assert (np.diff(group.similarities) <= 0).all()
    assert find_duplicates(embeddings, threshold=np.cos(0.09)) == []


@pytest.mark.parametrize("copies", [0, 0.02, 0.3, 1.0])
def test_the_proposed_threshold_parts_copies_from_different_images_however_many_they_are(copies):
    random = np.random.default_rng(0)
    centres = random.standard_normal((30, 64))
    images = centres[random.integers(0, 30, 600)] + 0.7 * random.standard_normal((600, 64))
    copied = random.permutation(600)[: int(copies * 600)]
    embeddings = np.concatenate([images, images[copied] + 0.02 * random.standard_normal((len(copied), 64))])
    proposed = propose_threshold(embeddings)
    groups = find_duplicates(embeddings, threshold=proposed.value)
    assert proposed.quartiles == tuple(sorted(proposed.quartiles))
    found = {(group.kept, int(other)) for group in groups for other in group.others}
    planted = {(int(row), 600 + n) for n, row in enumerate(copied)}
    assert len(planted & found) >= 0.99 * len(planted)
    assert len(found - planted) <= 4


def test_a_threshold_for_hardly_any_images_is_strict():
    assert propose_threshold(np.eye(3)).value == 0.999
    assert propose_threshold(np.ones((40, 3))).value == 0.999


@pytest.mark.parametrize("count", range(2, 9))
def test_the_quartiles_of_a_few_images_are_those_of_their_nearest_others(count):
    embeddings = np.random.default_rng(count).standard_normal((count, 3))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = embeddings @ embeddings.T - 2 * np.eye(count)
    nearest = np.quantile(np.log(1 - cosines.max(axis=1)), [0.75, 0.5, 0.25])
    proposed = propose_threshold(embeddings)
    assert proposed.value == 0.999
    np.testing.assert_allclose(proposed.quartiles, 1 - np.exp(nearest), atol=1e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_a_threshold_for_no_pair_compares_nothing(count):
    assert propose_threshold(np.ones((count, 3), np.float32)).quartiles is None
    assert find_duplicates(np.ones((count, 3), np.float32), threshold=0.999) == []


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
