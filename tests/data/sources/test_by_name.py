import pytest

from stml_tf.data.sources.by_name import open_catalog


def test_glyphs_need_no_folder():
    catalog = open_catalog("glyphs", num_classes=4, instances=2, image_size=16, seed=0, train_classes=0.5)
    assert (len(catalog.train), len(catalog.test)) == (4, 4)


def test_a_folder_of_images_needs_a_place():
    with pytest.raises(ValueError, match="say where with --data-dir"):
        open_catalog("folder", train="train", test=None)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match='Unknown data set "birds"; allowed: cars196, compcars, cub, folder'):
        open_catalog("birds")


@pytest.mark.parametrize("name", ["glyphs", "folder"])
def test_there_is_nothing_to_download_for_data_of_ones_own(name):
    with pytest.raises(ValueError, match=f"nothing to download for the data '{name}': leave --download away"):
        open_catalog(name, download=True)
