import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.plugins.projector.projector_plugin import _read_tensor_binary_file

from stml_tf.monitoring.projector import write_projector


def test_the_projector_reads_what_was_written(tmp_path):
    embeddings = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    pictures = [np.full((30, 60, 3), 50 * number, np.uint8) for number in range(5)]
    columns = {"image": ["a\tb", *"cdef"], "class": ["x"] * 5}
    write_projector(tmp_path, embeddings, pictures=pictures, columns=columns)
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (shown,) = config.embeddings
    read = _read_tensor_binary_file(str(tmp_path / shown.tensor_path), shown.tensor_shape)
    np.testing.assert_array_equal(read, embeddings)
    lines = (tmp_path / shown.metadata_path).read_text().splitlines()
    assert lines[:2] == ["image\tclass", "a b\tx"] and len(lines) == 6
    sprite = np.asarray(Image.open(tmp_path / shown.sprite.image_path))
    assert list(shown.sprite.single_image_dim) == [48, 48] and sprite.shape == (3 * 48, 3 * 48, 3)
    assert [int(sprite[48 * row + 24, 48 * column + 24, 0]) for row, column in [(0, 0), (0, 2), (1, 1)]] == [
        0,
        100,
        200,
    ]


def test_a_single_column_has_no_title(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    write_projector(tmp_path, np.zeros((2, 2)), pictures=[pixels, pixels], columns={"image": ["a", "b"]})
    assert (tmp_path / "metadata.tsv").read_text() == "a\nb\n"
