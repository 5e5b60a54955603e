import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.sources import cub, nabirds
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.data.sources.cars196 import CARS196, load_cars196
from stml_tf.data.sources.compcars import load_compcars
from stml_tf.data.sources.cub import CUB, load_cub
from stml_tf.data.sources.inshop import INSHOP, load_inshop
from stml_tf.data.sources.nabirds import NABIRDS, load_nabirds
from stml_tf.data.sources.published import count, refuse_incomplete
from stml_tf.data.sources.sop import SOP, load_sop
from tests.data.sources.miniatures import write_cars, write_compcars, write_cub, write_inshop, write_nabirds, write_sop

ALL = {
    "cub": (CUB, load_cub, write_cub),
    "cars196": (CARS196, load_cars196, write_cars),
    "sop": (SOP, load_sop, write_sop),
    "inshop": (INSHOP, load_inshop, write_inshop),
}
LISTING = {
    "cub": "images.txt",
    "cars196": "cars_annos.mat",
    "sop": "Ebay_test.txt",
    "inshop": "Eval/list_eval_partition.txt",
}
every_one = pytest.mark.parametrize("name", ALL)


@every_one
def test_the_folder_may_be_given_or_the_one_above(tmp_path, name):
    publication, load, write = ALL[name]
    expected = write(tmp_path)
    above = load(tmp_path, expected=expected)
    if (tmp_path / publication.folder).is_dir():
        inside = load(tmp_path / publication.folder, expected=expected)
        assert inside.train.images == above.train.images
    assert above.name == publication.title
    assert {key: count(above)[key] for key in expected} == expected
    assert all(path.is_file() for path in (*above.train.images, *above.test.images))


@every_one
def test_no_class_is_in_both_sets(tmp_path, name):
    _, load, write = ALL[name]
    catalog = load(tmp_path, expected=write(tmp_path))

    def classes(images):
        return {images.class_names[label] for label in images.labels}

    assert len(classes(catalog.train)) == len(classes(catalog.test)) == 2
    # Names of other sets may be alike ("1"), the products they name are not.
    folders = [
        {path.parent if name in ("cub", "inshop") else path for path in part.images}
        for part in (catalog.train, catalog.test)
    ]
    assert not folders[0] & folders[1]


@every_one
def test_a_truncated_copy_is_refused_with_expected_and_found(tmp_path, name):
    _, load, write = ALL[name]
    expected = write(tmp_path)
    lost = load(tmp_path, expected=expected).test.images[1]
    lost.unlink()
    number = expected["test images"]
    message = rf"is not whole: {number} test images expected, {number - 1} found; .*{lost.name} is missing\. Remove"
    with pytest.raises(ValueError, match=message):
        load(tmp_path, expected=expected)


@every_one
def test_the_official_counts_are_expected(tmp_path, name):
    publication, load, write = ALL[name]
    write(tmp_path)
    with pytest.raises(
        ValueError, match=f"{publication.counts['training images']:,} training images expected, 12 found"
    ):
        load(tmp_path)


@every_one
def test_a_missing_data_set_is_told_where_to_get_and_where_to_put(tmp_path, name):
    publication, load, _ = ALL[name]
    for data_dir, problem in [
        (
            tmp_path,
            rf"{publication.title} is not in {re.escape(str(tmp_path))}: .* lacks .*{LISTING[name].split('/')[-1]}",
        ),
        (None, rf"{publication.title} is read from disk: say where with --data-dir DIR"),
    ]:
        with pytest.raises(ValueError, match=rf"{problem}.*\. .*{next(iter(publication.archives))}.*--data-dir"):
            load(data_dir)


def test_what_is_there_is_not_said_to_be_missing(tmp_path):
    write_cub(tmp_path)
    (tmp_path / "CUB_200_2011" / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"CUB_200_2011 lacks classes\.txt\. Get CUB_200_2011\.tgz from https"):
        load_cub(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind", "given"),
    [("cub", "gztar", "folder"), ("cub", "gztar", "archive"), ("sop", "zip", "folder"), ("sop", "zip", "archive")],
)
def test_the_downloaded_archive_will_do(tmp_path, name, kind, given):
    publication, load, write = ALL[name]
    expected = write(tmp_path / "made")
    place = tmp_path / "downloads"
    place.mkdir()
    made = shutil.make_archive(str(place / publication.folder), kind, tmp_path / "made")
    archive = place / next(iter(publication.archives))
    shutil.move(made, archive)
    catalog = load(place if given == "folder" else archive, expected=expected)
    assert catalog.train.images[0].is_relative_to(place / publication.folder)


def test_the_archive_of_the_cars_lies_beside_its_annotations(tmp_path):
    expected = write_cars(tmp_path)
    shutil.move(shutil.make_archive(str(tmp_path / "car_ims"), "gztar", tmp_path, "car_ims"), tmp_path / "car_ims.tgz")
    shutil.rmtree(tmp_path / "car_ims")
    assert len(load_cars196(tmp_path / "car_ims.tgz", expected=expected).train) == 12
    assert len(load_cars196(tmp_path, expected=expected).train) == 12


@pytest.mark.parametrize("flat", [False, True])
def test_the_archive_of_the_clothes_lies_in_its_folder_or_beside_the_listing(tmp_path, flat):
    expected = write_inshop(tmp_path)
    images = tmp_path / INSHOP.folder / "Img"
    shutil.make_archive(str(images / "img"), "zip", images, "img")
    shutil.rmtree(images / "img")
    if flat:
        shutil.move(images / "img.zip", tmp_path / "img.zip")
        shutil.move(tmp_path / INSHOP.folder / "Eval" / "list_eval_partition.txt", tmp_path)
        shutil.rmtree(tmp_path / INSHOP.folder)
    archive = tmp_path / "img.zip" if flat else images / "img.zip"
    for given in (archive, tmp_path):
        assert len(load_inshop(given, expected=expected).gallery) == 8


@every_one
def test_another_archive_is_refused(tmp_path, name):
    """Although the data set lies beside it."""
    publication, load, write = ALL[name]
    expected = write(tmp_path)
    other = tmp_path / "101_ObjectCategories.tar.gz"
    other.touch()
    archive = re.escape(Path(next(iter(publication.archives))).name)
    message = rf"{other.name} is no archive of {publication.title}: give {archive}, .*, or a folder\. .*--data-dir"
    with pytest.raises(ValueError, match=message):
        load(other, expected=expected)


def test_a_damaged_listing_is_named_with_its_line(tmp_path):
    write_sop(tmp_path)
    listing = tmp_path / "Stanford_Online_Products" / "Ebay_test.txt"
    listing.write_text(listing.read_text()[:-30])
    with pytest.raises(ValueError, match=r"Ebay_test\.txt, line 13: '.*' found, 4 words expected; the file is damaged"):
        load_sop(tmp_path)


def test_damaged_annotations_are_named(tmp_path):
    write_cars(tmp_path)
    (tmp_path / "cars_annos.mat").write_bytes(b"no annotations")
    with pytest.raises(ValueError, match=r"cars_annos\.mat is not the annotations file of Cars196.*relative_im_path"):
        load_cars196(tmp_path)


def test_cub_goes_by_the_numbers_of_its_species(tmp_path):
    catalog = load_cub(tmp_path, expected=write_cub(tmp_path))
    assert catalog.train.class_names == ("001.Bird_1", "002.Bird_2", "003.Bird_3", "004.Bird_4")
    for images in (catalog.train, catalog.test):
        assert [images.class_names[label] for label in images.labels] == [path.parent.name for path in images.images]
    assert set(catalog.train.labels) == {0, 1}


def test_cars_go_by_the_numbers_of_their_models_not_by_name(tmp_path):
    catalog = load_cars196(tmp_path, expected=write_cars(tmp_path))
    assert catalog.train.class_names == ("Zeta 4", "Zeta 3", "Zeta 2", "Zeta 1")
    assert [path.stem for path in catalog.train.images] == [f"{number:06}" for number in range(1, 13)]
    assert catalog.train.labels.tolist() == [0] * 6 + [1] * 6


def test_products_come_with_their_split(tmp_path):
    catalog = load_sop(tmp_path, expected=write_sop(tmp_path))
    assert catalog.test.class_names == ("3", "4")
    assert catalog.test.images[0].name == "111002_0.JPG"
    assert catalog.test.labels.tolist() == [0] * 6 + [1] * 6


def test_clothes_are_searched_in_a_gallery(tmp_path):
    catalog = load_inshop(tmp_path, expected=write_inshop(tmp_path))
    assert catalog.test.class_names == catalog.gallery.class_names
    assert set(catalog.test.labels) == set(catalog.gallery.labels) == {2, 3}
    assert {path.name[:2] for path in catalog.test.images} == {"00", "03"}
    assert not set(catalog.test.images) & set(catalog.gallery.images)
    for images in (catalog.train, catalog.test, catalog.gallery):
        assert [images.class_names[label] for label in images.labels] == [path.parent.name for path in images.images]


def test_more_than_expected_is_refused_too():
    catalog = Catalog("mine", ImageSet([b"a", b"b"], np.array([0, 0]), ("x",)), None)
    assert refuse_incomplete(catalog, {"training images": 2}, origin="here") is catalog
    with pytest.raises(
        ValueError, match=r"mine in here is not whole: 1 training images expected, 2 found; 3 test images"
    ):
        refuse_incomplete(catalog, {"training images": 1, "test images": 3}, origin="here")


def test_tensorflow_is_not_loaded():
    program = "import sys, stml_tf.data.sources.by_name; print({'tensorflow', 'keras', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_nabirds_are_listed_with_their_classes(tmp_path):
    expected = write_nabirds(tmp_path)
    catalog = load_nabirds(tmp_path, expected=expected)
    assert catalog.train.images == load_nabirds(tmp_path / "nabirds", expected=expected).train.images
    assert catalog.test is None
    assert count(catalog) == expected
    for path, label in zip(catalog.train.images, catalog.train.labels, strict=True):
        assert path.parent.name == f"0{catalog.train.class_names[label]}"


def test_nabirds_may_come_as_an_archive_and_have_to_be_whole(tmp_path):
    expected = write_nabirds(tmp_path)
    shutil.make_archive(str(tmp_path / "nabirds"), "gztar", tmp_path, "nabirds")
    shutil.rmtree(tmp_path / "nabirds")
    lost = load_nabirds(tmp_path / "nabirds.tar.gz", expected=expected).train.images[3]
    lost.unlink()
    with pytest.raises(ValueError, match=rf"24 training images expected, 23 found; .*{lost.name} is missing"):
        load_nabirds(tmp_path, expected=expected)
    with pytest.raises(ValueError, match="48,562 training images expected"):
        load_nabirds(tmp_path)
    assert NABIRDS.counts == {"training images": 48562, "training classes": 555}


def test_compcars_are_whole_cars_and_a_class_is_a_model(tmp_path):
    expected = write_compcars(tmp_path)
    catalog = load_compcars(tmp_path)
    assert count(catalog) == expected
    assert catalog.test is None
    assert catalog.train.class_names == ("1/7", "1/8", "2/10", "2/9")
    for path, label in zip(catalog.train.images, catalog.train.labels, strict=True):
        assert "/".join(path.parts[-4:-2]) == catalog.train.class_names[label]
    assert load_compcars(tmp_path / "data").train.images == catalog.train.images


def test_missing_compcars_say_where_they_come_from(tmp_path):
    with pytest.raises(ValueError, match=r"CompCars is not in .* lacks data/image\. Ask for it as http://mmlab"):
        load_compcars(tmp_path)
    with pytest.raises(ValueError, match="CompCars cannot be downloaded for you"):
        open_catalog("compcars", data_dir=tmp_path, download=True)
    (tmp_path / "data" / "image").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"image holds no images MAKE/MODEL/YEAR/\*\.jpg\. Ask for it"):
        load_compcars(tmp_path)


@pytest.fixture
def birds(tmp_path, monkeypatch):
    """Miniatures of CUB and NABirds side by side; gives what opens them."""
    for module, name, write in ((cub, "open_cub", write_cub), (nabirds, "open_nabirds", write_nabirds)):
        source = getattr(module, name)
        monkeypatch.setattr(module, name, replace(source, load=partial(source.load, expected=write(tmp_path))))
    return partial(open_catalog, data_dir=tmp_path)


def test_another_data_set_without_its_labels_may_lie_beside(birds):
    catalog = birds("cub", unlabeled="nabirds")
    assert catalog.train.images == birds("cub").train.images
    assert catalog.unlabeled.images == birds("nabirds").train.images


def test_the_folder_of_an_archive_is_the_data_folder(birds, tmp_path):
    (tmp_path / "CUB_200_2011.tgz").touch()
    catalog = birds("cub", unlabeled="nabirds", data_dir=tmp_path / "CUB_200_2011.tgz")
    assert (len(catalog.train), len(catalog.unlabeled)) == (12, 24)
    with pytest.raises(ValueError, match=r"CUB_200_2011.tgz is no archive of NABirds: give nabirds\.tar\.gz"):
        birds("nabirds", data_dir=tmp_path / "CUB_200_2011.tgz")


@pytest.mark.parametrize(("name", "options"), [("folder", {}), ("tfds", {"dataset": "cars196"}), ("glyphs", {})])
def test_data_that_are_no_published_set_are_not_read_from_an_archive(tmp_path, name, options):
    archive = tmp_path / "photos.zip"
    archive.touch()
    message = f"photos.zip is a file, and the data '{name}' are read from a folder: extract it and .* Only cub, cars196"
    with pytest.raises(ValueError, match=message):
        open_catalog(name, data_dir=archive, **options)


def test_kept_labels_and_another_data_set_go_together(birds):
    catalog = birds("cub", unlabeled="nabirds", labeled_classes=1)
    assert (len(catalog.train), len(catalog.unlabeled), len(catalog.test)) == (6, 6 + 24, 12)
    assert catalog.unlabeled.labels is None  # the two name their classes differently
    assert birds("cub", labeled_fraction=0.5).unlabeled.labels.tolist() == [0, 0, 0, 1, 1, 1]
