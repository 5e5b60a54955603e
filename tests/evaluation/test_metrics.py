from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.evaluation import metrics as metrics_module
from stml_tf.evaluation import retrieval_metrics

NAMES = ("recall@1", "recall@2", "recall@4", "recall@8", "r_precision", "map@r")


def slow_metrics(embeddings, labels, recall_at, gallery=None, gallery_labels=None):
    """One query at a time, straight from the definitions."""
    own_search = gallery is None
    gallery, gallery_labels = (embeddings, labels) if own_search else (gallery, gallery_labels)
    gathered, without_match = [], 0
    for row, query in enumerate(embeddings.astype(np.float64)):
        distances = np.sqrt(((gallery - query) ** 2).sum(axis=1)).astype(np.float32)
        order = [column for column in np.argsort(distances, kind="stable") if not (own_search and column == row)]
        correct = [gallery_labels[column] == labels[row] for column in order]
        matches = sum(correct)
        if matches == 0:
            without_match += 1
            continue
        result = {f"recall@{k}": float(any(correct[:k])) for k in recall_at}
        result["r_precision"] = sum(correct[:matches]) / matches
        hits = [sum(correct[: rank + 1]) / (rank + 1) for rank in range(matches) if correct[rank]]
        result["map@r"] = sum(hits) / matches
        gathered.append(result)
    averages = {name: np.mean([result[name] for result in gathered]) for name in gathered[0]}
    return averages | {"queries": len(gathered), "queries_without_match": without_match}


def clustered(rows=120, dim=6, classes=9, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    centers = random.standard_normal((classes, dim))
    return (centers[labels] + 0.7 * random.standard_normal((rows, dim))).astype(np.float32), labels


def test_goldens():
    golden = np.load(Path(__file__).parents[1] / "goldens" / "retrieval.npz")
    ks = golden["ks"].tolist()
    metrics = retrieval_metrics(golden["embeddings"], golden["labels"], recall_at=ks)
    np.testing.assert_allclose([metrics[f"recall@{k}"] for k in ks], golden["recall_at_k"], rtol=1e-12)
    assert metrics["queries"] == 900


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_equals_the_slow_form_with_duplicates_single_images_and_large_k(data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows = data.draw(st.integers(2, 25))
    embeddings = random.integers(0, 3, (rows, data.draw(st.integers(1, 3)))).astype(np.float32)
    labels = random.integers(0, data.draw(st.integers(1, 12)), rows)
    labels[:2] = 7  # at least one query can be found
    recall_at = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True))
    assert retrieval_metrics(embeddings, labels, recall_at=recall_at) == pytest.approx(
        slow_metrics(embeddings, labels, recall_at)
    )
    gallery, gallery_labels = embeddings[::-1] + 1, labels[::-1]
    assert retrieval_metrics(
        embeddings, labels, recall_at=recall_at, gallery_embeddings=gallery, gallery_labels=gallery_labels
    ) == pytest.approx(slow_metrics(embeddings, labels, recall_at, gallery, gallery_labels))


def test_worked_example():
    # On a line, the query at 0 has the others at 1 (right), 2 (wrong), 3 (right): R = 2, so rank 3 counts for nothing.
    metrics = retrieval_metrics([[0.0]], [5], gallery_embeddings=[[1.0], [2.0], [3.0]], gallery_labels=[5, 6, 5])
    assert metrics["recall@1"] == 1
    assert metrics["r_precision"] == 0.5
    assert metrics["map@r"] == 0.5
    # With the wrong one first, the right one at rank 2 has precision 1/2, divided by R.
    metrics = retrieval_metrics([[0.0]], [5], gallery_embeddings=[[2.0], [1.0], [3.0]], gallery_labels=[5, 6, 5])
    assert (metrics["recall@1"], metrics["recall@2"], metrics["map@r"]) == (0, 1, 0.25)


def test_single_image_classes_are_left_out_and_counted():
    embeddings, labels = clustered()
    labels[:3] = 100, 101, 102
    metrics = retrieval_metrics(embeddings, labels)
    assert (metrics["queries"], metrics["queries_without_match"]) == (117, 3)
    assert retrieval_metrics(embeddings, labels) == pytest.approx(slow_metrics(embeddings, labels, (1, 2, 4, 8)))


def test_a_k_given_twice_counts_once():
    embeddings, labels = clustered()
    assert retrieval_metrics(embeddings, labels, recall_at=(1, 1)) == retrieval_metrics(
        embeddings, labels, recall_at=(1,)
    )


def test_k_beyond_the_candidates_looks_at_all_of_them():
    embeddings = np.arange(4, dtype=np.float32)[:, None]
    assert retrieval_metrics(embeddings, [0, 1, 2, 0], recall_at=(3, 50)) == {
        "recall@3": 1.0,
        "recall@50": 1.0,
        "r_precision": 0.0,
        "map@r": 0.0,
        "queries": 2,
        "queries_without_match": 2,
    }


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: x * 1e-3, id="scaled"),
        pytest.param(lambda x: x + 5, id="shifted"),
        pytest.param(lambda x: x @ np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0], id="rotated"),
        pytest.param(lambda x: np.pad(x, ((0, 0), (0, 3))), id="padded with zeros"),
    ],
)
def test_what_keeps_the_order_of_distances_keeps_the_metrics(change):
    embeddings, labels = clustered()
    before, after = retrieval_metrics(embeddings, labels), retrieval_metrics(change(embeddings), labels)
    assert after == pytest.approx(before)
    assert 0 < before["map@r"] < before["r_precision"] < before["recall@8"] < 1 + 1e-9


def test_order_of_the_images_and_names_of_the_classes_do_not_matter():
    embeddings, labels = clustered()
    order = np.random.default_rng(3).permutation(len(labels))
    renamed = np.random.default_rng(4).permutation(1000)[labels]
    shuffled = retrieval_metrics(embeddings[order], renamed[order])
    assert shuffled == pytest.approx(retrieval_metrics(embeddings, labels))


def test_perfect_and_hopeless_embeddings():
    labels = np.repeat(np.arange(5), 4)
    perfect = retrieval_metrics(np.eye(5, dtype=np.float32)[labels], labels, nmi=True)
    assert [perfect[name] for name in (*NAMES, "nmi")] == pytest.approx([1.0] * 7)
    # Pairs of neighbours on a line belong to different classes, and so do pairs of pairs.
    hopeless = retrieval_metrics(np.arange(20.0)[:, None], np.arange(20) % 5, recall_at=(1, 4), nmi=True)
    assert hopeless["recall@1"] == hopeless["map@r"] == 0
    assert hopeless["nmi"] < 0.6


@pytest.mark.parametrize("largest_full_kmeans", [20_000, 10])
def test_nmi_of_clear_clusters(largest_full_kmeans, monkeypatch):
    monkeypatch.setattr(metrics_module, "_LARGEST_FULL_KMEANS", largest_full_kmeans)
    labels = np.repeat(np.arange(3), 20)
    random = np.random.default_rng(0)
    embeddings = 10 * np.eye(3)[labels] + 0.1 * random.standard_normal((60, 3))
    assert retrieval_metrics(embeddings, labels, nmi=True)["nmi"] == pytest.approx(1)
    assert retrieval_metrics(embeddings, random.permutation(labels), nmi=True)["nmi"] < 0.2


@pytest.mark.parametrize(
    ("embeddings", "labels", "options", "message"),
    [
        (np.eye(3), [0, 0], {}, r"labels have the shape \(2,\), but embeddings of the shape \(3, 3\)"),
        (np.eye(3), [0, 1, 2], {}, "none of the 3 queries has another image of its class"),
        (np.eye(3), [0, 0, 1], {"recall_at": (0, 1)}, r"recall_at is \[0, 1\]"),
        (np.eye(3), [0, 0, 1], {"recall_at": ()}, r"recall_at is \[\]"),
        (np.eye(3), [0, 0, 1], {"gallery_embeddings": np.eye(3)}, "go together"),
        (np.eye(3), [0, 0, 1], {"gallery_embeddings": np.eye(3), "gallery_labels": [0]}, "gallery_labels have the"),
        (np.full((3, 2), np.nan), [0, 0, 1], {}, "NaN or infinity in 3 of 3 rows"),
    ],
)
def test_bad_input(embeddings, labels, options, message):
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(embeddings, labels, **options)
