import io
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from stml_tf.data.decoding import read_image
from stml_tf.data.transforms import evaluation_view
from stml_tf.export.saved_model_writer import export_saved_model
from stml_tf.models import build_student, preprocessing
from tests.data.encodings import ENCODINGS
from tests.export.kserve_process import NAME, install_kserve, kserve_server

# One worker of pytest-xdist runs them all: each other one would start a server too.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kserve")]

SIZE, DIM = 32, 16


def photograph(seed, width=90, height=60):
    """A JPEG of soft colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file, format="JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(0)
    return build_student("conv4", embedding_dim=DIM, teacher_dim=8)


@pytest.fixture(scope="module")
def server(student, pytestconfig, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kserve")
    exported = export_saved_model(student, folder / NAME, size=SIZE, preprocess=preprocessing("conv4"))
    python = install_kserve(pytestconfig.cache.mkdir("kserve"))
    with kserve_server(python, exported, folder / "log") as server:
        yield server


def assert_embeddings_of(student, images, served):
    views = np.stack([evaluation_view(read_image(image), size=SIZE).numpy() for image in images])
    expected = student.predict(preprocessing("conv4")(views), verbose=0)[0]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    cosines = np.asarray(served) @ expected.T
    assert np.diag(cosines).min() > 0.9999
    assert (cosines - np.eye(len(images))).max() < 0.9999, "different images, different embeddings"


def test_rows_as_tensorflow_serving_takes_them(server, student):
    images = [photograph(0), photograph(1, 200, 33), photograph(2, 31, 45)]
    status, answer = server.predict(images)
    assert status == 200
    assert_embeddings_of(student, images, answer["predictions"])
    assert server.predict([]) == (200, {"predictions": []})


def test_open_inference_protocol(server, student):
    images = [photograph(3), photograph(4)]
    status, answer = server.infer(images)
    assert status == 200
    (output,) = answer["outputs"]
    assert (output["shape"], output["datatype"]) == ([2, DIM], "FP32")
    assert_embeddings_of(student, images, np.reshape(output["data"], output["shape"]))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "an image cannot be decoded: it is empty$"),
        (b"no image", "an image cannot be decoded: it is no JPEG, PNG, .* or JPEG 2000 image$"),
        (photograph(5)[:-200], r"an image cannot be decoded: it is damaged or cut off \(.*Invalid JPEG data"),
        (ENCODINGS["tiff"], "an image cannot be decoded: TensorFlow cannot decode TIFF: send the pixels to the sig"),
    ],
    ids=["empty", "text", "truncated", "TIFF"],
)
@pytest.mark.parametrize("protocol", ["predict", "infer"])
def test_an_image_that_cannot_be_decoded_is_the_clients_error(server, protocol, image, message):
    status, answer = getattr(server, protocol)([photograph(6), image])
    assert status == 400
    assert re.match(message, answer["error"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/v1/models/{NAME}:predict", {"instances": [{"b64": "no base64!"}]}),
        (f"/v1/models/{NAME}:predict", {"instances": [{"image": "x"}]}),
        (f"/v1/models/{NAME}:predict", {"instances": [1]}),
        (f"/v1/models/{NAME}:predict", {}),
        *((f"/v1/models/{NAME}:predict", body) for body in ([], None, "x", 5, True, [{"b64": "QQ=="}])),
        (f"/v2/models/{NAME}/infer", {"inputs": []}),
        (f"/v2/models/{NAME}/infer", {"inputs": [{"name": "x", "shape": [2], "datatype": "BYTES", "data": ["QQ=="]}]}),
        (f"/v2/models/{NAME}/infer", {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}),
    ],
)
def test_a_request_without_images_is_the_clients_error(server, path, body):
    status, answer = server.post(path, body)
    assert (status, "the request holds no images in base64" in answer["error"]) == (400, True), answer


@pytest.mark.parametrize("instances", [1, None, "x", {}])
def test_instances_that_are_no_list_are_the_clients_error(server, instances):
    expected = 400, {"error": 'Expected "instances" to be a list'}
    assert server.post(f"/v1/models/{NAME}:predict", {"instances": instances}) == expected


@pytest.mark.parametrize("body", [[], None, "x", 5])
def test_a_body_that_is_no_request_of_the_v2_protocol_is_the_clients_error(server, body):
    status, _ = server.post(f"/v2/models/{NAME}/infer", body)
    assert 400 <= status < 500


def test_it_listens_on_this_machine_alone(server):
    """Read from the kernel: every socket that the process listens with."""
    inodes = {
        link.removeprefix("socket:[").removesuffix("]")
        for link in (str(each.readlink()) for each in Path(f"/proc/{server.pid}/fd").iterdir())
        if link.startswith("socket:[")
    }
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{server.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.add(fields[1])
    assert listening == {f"0100007F:{server.port:04X}"}, "127.0.0.1, in the order of a little-endian machine"
