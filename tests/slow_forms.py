"""The method once more, in float64 NumPy and plain loops: what the fast forms are held against."""

import numpy as np


def pairwise_similarity(teacher: np.ndarray, sigma: float) -> np.ndarray:
    rows = [row / np.linalg.norm(row) for row in teacher.astype(np.float64)]
    return np.array([[np.exp(-np.sum((a - b) ** 2) / sigma) for b in rows] for a in rows])


def contextual_similarity(pairwise: np.ndarray, image_ids: np.ndarray, num_neighbors: int) -> np.ndarray:
    count = len(pairwise)
    neighbors = []
    for i in range(count):
        closeness = [2.0 if j == i else 1.0 if image_ids[i] == image_ids[j] else pairwise[i, j] for j in range(count)]
        neighbors.append(sorted(range(count), key=lambda j, closeness=closeness: -closeness[j])[:num_neighbors])
    reciprocal = [{j for j in neighbors[i] if i in neighbors[j]} for i in range(count)]
    overlap = np.zeros((count, count))
    for i in range(count):
        for j in reciprocal[i]:
            overlap[i, j] = len(reciprocal[i] & reciprocal[j]) / len(reciprocal[i])
    half = max(1, int(np.round(num_neighbors / 2)))
    expanded = np.array([np.mean([overlap[h] for h in neighbors[i][:half]], axis=0) for i in range(count)])
    return (expanded + expanded.T) / 2


def relative_distances(embeddings: np.ndarray) -> np.ndarray:
    rows = embeddings.astype(np.float64)
    distances = np.array([[np.sqrt(np.sum((a - b) ** 2)) for b in rows] for a in rows])
    return distances / distances.mean(axis=1, keepdims=True)


def relaxed_contrastive(embeddings: np.ndarray, similarity: np.ndarray, delta: float) -> float:
    relative = relative_distances(embeddings)
    count = len(relative)
    total = 0.0
    for i in range(count):
        for j in range(count):
            if i != j:
                push = max(delta - relative[i, j], 0.0)
                total += similarity[i, j] * relative[i, j] ** 2 + (1 - similarity[i, j]) * push**2
    return total / (count * (count - 1))


def self_distillation(embeddings: np.ndarray, target_embeddings: np.ndarray) -> float:
    total = 0.0
    for d, d_target in zip(relative_distances(embeddings), relative_distances(target_embeddings), strict=True):
        p, q = np.exp(-d_target) / np.exp(-d_target).sum(), np.exp(-d) / np.exp(-d).sum()
        total += np.sum(p * np.log(p / q))
    return total / len(embeddings)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def info_nce(queries: np.ndarray, keys: np.ndarray, negatives: np.ndarray, temperature: float) -> float:
    losses = []
    for query, key in zip(queries, keys, strict=True):
        right = np.exp(cosine(query, key) / temperature)
        wrong = sum(np.exp(cosine(query, negative) / temperature) for negative in negatives)
        losses.append(-np.log(right / (right + wrong)))
    return float(np.mean(losses))


def squared_distance_of_directions(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (row.astype(np.float64) / np.linalg.norm(row) for row in (a, b))
    return float(np.sum((a - b) ** 2))


def byol(predictions: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean([squared_distance_of_directions(*pair) for pair in zip(predictions, targets, strict=True)]))


def mean_shift(predictions: np.ndarray, targets: np.ndarray, memory: np.ndarray, top_k: int) -> float:
    losses = []
    for prediction, target in zip(predictions, targets, strict=True):
        nearest = sorted(memory, key=lambda row, target=target: squared_distance_of_directions(row, target))[:top_k]
        losses.append(np.mean([squared_distance_of_directions(prediction, row) for row in nearest]))
    return float(np.mean(losses))


def gradient(loss, point, step=1e-5):
    """Of a function of one array, by central differences, in float64."""
    point = np.asarray(point, np.float64)
    found = np.empty_like(point)
    for index in np.ndindex(point.shape):
        shift = np.zeros_like(point)
        shift[index] = step
        found[index] = (loss(point + shift) - loss(point - shift)) / (2 * step)
    return found
