import numpy as np
import tensorflow as tf

from stml_tf.monitoring.contact_sheet import matrix_sheet, neighbor_sheet
from stml_tf.monitoring.epoch_pictures import EpochPictures
from stml_tf.monitoring.summaries import Summaries
from tests.monitoring.test_summaries import read

# Three pairs of images, each pair in a direction of its own; the second view is a little off.
DIRECTIONS = np.repeat(np.eye(3), 2, axis=0)
VIEWS = np.stack([DIRECTIONS + 0.01 * np.arange(6)[:, None], DIRECTIONS + 0.1])


def pixels_of(index):
    return np.full((8, 8, 3), 40 * index, np.uint8)


def written(tmp_path, **options):
    summaries = Summaries(tmp_path)
    defaults = {"views": lambda: VIEWS, "pixels_of": pixels_of, "labels": None, "similarities": dict}
    pictures = EpochPictures(summaries, **{**defaults, **options})
    pictures.on_epoch_end(0)
    pictures.on_epoch_end(1)
    summaries.close()
    return read(tmp_path)


def test_each_epoch_shows_the_neighbours_of_the_same_queries(tmp_path):
    shown = written(tmp_path, labels=np.array([0, 0, 1, 1, 2, 3]))["neighbors/of_fixed_queries"]
    assert [step for step, _ in shown] == [1, 2]
    queries = np.random.default_rng(0).permutation(6)
    partner = {0: 1, 1: 0, 2: 3, 3: 2, 4: 5, 5: 4}
    sheet = tf.io.decode_png(shown[0][1][2]).numpy()
    rows = []
    for query in queries:
        others = sorted(set(range(6)) - {query}, key=lambda each: each != partner[query])
        right = partner[query] == others[0] and query < 4
        rows.append((pixels_of(query), [(pixels_of(others[0]), bool(right))]))
    expected = neighbor_sheet(rows)
    np.testing.assert_array_equal(sheet[:, :204], expected[:, :204])


def test_each_epoch_shows_how_similar_images_and_views_are(tmp_path):
    tags = written(tmp_path)
    different, views = (tags[f"health/cosines_of_{what}"][0][1] for what in ("different_images", "two_views"))
    assert different[:, 2].sum() == 15 and views[:, 2].sum() == 6
    assert views[:, 0].min() > 0.9


def test_the_pseudo_labels_of_a_batch_are_shown_where_there_are_any(tmp_path):
    matrices = {"pairwise": np.eye(4), "truth": np.ones((4, 4))}
    shown = written(tmp_path / "some", similarities=lambda: matrices)["pseudo_labels/of_a_batch"]
    np.testing.assert_array_equal(tf.io.decode_png(shown[1][1][2]), matrix_sheet(matrices))
    assert "pseudo_labels/of_a_batch" not in written(tmp_path / "none")


def test_without_a_sample_there_are_no_neighbours(tmp_path):
    assert written(tmp_path, views=lambda: None) == {}
