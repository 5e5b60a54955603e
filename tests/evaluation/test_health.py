from dataclasses import replace

import numpy as np
import pytest

from stml_tf.evaluation.health import (
    Health,
    Verdict,
    effective_rank,
    kept_share,
    measure_health,
    pairwise_cosines,
    reciprocal_share,
    verdict,
    view_agreement,
)


def slow_neighbors(embeddings, k):
    unit = [row / np.linalg.norm(row) for row in np.asarray(embeddings, np.float64)]
    return [
        set(sorted((j for j in range(len(unit)) if j != i), key=lambda j: -unit[i] @ unit[j])[:k])
        for i in range(len(unit))
    ]


@pytest.fixture
def views(random):
    images = random.normal(size=(30, 6))
    return np.stack([images + 0.5 * random.normal(size=images.shape) for _ in range(2)])


def test_every_measure_is_that_of_a_slow_form(views, random):
    last, start = (views + random.normal(size=views.shape) * noise for noise in (0.2, 0.8))
    found = measure_health(views, last=last, start=start, num_neighbors=4)
    first = views[0] / np.linalg.norm(views[0], axis=1, keepdims=True)
    cosines = [first[i] @ first[j] for i in range(30) for j in range(30) if i != j]
    near, near_last, near_start = (slow_neighbors(each[0], 4) for each in (views, last, start))
    near_in_second = slow_neighbors(views[1], 4)
    nearest = [next(iter(found)) for found in slow_neighbors(np.concatenate(views), 1)]
    values = np.sqrt(np.linalg.eigvalsh(30 * np.cov(first.T, bias=True)))
    shares = values / values.sum()
    expected = {
        "effective_rank": np.prod(shares**-shares),
        "cosine_mean": np.mean(cosines),
        "cosine_spread": np.std(cosines),
        "view_agreement": np.mean([nearest[i] == (i + 30) % 60 for i in range(60)]),
        "reciprocal_share": np.mean([i in near[j] for i in range(30) for j in near[i]]),
        "shared_neighbors": np.mean([len(a & b) / 4 for a, b in zip(near, near_in_second, strict=True)]),
        "shared_neighborhood": np.mean(
            [len(a & b) / 16 for a, b in zip(*(slow_neighbors(each, 16) for each in views), strict=True)]
        ),
        "kept_from_last": np.mean([len(a & b) / 4 for a, b in zip(near, near_last, strict=True)]),
        "kept_from_start": np.mean([len(a & b) / 4 for a, b in zip(near, near_start, strict=True)]),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-5, err_msg=name)
    assert found.score == pytest.approx(np.sqrt(expected["view_agreement"] * expected["shared_neighbors"]))


def test_a_rotation_and_a_scale_change_nothing(views, random):
    rotation, _ = np.linalg.qr(random.normal(size=(6, 6)))
    a, b = measure_health(views), measure_health(3 * views @ rotation)
    for name in (
        "effective_rank",
        "cosine_mean",
        "cosine_spread",
        "view_agreement",
        "reciprocal_share",
        "shared_neighbors",
        "shared_neighborhood",
    ):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-4)


def test_the_effective_rank_counts_directions():
    assert effective_rank(np.concatenate([np.eye(7), -np.eye(7)])) == pytest.approx(7)
    assert effective_rank(np.ones((5, 3))) == pytest.approx(1)
    assert effective_rank(np.zeros((5, 3))) == 1
    shifted = 100.0 + np.concatenate([np.eye(7), -np.eye(7)])
    assert effective_rank(shifted) == pytest.approx(7)


def test_a_collapsed_embedding_is_told_from_a_spread_one(random):
    spread = random.normal(size=(2, 50, 16))
    spread[1] = spread[0] + 0.01 * random.normal(size=(50, 16))
    collapsed = np.ones((2, 50, 16)) + 0.01 * random.normal(size=(2, 50, 1)) * random.normal(size=16)
    good, bad = measure_health(spread), measure_health(collapsed)
    assert good.effective_rank > 10 > 2 > bad.effective_rank
    assert bad.cosine_mean > 0.99 > 0.1 > good.cosine_mean
    assert good.view_agreement == 1
    assert good.score > bad.score


def test_an_embedding_of_all_zeros_is_finite():
    found = measure_health(np.zeros((2, 5, 3)))
    assert np.isfinite([found.effective_rank, found.cosine_mean, found.cosine_spread, found.score]).all()


def test_hubs_make_neighbors_one_sided():
    assert reciprocal_share(np.array([[1], [0], [0], [0]])) == pytest.approx(2 / 4)
    assert reciprocal_share(np.array([[1], [0], [3], [2]])) == 1


def test_a_point_to_which_all_collapse_has_no_score(random):
    assert measure_health(np.ones((2, 200, 8))).score < 0.1


def test_a_direction_that_tells_little_has_neighbours_but_no_health(random):
    """Images along a line have the same neighbours in either view, and are not told from each other."""
    line = np.concatenate([np.ones((200, 1)), random.normal(size=(200, 1))], axis=1)
    found = measure_health(np.stack([line + 0.01 * random.normal(size=line.shape) for _ in range(2)]))
    good = random.normal(size=(200, 16))
    better = measure_health(np.stack([good + 0.3 * random.normal(size=good.shape) for _ in range(2)]))
    assert found.shared_neighbors > better.shared_neighbors and found.score < better.score


def test_kinds_that_come_together_lose_their_order_but_not_their_neighbourhood(random):
    """12 kinds of 20 images: apart from each other, then as one point each with noise around it."""
    kinds, images, noise = (
        random.normal(size=(12, 1, 16)),
        random.normal(size=(12, 20, 16)),
        random.normal(size=(2, 240, 16)),
    )
    spread, close = (measure_health((kinds + size * images).reshape(240, 16) + 0.3 * noise) for size in (1.0, 0.1))
    assert close.score < spread.score
    assert close.shared_neighborhood > spread.shared_neighborhood + 0.1
    assert verdict([spread, close], frozen=spread) is not Verdict.WORSE_THAN_FROZEN


def test_neighbors_are_kept_in_any_order():
    assert kept_share(np.array([[1, 2], [0, 2], [0, 1]]), np.array([[2, 1], [2, 0], [1, 0]])) == 1
    assert kept_share(np.array([[1], [2], [0]]), np.array([[2], [2], [1]])) == pytest.approx(1 / 3)


def test_cosines_are_of_different_rows():
    assert pairwise_cosines(np.array([[1.0, 0], [0, 1.0], [-1.0, 0]])) == pytest.approx((-1 / 3, np.sqrt(2) / 3))


def test_views_of_few_images_are_refused():
    with pytest.raises(ValueError, match="2 images given, but health is measured on 3 or more"):
        measure_health(np.ones((2, 2, 4)))


def test_views_agree_where_they_are_nearest():
    assert view_agreement(np.eye(3), np.eye(3)) == 1
    assert view_agreement(np.eye(4)[:2], np.eye(4)[2:]) < 1


GOOD = Health(100.0, 0.05, 0.1, view_agreement=0.64, reciprocal_share=0.64, shared_neighbors=0.64)


def scored(*scores):
    return [replace(GOOD, view_agreement=score, shared_neighbors=score) for score in scores]


def certain(*pairs):
    return [replace(scored(score)[0], shared_neighborhood=share) for score, share in pairs]


@pytest.mark.parametrize(
    ("history", "frozen", "expected"),
    [
        (scored(0.5), None, Verdict.HEALTHY),
        (scored(0.5, 0.6, 0.7), None, Verdict.HEALTHY),
        (scored(0.5, 0.6, 0.7), scored(0.8)[0], Verdict.WORSE_THAN_FROZEN),
        (scored(0.5), scored(0.8)[0], Verdict.HEALTHY),  # before training, which is to make up for it
        (scored(0.5, 0.7, 0.69, 0.68, 0.7), None, Verdict.NO_LONGER_IMPROVING),
        (scored(0.5, 0.7, 0.69, 0.68, 0.71), None, Verdict.HEALTHY),
        (scored(0.7, 0.4), None, Verdict.COLLAPSING),
        ([GOOD, replace(GOOD, effective_rank=30.0)], None, Verdict.COLLAPSING),
        ([GOOD, replace(GOOD, cosine_mean=0.95)], GOOD, Verdict.HEALTHY),
        # Where kinds come together, chance says which of a kind are nearest, but not which kind.
        (certain((0.8, 0.4), (0.5, 0.56)), certain((0.8, 0.4))[0], Verdict.HEALTHY),
        (certain((0.8, 0.4), (0.5, 0.4)), certain((0.8, 0.4))[0], Verdict.WORSE_THAN_FROZEN),
        (certain((0.7, 0.4), (0.69, 0.4), (0.68, 0.43), (0.67, 0.46), (0.66, 0.49)), None, Verdict.HEALTHY),
        (certain((0.7, 0.4), (0.69, 0.4), (0.68, 0.4), (0.67, 0.4), (0.66, 0.4)), None, Verdict.NO_LONGER_IMPROVING),
        (certain((0.8, 0.4), (0.3, 0.9)), certain((0.8, 0.4))[0], Verdict.COLLAPSING),
    ],
)
def test_the_verdict_tells_what_happens(history, frozen, expected):
    assert verdict(history, frozen=frozen) is expected
