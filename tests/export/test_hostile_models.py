"""SavedModels that were made to do harm: they are refused before anything of them is run."""

import shutil

import pytest
import tensorflow as tf

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.export.effects import refuse_effects
from stml_tf.export.embedder import Embedder
from stml_tf.export.saved_model import METADATA
from tests.hostile import harmful_pickle

PIXELS = tf.TensorSpec([None, None, None, 3], tf.uint8, name="pixels")


class WrittenWhenLoaded(tf.saved_model.experimental.TrackableResource):
    """A resource whose initialiser, which loading runs, writes a file."""

    def __init__(self, mark):
        super().__init__()
        self.mark = str(mark)
        self.resource_handle  # noqa: B018 (made and initialised, and so saved)

    def _create_resource(self):
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="harmful")

    def _initialize(self):
        tf.io.write_file(self.mark, "written")


def save(folder, embed, **attributes):
    module = tf.Module()
    for name, value in attributes.items():
        setattr(module, name, value)
    module.embed = tf.function(embed, input_signature=[PIXELS])
    tf.saved_model.save(module, str(folder), signatures={"pixels": module.embed})


def mean(pixels):
    return {"embedding": tf.reduce_mean(tf.cast(pixels, tf.float32), [1, 2])}


def writes_when_loaded(folder, mark):
    resource = WrittenWhenLoaded(mark)

    def embed(pixels):
        with tf.control_dependencies([tf.raw_ops.LookupTableSizeV2(table_handle=resource.resource_handle)]):
            return mean(pixels)

    save(folder, embed, resource=resource)


def writes_when_it_embeds(folder, mark):
    def embed(pixels):
        tf.io.write_file(str(mark), "written")
        return mean(pixels)

    save(folder, embed)


def writes_within_a_loop(folder, mark):
    def embed(pixels):
        for _ in tf.range(tf.shape(pixels)[0]):
            tf.io.write_file(str(mark), "written")
        return mean(pixels)

    save(folder, embed)


def prints_into_a_file(folder, mark):
    def embed(pixels):
        tf.print("written", output_stream=f"file://{mark}")
        return mean(pixels)

    save(folder, embed)


def saves_a_checkpoint_when_it_embeds(folder, mark):
    def embed(pixels):
        tf.raw_ops.SaveV2(prefix=str(mark), tensor_names=["a"], shape_and_slices=[""], tensors=[tf.ones(1)])
        return mean(pixels)

    save(folder, embed)


def calls_python(folder, mark):
    def embed(pixels):
        tf.numpy_function(lambda: mark.mkdir() or 0, [], tf.int64)
        return mean(pixels)

    save(folder, embed)


EFFECTS = {
    writes_when_loaded: "WriteFile",
    writes_when_it_embeds: "WriteFile",
    writes_within_a_loop: "WriteFile",
    prints_into_a_file: "PrintV2",
    saves_a_checkpoint_when_it_embeds: "SaveV2",
    calls_python: "PyFunc",
}


@pytest.mark.parametrize("make", EFFECTS, ids=lambda make: make.__name__)
def test_a_graph_that_does_more_than_compute_is_not_loaded(tmp_path, make):
    mark = tmp_path / "was_run"
    make(tmp_path / "model", mark)
    for left in tmp_path.glob("was_run*"):
        left.unlink()
    with pytest.raises(UserError, match=rf"model does more than compute embeddings \({EFFECTS[make]}.*\), so it is"):
        Embedder(tmp_path / "model")
    assert not list(tmp_path.glob("was_run*"))


def test_it_would_have_been_run(tmp_path):
    writes_when_loaded(tmp_path / "model", tmp_path / "was_run")
    (tmp_path / "was_run").unlink(missing_ok=True)
    tf.saved_model.load(str(tmp_path / "model"))
    assert (tmp_path / "was_run").exists()


def test_what_only_computes_is_loaded(toy_model, tmp_path):
    refuse_effects(toy_model)
    save(tmp_path / "model", mean, table=tf.Variable(1.0))
    refuse_effects(tmp_path / "model")


FILES = {
    "graph that is a pickle": ("saved_model.pb", lambda mark: harmful_pickle(mark)),
    "graph that is empty": ("saved_model.pb", lambda mark: b""),
    "graph that is text": ("saved_model.pb", lambda mark: b"no graph at all" * 100),
    "index that is a pickle": ("variables/variables.index", lambda mark: harmful_pickle(mark)),
    "variables that are a pickle": (
        "variables/variables.data-00000-of-00001",
        lambda mark: harmful_pickle(mark),
    ),
    "metadata that are a pickle": (str(METADATA), lambda mark: harmful_pickle(mark)),
    "metadata that are deep": (str(METADATA), lambda mark: b"[" * 100_000),
    "metadata that are a list": (str(METADATA), lambda mark: b"[]"),
}


@pytest.mark.parametrize("with_checksum", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_a_file_in_place_of_another_is_one_message(toy_model, tmp_path, name, with_checksum):
    place, content = FILES[name]
    model, mark = shutil.copytree(toy_model, tmp_path / "model"), tmp_path / "was_run"
    if not with_checksum:
        (model / METADATA).unlink()
    (model / place).write_bytes(content(mark))
    with pytest.raises(UserError) as raised:
        Embedder(model)
    assert "\n" not in str(raised.value)
    assert not mark.exists()


def test_metadata_that_do_not_fit_are_one_message(toy_model, tmp_path):
    model = shutil.copytree(toy_model, tmp_path / "model")
    for changes in ({"background": 7}, {"background": ["red"]}, {"bit_depth": "os.mkdir"}, {"fingerprint": None}):
        files.write_json(model / METADATA, {**files.read_json(toy_model / METADATA), **changes})
        with pytest.raises(UserError, match=r"model.* (is damaged|cannot be read|is not what)"):
            Embedder(model)
