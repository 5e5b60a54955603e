import hashlib

import numpy as np
from PIL import Image

from stml_tf.data.catalog import ImageSet
from stml_tf.data.examination import examine
from tests.toy_network import save_photograph


def test_files_are_read_once_and_what_they_are_is_kept(tmp_path):
    paths = [save_photograph(tmp_path / f"{number}.png", number) for number in range(3)]
    Image.open(paths[1]).save(tmp_path / "1.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    told = []
    images = ImageSet([*paths, tmp_path / "1.jpg", tmp_path / "bad.jpg", tmp_path / "gone.png"])
    seen = examine(images, on_progress=lambda done, total: told.append((done, total)))
    assert seen.num_examined == 6 and told == [(done, 6) for done in range(1, 7)]
    assert seen.formats == {"PNG": 3, "JPEG": 1}
    assert [bad.index for bad in seen.unreadable] == [4, 5]
    assert "No such file" in seen.unreadable[1].reason
    assert seen.digests == {index: hashlib.sha256(images.images[index].read_bytes()).digest() for index in range(4)}
    assert (seen.qualities[0].width, seen.qualities[0].height) == (20, 14)
    assert seen.small[2].shape == (16, 16, 3) and seen.larger[2].dtype == np.uint8


def test_of_many_a_sample_from_the_first_to_the_last_is_looked_at():
    pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    seen = examine(ImageSet(pixels), most=4)
    assert seen.num_examined == 4 and list(seen.digests) == [0, 3, 6, 9]
    assert seen.formats == {"in memory": 4}


def test_no_images_are_no_error():
    assert examine(ImageSet([])).num_examined == 0
