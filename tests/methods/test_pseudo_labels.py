import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.methods.pseudo_labels import contextual_similarity, self_taught_similarity, with_true_relations
from tests import slow_forms

GOLDEN_BATCHES = [f"stml_loss_{i}" for i in range(6)]


@pytest.mark.parametrize("name", GOLDEN_BATCHES)
def test_similarity_equals_the_authors(golden, name):
    batch = golden(name)
    similarity = self_taught_similarity(
        batch["teacher_g"], batch["image_ids"], num_neighbors=int(batch["topk"]), sigma=float(batch["sigma"])
    )
    np.testing.assert_allclose(similarity.pairwise, batch["pairwise_similarity"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(similarity.contextual, batch["contextual_similarity"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(similarity.combined, batch["similarity"], rtol=1e-5, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(2, 10),
    views=st.integers(1, 3),
    neighbors=st.integers(1, 30),
    sigma=st.floats(0.1, 5.0),
    weight=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_similarity_equals_the_slow_form(images, views, neighbors, sigma, weight, seed):
    random = np.random.default_rng(seed)
    rows = images * views
    num_neighbors = min(neighbors, rows)
    teacher = random.normal(size=(rows, 6)).astype(np.float32)
    image_ids = np.repeat(np.arange(images), views)
    similarity = self_taught_similarity(teacher, image_ids, num_neighbors=num_neighbors, sigma=sigma)
    pairwise = slow_forms.pairwise_similarity(teacher, sigma)
    np.testing.assert_allclose(similarity.pairwise, pairwise, rtol=2e-5, atol=1e-6)
    contextual = slow_forms.contextual_similarity(pairwise, image_ids, num_neighbors)
    np.testing.assert_allclose(similarity.contextual, contextual, rtol=1e-5, atol=1e-6)
    weighted = self_taught_similarity(
        teacher, image_ids, num_neighbors=num_neighbors, sigma=sigma, contextual_weight=weight
    )
    np.testing.assert_allclose(weighted.combined, (1 - weight) * pairwise + weight * contextual, rtol=2e-5, atol=2e-6)
    for each in (*similarity, weighted.combined):
        each = np.asarray(each)
        assert each.min() >= 0 and each.max() <= 1
        # A matrix product's blocks may round (i, j) and (j, i) apart by one unit in the last place.
        np.testing.assert_allclose(each, each.T, atol=2e-7)


def test_similarity_follows_a_permutation_of_the_batch(random):
    teacher = random.normal(size=(24, 8)).astype(np.float32)
    image_ids = np.repeat(np.arange(24), 1)
    order = random.permutation(24)
    straight = self_taught_similarity(teacher, image_ids, num_neighbors=5, sigma=1.0)
    permuted = self_taught_similarity(teacher[order], image_ids[order], num_neighbors=5, sigma=1.0)
    for a, b in zip(straight, permuted, strict=True):
        np.testing.assert_allclose(np.asarray(a)[np.ix_(order, order)], b, rtol=1e-5, atol=1e-6)


def test_an_image_repeated_more_often_than_neighbors_keeps_itself():
    pairwise = np.ones((6, 6), np.float32)
    similarity = np.asarray(contextual_similarity(pairwise, np.zeros(6, np.int64), num_neighbors=2))
    assert np.all(np.diag(similarity) > 0)


@pytest.mark.parametrize("teacher", [np.zeros((6, 4)), np.ones((6, 4)), np.full((6, 4), 6e4)])
def test_collapsed_embeddings_give_finite_similarity(teacher):
    similarity = self_taught_similarity(teacher.astype(np.float16), np.arange(6), num_neighbors=2, sigma=3.0)
    assert all(np.all(np.isfinite(each)) for each in similarity)
    np.testing.assert_allclose(similarity.pairwise, 1.0)


def test_float16_is_computed_in_float32(random):
    teacher = random.normal(size=(12, 8)).astype(np.float16)
    ids = np.arange(12)
    half = self_taught_similarity(teacher, ids, num_neighbors=3, sigma=0.5)
    single = self_taught_similarity(teacher.astype(np.float32), ids, num_neighbors=3, sigma=0.5)
    for a, b in zip(half, single, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_gradient_flows_into_the_pseudo_labels(random):
    teacher = tf.Variable(random.normal(size=(8, 4)).astype(np.float32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(self_taught_similarity(teacher, tf.range(8), num_neighbors=2, sigma=1.0).combined)
    assert tape.gradient(total, teacher) is None


def test_a_batch_of_unknown_size_works_in_a_graph(random):
    @tf.function(input_signature=[tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int64)])
    def combined(teacher, ids):
        return self_taught_similarity(teacher, ids, num_neighbors=3, sigma=1.0).combined

    teacher = random.normal(size=(10, 4)).astype(np.float32)
    eager = self_taught_similarity(teacher, np.arange(10), num_neighbors=3, sigma=1.0).combined
    np.testing.assert_allclose(combined(teacher, np.arange(10)), eager, rtol=1e-6)


@pytest.mark.parametrize("num_neighbors", [0, 9])
def test_a_neighborhood_that_does_not_fit_is_refused(num_neighbors):
    with pytest.raises(ValueError, match=f"num_neighbors={num_neighbors} must be between 1 and the 8 rows"):
        self_taught_similarity(np.ones((8, 4)), np.arange(8), num_neighbors=num_neighbors, sigma=1.0)


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_a_weight_outside_0_to_1_is_refused(weight):
    with pytest.raises(ValueError, match=f"contextual_weight={weight} must be from 0 to 1"):
        self_taught_similarity(np.ones((8, 4)), np.arange(8), num_neighbors=2, sigma=1.0, contextual_weight=weight)


def test_a_sigma_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"sigma=0\.0 must be positive"):
        self_taught_similarity(np.ones((8, 4)), np.arange(8), num_neighbors=2, sigma=0.0)


def test_what_is_known_takes_the_place_of_predictions(random):
    predicted = random.uniform(size=(6, 6)).astype(np.float32)
    labels = np.array([1, -1, 0, 1, -1, 0])
    similarity = np.asarray(with_true_relations(predicted, labels))
    for i in range(6):
        for j in range(6):
            known = labels[i] >= 0 and labels[j] >= 0
            assert similarity[i, j] == (float(labels[i] == labels[j]) if known else predicted[i, j])
