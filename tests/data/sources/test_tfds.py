import sys

import numpy as np
import pytest

from stml_tf import registry
from stml_tf.data.catalog import ImageSet
from stml_tf.data.decoding import read_image
from stml_tf.data.inspection import Unreadable, inspect_images
from stml_tf.data.loader import pixels_of
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.data.sources.tfds import load_tfds
from tests.data.sources.miniatures import write_cub

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture
def made_up(tmp_path):
    """The package with random images in place of downloads."""
    with tfds.testing.mock_data(num_examples=40, data_dir=str(tmp_path)):
        yield tmp_path


def test_any_classification_set_is_split_by_class(made_up):
    catalog = load_tfds("cifar10", train_classes=0.3, data_dir=made_up, download=True)
    assert catalog.name == "tfds:cifar10"
    assert len(catalog.train) + len(catalog.test) == 40
    assert set(catalog.train.labels) <= {0, 1, 2}
    assert set(catalog.test.labels) <= set(range(3, 10))
    assert len(catalog.train.class_names) == 10


def test_images_stay_encoded_until_they_are_needed(made_up):
    images = load_tfds("cifar10", train_classes=5, data_dir=made_up, download=True).train
    assert isinstance(images.images[0], bytes)
    np.testing.assert_array_equal(pixels_of(images, 1), read_image(images.images[1]))
    assert pixels_of(images, 1).shape == (32, 32, 3)
    assert images.describe(1) == "image 1"
    assert inspect_images(images, keep=True).decoded[1].shape == (32, 32, 3)


def test_damaged_encoded_images_are_found_by_their_place():
    found = inspect_images(ImageSet([b"no image"])).unreadable
    assert [(bad.index, str(bad.path)) for bad in found] == [(0, "image 0")]
    assert isinstance(found[0], Unreadable)


@pytest.mark.parametrize(("name", "count"), [("cub", 100), ("cars196", 98), ("sop", 11318)])
def test_published_sets_are_split_as_the_official_copies_are(made_up, name, count):
    catalog = open_catalog(name, data_dir=made_up, download=True, expected={})
    assert len(catalog.train) + len(catalog.test) == 40
    assert max(catalog.train.labels) < count <= min(catalog.test.labels)
    published = registry.resolve(registry.sources[name].build)
    assert len(catalog.train.class_names) == sum(
        number for what, number in published.publication.counts.items() if what.endswith("classes")
    )


def test_a_truncated_download_is_refused(made_up):
    with pytest.raises(
        ValueError, match=r"caltech_birds2011 in .* is not whole: 5,864 training images expected, \d+ f"
    ):
        open_catalog("cub", data_dir=made_up, download=True)


def test_an_official_copy_goes_before_a_download(made_up):
    expected = write_cub(made_up)
    assert open_catalog("cub", data_dir=made_up, download=True, expected=expected).name == "CUB-200-2011"


def test_a_copy_downloaded_earlier_is_found_again(made_up, monkeypatch):
    (made_up / "caltech_birds2011").mkdir()
    with pytest.raises(ValueError, match=r"no copy of caltech_birds2011 in .*: add --download"):
        open_catalog("cub", data_dir=made_up)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "is_prepared", lambda builder: True)
    assert open_catalog("cub", data_dir=made_up, expected={}).name == "tfds:caltech_birds2011"


def test_nothing_is_downloaded_unasked(made_up):
    with pytest.raises(
        ValueError, match=r"no copy of cifar10 in .*: add --download to fetch it, or say with --data-dir"
    ):
        open_catalog("tfds", dataset="cifar10", train_classes=0.5, data_dir=made_up)


def test_what_cannot_be_downloaded_says_where_to_get_it(tmp_path):
    with pytest.raises(
        ValueError, match=r"In-Shop Clothes cannot be downloaded for you\. Get Eval/list_eval_partition"
    ):
        open_catalog("inshop", data_dir=tmp_path, download=True)


def test_a_failed_download_says_where_to_get_it(made_up, monkeypatch):
    def fail(builder):
        raise ConnectionError("the page is gone")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(ValueError, match=r"could not fetch cars196: the page is gone\. Its page at Stanford is gone\."):
        open_catalog("cars196", data_dir=made_up, download=True)


def test_an_unknown_set_is_refused(made_up):
    with pytest.raises(
        ValueError, match=r"cannot open 'brids': Dataset brids not found\. Its names are listed at"
    ) as caught:
        load_tfds("brids", train_classes=0.5, data_dir=made_up)
    assert len(str(caught.value)) < 300


def test_a_set_without_images_and_classes_is_refused(made_up):
    with pytest.raises(ValueError, match=r"imdb_reviews is no image classification set: .* and it has text, label"):
        load_tfds("imdb_reviews", train_classes=0.5, data_dir=made_up, download=True)


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match=r"is needed and cannot be imported .*: pip install tensorflow-datasets"):
        load_tfds("cifar10", train_classes=0.5)
