"""Finds images that look alike, so that all but one of each group could go. In bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from stml_tf.errors import UserError

LARGEST_SHARE = 0.2
_BLOCK = 2048
_ROUNDING = 1e-6  # Of a cosine in float32: an image is not exactly like its own copy.
_SAMPLE = 5_000
_NEIGHBORS = 5
_FEWEST_TO_PROPOSE = 20
_LEAST_GAP = 5  # Standard deviations; the halves of a normal distribution are 2.6 apart.
_STRICT = 0.999
_WIDTHS = 5  # Of the upper quarter; 3.4 standard deviations of a normal distribution.


@dataclass(frozen=True, eq=False)
class DuplicateGroup:
    """Images that are all like one of them.

    Attributes:
        kept: Row of the one to keep.
        others: Rows of the others, the most similar first, int64.
        similarities: Their cosine similarities to the kept one, float32.
    """

    kept: int
    others: np.ndarray
    similarities: np.ndarray

    def __len__(self) -> int:
        return 1 + len(self.others)


@dataclass(frozen=True)
class ProposedThreshold:
    """A threshold, and the distribution of similarities that it was read from.

    Attributes:
        value: Cosine similarity.
        quartiles: Similarities to the nearest different neighbour, of 25, 50 and 75 % of the images; None if there are
            fewer than two images.
    """

    value: float
    quartiles: tuple[float, float, float] | None


def find_duplicates(
    embeddings: np.ndarray,
    *,
    threshold: float,
    preference: np.ndarray | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[DuplicateGroup]:
    """Group embeddings around those that are kept.

    The images are gone through in the order of preference. One that is in no group yet is kept, and all later ones
    whose cosine similarity to it reaches the threshold join its group. So none goes that is not that like one that
    stays. Every pair is looked at, a block at a time: the time grows with the square of the number of images, the
    memory with their number.

    Args:
        embeddings: `[count, dim]`, finite numbers, normalised or not.
        threshold: Least cosine similarity to the kept one, above 0 and at most 1.
        preference: `[count]`, int64: the rows, the one to keep first; by default in their order.
        on_progress: Called with how many pairs are done and how many there are.

    Returns:
        The groups of two and more, the largest first.

    Raises:
        UserError: If the threshold is out of range.
    """
    check_threshold(threshold)
    count = len(embeddings)
    order = np.arange(count) if preference is None else preference
    kept_by = np.full(count, -1)  # Places in the order, as all below.
    similarity = np.zeros(count, np.float32)
    done = 0
    for first in range(0, count, _BLOCK):
        rows = unit_rows(embeddings[order[first : first + _BLOCK]])
        here = slice(first, first + len(rows))
        scores = rows @ rows.T
        for place in range(len(rows)):
            if kept_by[first + place] < 0:
                free = np.flatnonzero((kept_by[here] < 0) & (scores[place] >= threshold - _ROUNDING))
                joining = free[free > place]
                kept_by[first + joining] = first + place
                similarity[first + joining] = scores[place, joining]
        keeping = np.flatnonzero(kept_by[here] < 0)
        for second in range(first + len(rows), count, _BLOCK):
            columns = second + np.flatnonzero(kept_by[second : second + _BLOCK] < 0)
            if not len(keeping) or not len(columns):
                continue
            scores = rows[keeping] @ unit_rows(embeddings[order[columns]]).T
            alike = scores >= threshold - _ROUNDING
            joining = np.flatnonzero(alike.any(axis=0))
            by = alike[:, joining].argmax(axis=0)  # The first, which is the preferred one.
            kept_by[columns[joining]] = first + keeping[by]
            similarity[columns[joining]] = scores[by, joining]
        done += sum(count - 1 - place for place in range(first, first + len(rows)))
        if on_progress is not None:
            on_progress(done, count * (count - 1) // 2)
    groups = [
        DuplicateGroup(int(order[kept]), order[others], np.minimum(similarity[others], 1))
        for kept, others in _by_kept(kept_by, similarity)
    ]
    return sorted(groups, key=lambda group: (-len(group), group.kept))


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that is not a cosine similarity.

    Args:
        threshold: The threshold.

    Raises:
        UserError: If it is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"the threshold is {threshold}, but must be a cosine similarity above 0 and at most 1")


def propose_threshold(embeddings: np.ndarray) -> ProposedThreshold:
    """Read off how similar two images must be to be more alike than different images of this model are.

    Each image has distances, `1 - similarity`, to its nearest neighbours. Where these fall into two heaps on a
    logarithmic scale, the lower one is of copies, and an image's nearest different neighbour is the first in the upper.
    Its distances are spread about a median; the threshold lies five times as far below it as the upper quartile
    lies above; the lower half would not do, as near-copies widen it.

    Args:
        embeddings: `[count, dim]`, finite numbers; of many, 5,000 are looked at.

    Returns:
        The threshold; 0.999 where there are fewer than 20 images that have a neighbour unlike them.
    """
    if len(embeddings) < 2:
        return ProposedThreshold(_STRICT, None)
    rows = np.sort(np.random.default_rng(0).permutation(len(embeddings))[:_SAMPLE])
    distances = np.log(np.maximum(1 - _greatest_similarities(embeddings, rows), _ROUNDING))
    copied = distances <= np.log(2 * _ROUNDING)
    # A few distances seem to fall into two heaps by chance.
    border = _border_of_two_heaps(distances[~copied]) if len(embeddings) >= _FEWEST_TO_PROPOSE else -np.inf
    different = np.where(copied | (distances < border), np.inf, distances).min(axis=1, initial=np.inf)
    different = different[np.isfinite(different)]
    if len(different) < _FEWEST_TO_PROPOSE:
        return ProposedThreshold(_STRICT, _as_similarities(different if len(different) else distances.min(axis=1)))
    middle, high = np.quantile(different, [0.5, 0.75])
    fence = np.exp(middle - _WIDTHS * (high - middle))
    return ProposedThreshold(float(np.clip(1 - fence, 0.5, 1 - _ROUNDING)), _as_similarities(different))


def _as_similarities(log_distances: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = 1 - np.exp(np.quantile(log_distances, [0.75, 0.5, 0.25]))
    return float(low), float(middle), float(high)


def _border_of_two_heaps(values: np.ndarray) -> float:
    """Find the border between two heaps of numbers (Otsu, IEEE Trans. SMC 9, 1979); minus infinity if there is one."""
    if len(values) < 2:
        return -np.inf
    ordered = np.sort(values)
    sums, counts = np.cumsum(ordered), np.arange(1, len(ordered) + 1)
    below = sums[:-1] / counts[:-1]
    above = (sums[-1] - sums[:-1]) / (len(ordered) - counts[:-1])
    between = counts[:-1] * (len(ordered) - counts[:-1]) * (above - below) ** 2
    split = int(np.argmax(between))
    apart = above[split] - below[split] > _LEAST_GAP * ordered[split + 1 :].std()
    return float(ordered[split : split + 2].mean()) if apart else -np.inf


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """L2-normalise embeddings, `[count, dim]`; those of length zero stay zero."""
    embeddings = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)


def _greatest_similarities(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Find each row's five greatest similarities to others, `[len(rows), 5]`; fewer columns if there are fewer."""
    queries = unit_rows(embeddings[rows])
    greatest = np.empty((len(rows), 0), np.float32)
    for start in range(0, len(embeddings), _BLOCK):
        scores = queries @ unit_rows(embeddings[start : start + _BLOCK]).T
        own = np.flatnonzero((rows >= start) & (rows < start + _BLOCK))
        scores[own, rows[own] - start] = -np.inf
        candidates = np.concatenate([greatest, scores], axis=1)
        nearest = min(_NEIGHBORS + 1, candidates.shape[1])  # One more, as a row itself may be among them.
        greatest = np.partition(candidates, -nearest, axis=1)[:, -nearest:]
    return np.sort(greatest, axis=1)[:, 1:]


def _by_kept(kept_by: np.ndarray, similarity: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    others = np.flatnonzero(kept_by >= 0)
    others = others[np.lexsort([others, -similarity[others], kept_by[others]])]
    starts = np.flatnonzero(np.diff(kept_by[others], prepend=-1))
    for group in np.split(others, starts[1:]) if len(others) else ():
        yield kept_by[group[0]], group
