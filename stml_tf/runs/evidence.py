"""Looks at images with the network of a run, for the page of the run. All is of bounded size, whatever the data."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from stml_tf.data.catalog import ImageSet
from stml_tf.data.loader import pixels_of
from stml_tf.data.transforms import random_view
from stml_tf.evaluation.layout import FEWEST, lay_out
from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.evaluation.query_results import QueryResults
from stml_tf.pages.evidence import ClassResult, Evidence, Found, Map, Pair, Similarities, ViewsOfImage
from stml_tf.pages.pictures import Picture, columns_of, data_address, picture_of_pixels, sprite
from stml_tf.runs.as_seen import SMALL_SIDE, Sample, choose_places, pixels_as_seen, shrink
from stml_tf.runs.prepare import Run

_ON_MAP = 800
_QUERIES = 8
_NEIGHBORS = 6
_PAIRS = 6
_CLASSES = 40
_PICTURED_CLASSES = 12
_VIEWED, _VIEWS = 5, 6
_BINS = 40
_RANDOM_PAIRS = 20_000
_SIDE = 160


def look(
    run: Run, sample: Sample, *, test_embeddings: np.ndarray | None = None, queries: QueryResults | None = None
) -> Evidence:
    """Find what a report shows of images.

    Args:
        run: The run.
        sample: What `sample_training_images` returned.
        test_embeddings: `[num_test_images, dim]` of the network as it is now; None without test images.
        queries: What they found.
    """
    random = np.random.default_rng(run.recipe.seed)
    tested = run.test is not None and test_embeddings is not None and queries is not None
    if tested:
        worst, drawn = _worst(run.test, queries), random.choice(queries.rows, min(_QUERIES, len(queries.rows)), False)
        shown = _found_in_test(run, test_embeddings, [*worst, *drawn])
    else:
        worst, drawn = [], random.choice(len(sample.rows), min(2 * _QUERIES, len(sample.rows)), False)
        shown = _found_in_training(run, sample, drawn)
    return Evidence(
        looked_up="test" if tested else "training",
        worst=shown[: len(worst)],
        random=shown[len(worst) :],
        classes=_classes(run, queries) if tested else [],
        num_classes=len(np.unique(run.test.labels[queries.rows])) if tested else 0,
        map=_map_of_test(run, test_embeddings, queries) if tested else _map_of_training(run, sample),
        similarities=_similarities(sample, random),
        pairs=_pairs(run, sample),
        sampled=len(sample.rows),
        training_images=len(run.data.images),
        views=_what_the_network_saw(run),
    )


def _name(images: ImageSet, place: int) -> str:
    described = images.describe(place)
    return described.rpartition("/")[2]


def _class_of(images: ImageSet, place: int) -> str:
    return images.class_names[images.labels[place]]


def _worst(test: ImageSet, queries: QueryResults) -> list[int]:
    """Return the worst queries, each of another class."""
    order = queries.rows[np.lexsort([queries.found[:, 0], queries.average_precision])]
    _, first = np.unique(test.labels[order], return_index=True)
    return order[np.sort(first)[:_QUERIES]].tolist()


def _found_in_test(run: Run, embeddings: np.ndarray, queries: Sequence[int]) -> list[Found]:
    test, first = run.test, run.num_queries or 0
    gallery = np.arange(first, len(test))
    k = min(_NEIGHBORS + 1, len(gallery))
    distances, found = nearest_neighbors(embeddings[list(queries)], embeddings[first:], k=k)
    matches = [
        [(int(gallery[row]), float(gap)) for row, gap in zip(*pair, strict=True) if gallery[row] != query][:_NEIGHBORS]
        for query, pair in zip(queries, zip(found, distances, strict=True), strict=True)
    ]
    pixels = pixels_as_seen(run, test, [*queries, *(place for row in matches for place, _ in row)], _SIDE)
    normalized = run.recipe.evaluation.normalize

    def picture(place: int, rank: int, gap: float, query: int) -> Picture:
        score = f"{1 - gap**2 / 2:.3f}" if normalized else f"{gap:.3g}"
        correct = bool(test.labels[place] == test.labels[query])
        verdict = "same class" if correct else "another class"
        return picture_of_pixels(
            pixels[place],
            alt=f"Neighbour {rank} of {_name(test, query)}: {_class_of(test, place)}, {verdict}, {score}",
            side=_SIDE,
            heading=score,
            caption=_class_of(test, place),
            title=test.describe(place),
            correct=correct,
        )

    return [
        Found(
            picture_of_pixels(
                pixels[int(query)],
                alt=f"Query: {_name(test, query)} of class {_class_of(test, query)}",
                side=_SIDE,
                heading=_class_of(test, query),
                caption=_name(test, query),
                title=test.describe(int(query)),
            ),
            [picture(place, rank, gap, query) for rank, (place, gap) in enumerate(row, start=1)],
        )
        for query, row in zip(queries, matches, strict=True)
    ]


def _found_in_training(run: Run, sample: Sample, queries: Sequence[int]) -> list[Found]:
    images = run.data.images.take(sample.rows)
    k = min(_NEIGHBORS + 1, len(sample.rows))
    distances, found = nearest_neighbors(sample.embeddings[queries], sample.embeddings, k=k)
    pixels = pixels_as_seen(run, images, [*queries, *found.ravel()], _SIDE)

    def picture(place: int, rank: int, gap: float, query: int) -> Picture:
        score = f"{1 - gap**2 / 2:.3f}"
        alt = f"Neighbour {rank} of {_name(images, query)}: {_name(images, place)}, cosine similarity {score}"
        said = {"heading": score, "caption": _name(images, place), "title": images.describe(place)}
        return picture_of_pixels(pixels[place], alt=alt, side=_SIDE, **said)

    return [
        Found(
            picture_of_pixels(
                pixels[int(query)],
                alt=f"Query: {_name(images, query)}",
                side=_SIDE,
                heading="Query",
                caption=_name(images, query),
                title=images.describe(int(query)),
            ),
            [
                picture(int(place), rank, float(gap), query)
                for rank, (place, gap) in enumerate(
                    [(place, gap) for place, gap in zip(*pair, strict=True) if place != query][:_NEIGHBORS], start=1
                )
            ],
        )
        for query, pair in zip(queries, zip(found, distances, strict=True), strict=True)
    ]


def _classes(run: Run, queries: QueryResults) -> list[ClassResult]:
    test = run.test
    labels = test.labels[queries.rows]
    nearest = test.labels[queries.nearest + (run.num_queries or 0)]
    classes, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    precision = np.bincount(inverse, queries.average_precision) / sizes
    hits = np.bincount(inverse, nearest == labels) / sizes
    worst = np.lexsort([hits, precision])[:_CLASSES]
    examples = {int(each): int(queries.rows[np.flatnonzero(inverse == each)[0]]) for each in worst[:_PICTURED_CLASSES]}
    pixels = pixels_as_seen(run, test, list(examples.values()), _SIDE)

    def result(each: int) -> ClassResult:
        wrong = Counter(nearest[(inverse == each) & (nearest != labels)].tolist())
        name = test.class_names[classes[each]]
        place = examples.get(each)
        return ClassResult(
            name=name,
            queries=int(sizes[each]),
            recall_at_1=float(hits[each]),
            map_at_r=float(precision[each]),
            mistaken_for=test.class_names[wrong.most_common(1)[0][0]] if wrong else None,
            picture=None if place is None else picture_of_pixels(pixels[place], alt=f"An image of {name}", side=_SIDE),
        )

    return [result(int(each)) for each in worst]


def _map_of_test(run: Run, embeddings: np.ndarray, queries: QueryResults) -> Map | None:
    chosen = choose_places(len(queries.rows), _ON_MAP, run.recipe.seed)
    rows = queries.rows[chosen]
    pixels = pixels_as_seen(run, run.test, rows, SMALL_SIDE)
    names = [_class_of(run.test, row) for row in rows]
    nearest = run.test.labels[queries.nearest[chosen] + (run.num_queries or 0)]
    right = (nearest == run.test.labels[rows]).tolist()
    return _map(embeddings[rows], [pixels[int(row)] for row in rows], names, right, run.recipe.seed)


def _map_of_training(run: Run, sample: Sample) -> Map | None:
    chosen = choose_places(len(sample.rows), _ON_MAP, run.recipe.seed)
    names = [_name(run.data.images, int(row)) for row in sample.rows[chosen]]
    return _map(sample.embeddings[chosen], list(sample.pixels[chosen]), names, None, run.recipe.seed)


def _map(
    embeddings: np.ndarray, pixels: Sequence[np.ndarray], names: list[str], right: list[bool] | None, seed: int
) -> Map | None:
    if len(embeddings) < FEWEST:
        return None
    points, method = lay_out(embeddings, seed=seed)
    return Map(
        method=method,
        points=[(round(float(x), 4), round(float(y), 4)) for x, y in points],
        names=names,
        right=right,
        sprite=data_address(sprite(pixels, side=SMALL_SIDE)),
        columns=columns_of(len(pixels)),
    )


def _similarities(sample: Sample, random: np.random.Generator) -> Similarities | None:
    count = len(sample.rows)
    if count < 3:
        return None
    first, second = random.integers(0, count, (2, _RANDOM_PAIRS))
    different = first != second
    pairs = np.einsum("nd,nd->n", sample.embeddings[first[different]], sample.embeddings[second[different]])
    nearest = _cosine(nearest_neighbors(sample.embeddings, k=1, exclude_self=True)[0][:, 0])
    low = np.floor(10 * min(pairs.min(), nearest.min(), 0.9)) / 10
    edges = np.linspace(max(low, -1.0), 1.0, _BINS + 1)
    counts = [np.histogram(np.clip(each, edges[0], 1.0), edges)[0].tolist() for each in (nearest, pairs)]
    return Similarities(edges.tolist(), *counts)


def _pairs(run: Run, sample: Sample) -> list[Pair]:
    """Return the most similar pairs, with each image in at most one of them."""
    if len(sample.rows) < 2:
        return []
    distances, nearest = nearest_neighbors(sample.embeddings, k=1, exclude_self=True)
    taken: set[int] = set()
    chosen: list[tuple[int, int]] = []
    for row in np.argsort(distances[:, 0], kind="stable").tolist():
        pair = {row, int(nearest[row, 0])}
        if not taken & pair:
            chosen.append((row, int(nearest[row, 0])))
            taken |= pair
        if len(chosen) == _PAIRS:
            break
    images = run.data.images.take(sample.rows)
    pixels = pixels_as_seen(run, images, [place for pair in chosen for place in pair], _SIDE)

    def picture(place: int) -> Picture:
        name = _name(images, place)
        return picture_of_pixels(pixels[place], alt=name, side=_SIDE, caption=name, title=images.describe(place))

    return [Pair(float(_cosine(distances[first, 0])), picture(first), picture(second)) for first, second in chosen]


def _cosine(distances: np.ndarray) -> np.ndarray:
    """From distances of L2-normalised embeddings."""
    return np.clip(1 - np.asarray(distances, np.float64) ** 2 / 2, -1, 1)


def _what_the_network_saw(run: Run) -> list[ViewsOfImage]:
    images, recipe = run.data.images, run.recipe
    places = np.linspace(0, len(images) - 1, min(_VIEWED, len(images))).astype(int)
    view = partial(random_view, **recipe.views.model_dump(exclude={"num_views"}))

    def shown(place: int) -> ViewsOfImage:
        pixels, name = pixels_of(images, place), _name(images, place)
        views = [shrink(view(pixels, [recipe.seed + place, number])[None], _SIDE)[0] for number in range(_VIEWS)]
        return ViewsOfImage(
            picture_of_pixels(pixels, alt=f"Training image {name}", side=_SIDE, heading="Image", caption=name),
            [picture_of_pixels(each, alt=f"View {n} of {name}", side=_SIDE) for n, each in enumerate(views, start=1)],
        )

    return [shown(int(place)) for place in places]
