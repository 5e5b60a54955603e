"""Weights files that are none, are damaged, or were made to do harm: nothing is run, and one message says so."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest

from stml_tf.errors import UserError
from stml_tf.models import build_backbone, build_student
from stml_tf.models.backbones.by_name import load_weights_file
from tests.hostile import harmful_npz, harmful_pickle

CASES = {}


def case(suffix):
    """Register a file: a function of the folder that code in it would make, which returns its content."""

    def register(content):
        CASES[content.__name__] = content, suffix
        return content

    return register


def zipped(**members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def hdf5(write):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write(file)
    return content.getvalue()


def lambda_layer(mark):
    """What `keras.layers.Lambda` is saved as, with code that makes the folder."""
    return {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {
            "name": "harmful",
            "function": {"class_name": "function", "config": "mkdir", "module": "os", "registered_name": "function"},
            "arguments": {"path": str(mark)},
        },
    }


@case(".keras")
def keras_that_is_no_zip(mark):
    return b"no zip archive"


@case(".keras")
def keras_that_is_empty(mark):
    return b""


@case(".keras")
def keras_that_is_a_pickle(mark):
    return harmful_pickle(mark)


@case(".keras")
def keras_that_holds_something_else(mark):
    return zipped(**{"a.txt": "a"})


@case(".keras")
def keras_whose_weights_are_none(mark):
    return zipped(**{"model.weights.h5": "no HDF5"})


@case(".keras")
def keras_with_code_in_its_configuration(mark):
    weights = hdf5(lambda file: file.create_group("layers"))
    return zipped(**{"config.json": json.dumps(lambda_layer(mark)), "metadata.json": "{}", "model.weights.h5": weights})


@case(".keras")
def keras_that_leads_out(mark):
    return zipped(**{f"../../{mark.name}": "evil", "model.weights.h5": "no HDF5"})


@case(".keras")
def keras_that_is_cut_short(mark):
    return zipped(**{"model.weights.h5": "no HDF5" * 100})[:-40]


@case(".weights.h5")
def hdf5_that_is_text(mark):
    return b"no HDF5"


@case(".weights.h5")
def hdf5_that_is_empty(mark):
    return b""


@case(".weights.h5")
def hdf5_that_is_a_pickle(mark):
    return harmful_pickle(mark)


@case(".weights.h5")
def hdf5_that_is_cut_short(mark):
    return hdf5(lambda file: file.create_dataset("layers/a", data=np.zeros(1000)))[:-4000]


@case(".weights.h5")
def hdf5_without_weights(mark):
    return hdf5(lambda file: None)


@case(".weights.h5")
def hdf5_whose_heads_are_numbers(mark):
    def write(file):
        file.create_group("layers/functional")
        for head in ("dense", "dense_1"):
            file[f"layers/{head}/vars/0"] = 3.0

    return hdf5(write)


@case(".weights.h5")
def hdf5_that_leads_to_other_files(mark):
    def write(file):
        file.create_group("layers/functional")
        for head in ("dense", "dense_1"):
            file[f"layers/{head}/vars/0"] = h5py.ExternalLink("/etc/passwd", "/")

    return hdf5(write)


@case(".h5")
def legacy_hdf5_with_code_in_its_configuration(mark):
    def write(file):
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": [lambda_layer(mark)]})
        file.create_group("model_weights").attrs["layer_names"] = [b"harmful"]

    return hdf5(write)


@case(".npz")
def npz_that_is_no_zip(mark):
    return b"no zip archive"


@case(".npz")
def npz_that_is_a_pickle(mark):
    return harmful_pickle(mark)


@case(".npz")
def npz_of_objects(mark):
    return harmful_npz(mark, "weight")


@case(".npz")
def npz_that_is_one_array(mark):
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


@case(".safetensors")
def safetensors_with_a_header_without_end(mark):
    return (1 << 60).to_bytes(8, "little") + b"{}"


@case(".safetensors")
def safetensors_that_point_out_of_the_file(mark):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(16)


@case(".safetensors")
def safetensors_that_are_a_pickle(mark):
    return harmful_pickle(mark)


@case(".bin")
def bin_that_is_a_plain_pickle(mark):
    return harmful_pickle(mark)


@pytest.fixture(scope="module")
def conv4():
    return build_backbone("conv4")


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_run_and_one_message_says_why(conv4, tmp_path, name):
    content, suffix = CASES[name]
    mark, file = tmp_path / "was_run", tmp_path / "deep" / f"weights{suffix}"
    file.parent.mkdir()
    file.write_bytes(content(mark))
    with pytest.raises(UserError) as raised:
        load_weights_file(conv4, str(file), owner="conv4")
    message = str(raised.value)
    assert message.startswith(str(file)), message
    assert "\n" not in message
    assert sorted(tmp_path.rglob("*")) == [file.parent, file]


@pytest.mark.parametrize("name", ["hdf5_whose_heads_are_numbers", "hdf5_that_leads_to_other_files"])
def test_what_looks_like_a_student_and_is_none_is_one_message(tmp_path, name):
    file = tmp_path / "student.weights.h5"
    file.write_bytes(CASES[name][0](tmp_path))
    with pytest.raises(UserError, match=r"student\.weights\.h5 (holds no|does not hold) weights"):
        build_student("conv4", embedding_dim=4, teacher_dim=4, weights=str(file))
