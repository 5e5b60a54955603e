"""A batch that has everything: classes of several sizes, one of a single row, and rows near to the wrong class."""

import numpy as np

NUM_CLASSES, DIM = 7, 5
LABELS = np.array([4, 0, 4, 2, 6, 0, 4, 2, 2, 0, 4, 1])


def embeddings() -> np.ndarray:
    random = np.random.default_rng(3)
    centres = random.normal(size=(NUM_CLASSES, DIM))
    return (centres[LABELS] + 0.7 * random.normal(size=(len(LABELS), DIM))).astype(np.float32)


def proxies() -> np.ndarray:
    return np.random.default_rng(4).normal(size=(NUM_CLASSES, DIM)).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.sqrt(np.sum(rows**2, axis=1, keepdims=True))
