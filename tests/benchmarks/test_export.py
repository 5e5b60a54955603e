"""An exported ResNet-18 beside the Keras model that was exported, and beside ONNX Runtime."""

import io

import numpy as np
import pytest
import tensorflow as tf

from stml_tf.export import export_saved_model
from stml_tf.models import build_student, preprocessing
from tests.benchmarks.photographs import save_photographs

pytestmark = pytest.mark.benchmark

SIZE = 224
BACKBONE = "resnet18"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    student = build_student(BACKBONE, embedding_dim=128, teacher_dim=512)
    path = export_saved_model(student, folder / "model", size=SIZE, preprocess=preprocessing(BACKBONE))
    files = [path.read_bytes() for path in save_photographs(folder / "files", 32)]
    return student, path, files


def onnx_session(student, folder):
    import onnxruntime
    import tf2onnx

    file = folder / "student.onnx"
    network = tf.function(
        lambda images: student(images, training=False)[0],
        input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)],
    )
    tf2onnx.convert.from_function(network, input_signature=network.input_signature, output_path=str(file))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda views: session.run(None, {name: views})[0]


def pillow_view(content):
    """What people write who use ONNX Runtime: shorter side to SIZE, the centre."""
    from PIL import Image

    image = Image.open(io.BytesIO(content)).convert("RGB")
    scale = SIZE / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - SIZE) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)), np.float32)


@pytest.mark.parametrize("count", [1, 32])
def test_signatures(benchmarks, exported, tmp_path, count):
    student, path, files = exported
    model = tf.saved_model.load(str(path))
    of_bytes, of_pixels = model.signatures["serving_default"], model.signatures["pixels"]
    preprocess = preprocessing(BACKBONE)
    network = tf.function(lambda images: tf.math.l2_normalize(student(images, training=False)[0], axis=1))
    content = tf.constant(files[:count])
    views = np.stack([pillow_view(file) for file in files[:count]])
    prepared = tf.constant(preprocess(views))
    pixels = tf.constant(views.astype(np.uint8))
    rounds, items = (15 if count == 1 else 5), {"items": count}
    of_files = f"JPEG files of 500 px, batches of {count}, ResNet-18"
    benchmarks.compare(
        f"{of_files}: SavedModel",
        lambda: of_bytes(image_bytes=content)["embedding"].numpy(),
        "Keras model on prepared views, without decoding",
        lambda: network(prepared).numpy(),
        rounds=rounds,
        **items,
    )
    benchmarks.compare(
        f"pixels of {SIZE} px, batches of {count}: SavedModel (the signature's overhead)",
        lambda: of_pixels(pixels=pixels)["embedding"].numpy(),
        "Keras model on prepared views",
        lambda: network(prepared).numpy(),
        reach="1.1",
        rounds=rounds,
        **items,
    )
    session = onnx_session(student, tmp_path)
    np.testing.assert_allclose(session(prepared.numpy()), student(prepared, training=False)[0], rtol=1e-2, atol=1e-3)
    benchmarks.compare(
        f"{of_files}: SavedModel",
        lambda: of_bytes(image_bytes=content)["embedding"].numpy(),
        "Pillow, then ONNX Runtime",
        lambda: session(np.asarray(preprocess(np.stack([pillow_view(file) for file in files[:count]])))),
        rounds=rounds,
        **items,
    )
