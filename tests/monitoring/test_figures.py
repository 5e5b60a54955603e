import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from stml_tf.monitoring.figures import figure_to_png, pick_queries, retrieval_figure, save_figure

GREEN, RED = "#1a7f37", "#cf222e"


def picture(seed=0, shape=(8, 8, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def texts(parent):
    return [text.get_text() for text in parent.texts]


def test_every_neighbor_is_framed_and_marked_as_right_or_wrong():
    neighbors = [[(picture(1), True), (picture(2), np.False_), (picture(3), None)]]
    figure = retrieval_figure([picture()], neighbors, neighbors)
    query, right, wrong, unknown = figure.axes[:4]
    frames = [to_hex(axes.spines["left"].get_edgecolor()) for axes in (right, wrong)]
    assert frames == [GREEN, RED]
    assert [texts(axes) for axes in (query, right, wrong, unknown)] == [[], ["✓"], ["✗"], []]
    np.testing.assert_array_equal(right.images[0].get_array(), picture(1))
    assert len(figure.axes) == 1 + 3 + 3


def test_titles_and_scores():
    before = [[(picture(), False), (picture(), True)], [(picture(), False)]]
    after = [[(picture(), True)], [(picture(), True)]]
    figure = retrieval_figure([picture(), picture()], before, after, titles=("Untrained", "Trained"))
    assert {"Query", "Untrained", "1 of 3 right", "Trained", "2 of 2 right"} <= set(texts(figure))
    unknown = retrieval_figure([picture()], [[(picture(), None)]], [[]])
    assert not any("right" in text and "of" in text.split() for text in texts(unknown))


def test_cells_stay_apart_and_inside_the_figure():
    neighbors = [[(picture(), True)] * 6] * 3
    figure = retrieval_figure([picture()] * 3, neighbors, neighbors)
    boxes = [axes.get_position() for axes in figure.axes]
    for number, box in enumerate(boxes):
        assert 0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])


@pytest.mark.parametrize(
    "image", [picture(shape=(5, 9)), picture(shape=(9, 5, 1)), picture() / 255, np.zeros((4, 4, 3), np.float32)]
)
def test_grey_float_and_oblong_images(image, tmp_path):
    path = save_figure(retrieval_figure([image], [[(image, True)]], [[]]), tmp_path / "new" / "retrieval.png")
    assert Image.open(path).size[0] == 1200


def test_png_shows_the_pixels():
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    figure = retrieval_figure([red], [[(red, None)]], [[(red, None)]])
    pixels = np.asarray(Image.open(io.BytesIO(figure_to_png(figure))).convert("RGB"))
    box = figure.axes[0].get_position()
    row, column = int((1 - (box.y0 + box.y1) / 2) * pixels.shape[0]), int((box.x0 + box.x1) / 2 * pixels.shape[1])
    np.testing.assert_array_equal(pixels[row, column], [255, 0, 0])


@pytest.mark.parametrize(("queries", "lists"), [(0, 0), (2, 1)])
def test_lists_must_fit_the_queries(queries, lists):
    with pytest.raises(ValueError, match=f"got {queries} queries, {lists} lists of neighbours before and {lists}"):
        retrieval_figure([picture()] * queries, [[]] * lists, [[]] * lists)


def test_queries_come_from_different_classes_that_hold_something_to_find():
    labels = np.repeat(np.arange(20), np.arange(20) % 4)  # classes of 0 to 3 images
    picked = pick_queries(labels, 6, seed=1)
    assert len(picked) == len(set(labels[picked])) == 6
    assert all(np.sum(labels == label) > 1 for label in labels[picked])
    np.testing.assert_array_equal(picked, pick_queries(labels, 6, seed=1))
    assert set(picked) != set(pick_queries(labels, 6, seed=2))
    assert len(pick_queries(labels, 1000, seed=1)) == 10


@pytest.mark.parametrize(
    ("labels", "count", "message"), [([0, 1, 2], 2, "none of the 3 images shares"), ([0, 0], 0, "count is 0")]
)
def test_no_queries_to_pick(labels, count, message):
    with pytest.raises(ValueError, match=message):
        pick_queries(labels, count, seed=0)
