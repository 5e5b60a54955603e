"""The health of an embedding while it is trained, measured without labels.

A loss over pseudo labels that the network makes itself may fall while retrieval gets worse, and rise while it gets
better. These measures, taken on two random views of the same images, drawn once, tell such cases apart.

Effective rank: Roy, Vetterli: The Effective Rank, EUSIPCO 2007; Garrido et al.: RankMe, ICML 2023, arXiv 2210.02885.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from stml_tf.errors import UserError
from stml_tf.evaluation.embed import l2_normalized
from stml_tf.evaluation.neighbors import nearest_neighbors

LARGEST_SAMPLE = 2000
NUM_NEIGHBORS = 5
PATIENCE = 3
_WIDER = 4
# Shares of the best value so far; below them, an embedding counts as collapsed.
_COLLAPSED_RANK = 0.35
_COLLAPSED_AGREEMENT = 0.6
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Health:
    """The measures of an embedding's health.

    Attributes:
        effective_rank: Number of directions in which embeddings spread, from 1 to their dimension.
        cosine_mean: Mean cosine of two different images; if it is near 1, all images look alike.
        cosine_spread: Standard deviation of these cosines.
        view_agreement: How often the nearest neighbour of a view of an image is its other view, in [0, 1].
        reciprocal_share: Share of neighbours that are mutual, in [0, 1].
        shared_neighbors: Share of an image's neighbours in one view that are its neighbours in the other, in [0, 1].
        kept_from_last: Share of an image's neighbours that already were neighbours an epoch before; None at first.
        kept_from_start: Share of them that already were neighbours before training; None without a start.
        shared_neighborhood: As `shared_neighbors`, of four times as many; None in runs of earlier versions.
    """

    effective_rank: float
    cosine_mean: float
    cosine_spread: float
    view_agreement: float
    reciprocal_share: float
    shared_neighbors: float
    kept_from_last: float | None = None
    kept_from_start: float | None = None
    shared_neighborhood: float | None = None

    @property
    def score(self) -> float:
        """A single number in [0, 1] to watch; larger is better.

        It is the geometric mean of view agreement and shared neighbours. It is high if an image is told from all others
        however it is cropped, and has the same neighbours then. Neither is enough: a few directions that tell little
        give the same neighbours too, and as images of a kind come closer, the other view is no longer the nearest.
        """
        return float(np.sqrt(self.view_agreement * self.shared_neighbors))


class Verdict(Enum):
    """The state of a run, and what to do about it."""

    HEALTHY = "healthy"
    COLLAPSING = "collapsing: lower optimizer.learning_rate, raise loss.sigma, or set teacher.center"
    NO_LONGER_IMPROVING = "no longer improving: stop here, or train again with fewer epochs"
    WORSE_THAN_FROZEN = (
        'worse than frozen: lower optimizer.learning_rate, train fewer blocks, or use "method": "whiten"'
    )


def measure_health(
    views: np.ndarray,
    *,
    last: np.ndarray | None = None,
    start: np.ndarray | None = None,
    num_neighbors: int = NUM_NEIGHBORS,
) -> Health:
    """Measure the health of an embedding on two views of the same images.

    Args:
        views: `[2, images, dim]` embeddings of at least three images, normalised here.
        last: `[2, images, last_dim]`, the views' embeddings an epoch before.
        start: `[2, images, start_dim]`, their embeddings before training; of a pretrained network, the frozen ones.
        num_neighbors: Number of neighbours of an image to look at, not counting itself; at most all others.

    Raises:
        UserError: If there are fewer than three images.
    """
    first, second = (l2_normalized(view) for view in views)
    if len(first) < 3:
        raise UserError(f"{len(first)} images given, but health is measured on 3 or more.")
    num_neighbors = min(num_neighbors, len(first) - 1)
    wide, wide_in_second = (_neighbors(view, min(_WIDER * num_neighbors, len(first) - 1)) for view in (first, second))
    neighbors, in_second = wide[:, :num_neighbors], wide_in_second[:, :num_neighbors]
    cosine_mean, cosine_spread = pairwise_cosines(first)
    return Health(
        effective_rank=effective_rank(first),
        cosine_mean=cosine_mean,
        cosine_spread=cosine_spread,
        view_agreement=view_agreement(first, second),
        reciprocal_share=reciprocal_share(neighbors),
        shared_neighbors=kept_share(neighbors, in_second),
        kept_from_last=None if last is None else kept_share(neighbors, _neighbors(last[0], num_neighbors)),
        kept_from_start=None if start is None else kept_share(neighbors, _neighbors(start[0], num_neighbors)),
        shared_neighborhood=kept_share(wide, wide_in_second),
    )


def effective_rank(embeddings: np.ndarray) -> float:
    """Compute the exponential of the entropy of the singular values of centred embeddings.

    Args:
        embeddings: `[rows, dim]`, any range.

    Returns:
        A number from 1 to the smaller of `rows` and `dim`.
    """
    embeddings = np.asarray(embeddings, np.float64)
    # A component that all images share does not tell them apart, and would hide in how many directions they differ.
    values = np.linalg.svd(embeddings - embeddings.mean(axis=0), compute_uv=False)
    if not values.sum() > 0:
        return 1.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def pairwise_cosines(embeddings: np.ndarray) -> tuple[float, float]:
    """Measure how alike all images look to the network.

    Args:
        embeddings: `[rows, dim]`, two rows or more, normalised here.

    Returns:
        The mean and the standard deviation of the cosines of all pairs of different rows.
    """
    embeddings = l2_normalized(embeddings)
    cosines = (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), 1)]
    return float(cosines.mean()), float(cosines.std())


def view_agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Measure how often the nearest neighbour of a view, among the views of all images, is the image's other view.

    Args:
        first: `[images, dim]`, one view of each image, normalised here.
        second: `[images, dim]`, another, in the same order, normalised here.

    Returns:
        A share in [0, 1].
    """
    both = np.concatenate([l2_normalized(first), l2_normalized(second)])
    _, nearest = nearest_neighbors(both, k=1, exclude_self=True)
    other = np.roll(np.arange(len(both)), len(first))
    return float(np.mean(nearest[:, 0] == other))


def reciprocal_share(neighbors: np.ndarray) -> float:
    """Measure how often neighbours have each other among their neighbours.

    Args:
        neighbors: `[rows, k]`, the indices of each row's neighbours, itself not included.

    Returns:
        The share of neighbours that have the row among their own, in [0, 1].
    """
    near = _membership(neighbors)
    return float((near & near.T).sum() / near.sum())


def kept_share(neighbors: np.ndarray, others: np.ndarray) -> float:
    """Measure how many neighbours stay the same from one embedding to another.

    Args:
        neighbors: `[rows, k]`, the indices of each row's neighbours.
        others: `[rows, k]`, those by the other embedding.

    Returns:
        The share of neighbours that are among those of the same row in `others`, in [0, 1].
    """
    return float((_membership(neighbors) & _membership(others)).sum() / neighbors.size)


def verdict(history: Sequence[Health], *, frozen: Health | None = None) -> Verdict:
    """Judge a run by its health so far.

    As the images of a kind come closer, another of them may be nearer than the other view, and which five are nearest
    becomes a matter of chance, so that the score falls while retrieval improves. The neighbourhood of four times as
    many images then is more certain than before. So a falling score is a finding only where that is not.

    Args:
        history: The health before training and after each epoch.
        frozen: The health of the best embedding that a pretrained network gives without training; None if the network
            started at random.
    """
    now, before = history[-1], history[:-1]
    # A mean cosine near 1 is no symptom: untrained networks start there, and neighbours may be found all the same.
    if before:
        best_rank = max(health.effective_rank for health in before)
        best_agreement = max(health.view_agreement for health in before)
        if (
            now.effective_rank < _COLLAPSED_RANK * best_rank
            or now.view_agreement < _COLLAPSED_AGREEMENT * best_agreement
        ):
            return Verdict.COLLAPSING
    if frozen is not None and before and now.score < frozen.score - _TOLERANCE and not _more_certain([now], [frozen]):
        return Verdict.WORSE_THAN_FROZEN
    if len(history) > PATIENCE + 1:
        recent, earlier = history[-PATIENCE:], history[:-PATIENCE]
        if max(each.score for each in recent) <= max(each.score for each in earlier) and not _more_certain(
            recent, earlier
        ):
            return Verdict.NO_LONGER_IMPROVING
    return Verdict.HEALTHY


def _more_certain(now: Sequence[Health], before: Sequence[Health]) -> bool:
    """Whether neighbourhoods hold for both views more often than they did."""
    best, best_before = (max(each.shared_neighborhood or 0.0 for each in healths) for healths in (now, before))
    return best > best_before + _TOLERANCE


def _neighbors(embeddings: np.ndarray, num_neighbors: int) -> np.ndarray:
    return nearest_neighbors(l2_normalized(embeddings), k=num_neighbors, exclude_self=True)[1]


def _membership(neighbors: np.ndarray) -> np.ndarray:
    """Turn `[rows, k]` indices into a `[rows, rows]` mask."""
    near = np.zeros((len(neighbors), len(neighbors)), bool)
    np.put_along_axis(near, neighbors, True, axis=1)
    return near
