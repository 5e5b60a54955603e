import io
import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stml_tf.data.decoding import UnreadableImageError, read_image
from stml_tf.data.formats.rule import Decoding
from stml_tf.data.formats.signatures import PILLOW_FORMATS, format_of
from stml_tf.data.transforms import evaluation_view
from stml_tf.export.saved_model_writer import export_saved_model
from stml_tf.models import computing_in
from tests.data.encodings import ENCODINGS, REFUSED, png

SIZE, RESIZE, DIM = 32, 40, 16

IN_ANOTHER_PROCESS = """
import sys
sys.modules["stml_tf"] = None  # Even where the package is installed, importing it fails from here on.
try:
    import stml_tf
except ImportError:
    pass
else:
    raise SystemExit("stml_tf could be imported")
import numpy as np, tensorflow as tf
folder, images, pixels, results = sys.argv[1:]
model = tf.saved_model.load(folder)
images = [image.tobytes() for image in np.load(images).values()]
from_bytes = model.signatures["serving_default"](image_bytes=tf.constant(images))["embedding"]
from_pixels = model.signatures["pixels"](pixels=tf.constant(np.load(pixels)))["embedding"]
np.savez(results, from_bytes=from_bytes, from_pixels=from_pixels)
"""


def preprocess(images):
    return images / 127.5 - 1.0


def build_student():
    keras.utils.set_random_seed(2)
    images = keras.Input((None, None, 3))
    features = keras.layers.Conv2D(24, 5, strides=3)(images)
    features = keras.layers.ReLU()(keras.layers.BatchNormalization()(features))
    pooled = keras.layers.GlobalMaxPooling2D()(features) - keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(images, [keras.layers.Dense(DIM)(pooled), keras.layers.Dense(5)(pooled)])


def photograph(seed, height, width):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def expected_embeddings(student, all_pixels):
    views = np.stack([evaluation_view(pixels, size=SIZE, resize=RESIZE).numpy() for pixels in all_pixels])
    embeddings = student.predict(preprocess(views), verbose=0)[0]
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def student():
    return build_student()


@pytest.fixture(scope="module")
def exported(student, tmp_path_factory):
    return export_saved_model(
        student,
        tmp_path_factory.mktemp("exports") / "nested" / "model",
        size=SIZE,
        resize=RESIZE,
        preprocess=preprocess,
        metadata={"name": "toy", "recipe": {"name": "toy", "batch": {"size": 4}}, "metrics": {"recall@1": 0.5}},
    )


def serve(folder, images, name="serving_default", argument="image_bytes"):
    return tf.saved_model.load(str(folder)).signatures[name](**{argument: tf.constant(images)})["embedding"].numpy()


def test_signatures(exported):
    signatures = tf.saved_model.load(str(exported)).signatures
    assert set(signatures) == {"serving_default", "pixels"}
    for name, argument, shape, dtype in (
        ("serving_default", "image_bytes", [None], tf.string),
        ("pixels", "pixels", [None, None, None, 3], tf.uint8),
    ):
        (spec,) = signatures[name].structured_input_signature[1].values()
        assert (spec.name, spec.shape.as_list(), spec.dtype) == (argument, shape, dtype)
        assert list(signatures[name].structured_outputs) == ["embedding"]
        output = signatures[name].structured_outputs["embedding"]
        assert (output.shape.as_list(), output.dtype) == ([None, DIM], tf.float32)


def test_another_process_gets_the_embeddings_of_the_evaluation(student, exported, tmp_path):
    images = [
        encoded(photograph(0, 64, 96), format="PNG"),
        encoded(photograph(1, 120, 80), format="JPEG", quality=90),
        encoded(photograph(2, 48, 200), format="JPEG", quality=60, subsampling=2),
        encoded(photograph(3, 24, 16), format="PNG"),
        encoded(photograph(4, 56, 72).convert("L"), format="JPEG"),
        encoded(photograph(5, 56, 72).convert("CMYK"), format="JPEG"),
        encoded(photograph(6, 56, 72).quantize(16), format="GIF"),
        encoded(photograph(7, 56, 72), format="BMP"),
    ]
    pixels = np.stack([np.asarray(photograph(seed, 64, 88)) for seed in range(20, 23)])
    np.savez(tmp_path / "images.npz", *[np.frombuffer(image, np.uint8) for image in images])
    np.save(tmp_path / "pixels.npy", pixels)
    arguments = [exported, tmp_path / "images.npz", tmp_path / "pixels.npy", tmp_path / "results.npz"]
    child = subprocess.run(
        [sys.executable, "-I", "-c", IN_ANOTHER_PROCESS, *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    results = np.load(tmp_path / "results.npz")

    for served, expected in (
        (results["from_bytes"], expected_embeddings(student, [read_image(image) for image in images])),
        (results["from_pixels"], expected_embeddings(student, pixels)),
    ):
        assert served.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(served, axis=1), 1, atol=1e-5)
        similarity = served @ expected.T
        assert np.diag(similarity).min() > 0.9999
        assert (similarity - np.eye(len(served))).max() < 0.999, "different images, different embeddings"


def test_jpeg_is_decoded_to_the_very_pixels_of_the_evaluation(student, exported):
    image = encoded(photograph(9, 64, 64), format="JPEG", quality=70, subsampling=2)
    pixels = read_image(image)
    served, from_pixels = serve(exported, [image]), serve(exported, pixels[None], "pixels", "pixels")
    np.testing.assert_allclose(served, from_pixels, atol=1e-6)


def test_every_encoding_is_served_as_it_is_searched_and_trained_on_or_refused_for_the_same_reason(exported):
    signatures = tf.saved_model.load(str(exported)).signatures  # Once: loading takes longer than all images.
    served = refused = 0
    for kind, content in ENCODINGS.items():
        image = tf.constant([content])
        try:
            pixels = read_image(content)
        except UnreadableImageError as error:
            with pytest.raises(tf.errors.InvalidArgumentError) as caught:
                signatures["serving_default"](image_bytes=image)
            assert re.sub(r".*\((.*)\)", r"\1", error.reason) in str(caught.value), kind
            refused += 1
            continue
        if (name := format_of(content)) in PILLOW_FORMATS:
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"TensorFlow cannot decode {name}: send the pix"):
                signatures["serving_default"](image_bytes=image)
            continue
        from_bytes = signatures["serving_default"](image_bytes=image)["embedding"]
        from_pixels = signatures["pixels"](pixels=tf.constant(pixels[None]))["embedding"]
        np.testing.assert_allclose(from_bytes, from_pixels, atol=1e-6, err_msg=kind)
        served += 1
    assert served > 66 and refused == len(REFUSED)


def test_background_and_bit_depth_are_those_of_the_export(student, tmp_path):
    decoding = Decoding(background=(20, 40, 220), bit_depth=10)
    folder = export_saved_model(student, tmp_path, size=SIZE, resize=RESIZE, preprocess=preprocess, decoding=decoding)
    metadata = json.loads((folder / "assets.extra" / "metadata.json").read_text())
    assert (metadata["background"], metadata["bit_depth"]) == ([20, 40, 220], 10)
    signatures = tf.saved_model.load(str(folder)).signatures
    kinds = ("png, alpha", "png, 16 bits, alpha", "gif, transparent", "webp, alpha")
    pixels = tf.constant(np.stack([read_image(ENCODINGS[kind], decoding) for kind in kinds]))
    served = signatures["serving_default"](image_bytes=tf.constant([ENCODINGS[kind] for kind in kinds]))["embedding"]
    np.testing.assert_allclose(served, signatures["pixels"](pixels=pixels)["embedding"], atol=1e-6)
    on_white = tf.constant(np.stack([read_image(ENCODINGS[kind]) for kind in kinds]))
    assert np.abs(served - signatures["pixels"](pixels=on_white)["embedding"]).max(axis=1).min() > 1e-3


def test_thin_and_huge_images_take_little_memory_or_are_refused(exported):
    thin = encoded(Image.new("RGB", (65_500, 1), (10, 200, 30)), format="PNG")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert serve(exported, [thin] * 10).shape == (10, DIM)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="20000 x 20000 pixels are more than the 67,108,864 allowed"
    ):
        serve(exported, [png([], bits=8, color_type=2, size=(20_000, 20_000))])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


def test_a_batch_of_any_size_is_embedded_in_parts(student, exported, tmp_path):
    pixels = np.stack([np.asarray(photograph(seed, 32, 48)) for seed in range(7)])
    expected = serve(exported, pixels, "pixels", "pixels")
    for batch_size in (1, 3, 7):
        folder = export_saved_model(
            student, tmp_path, size=SIZE, resize=RESIZE, preprocess=preprocess, batch_size=batch_size
        )
        np.testing.assert_allclose(serve(folder, pixels, "pixels", "pixels"), expected, atol=1e-6)
    assert "at most 7 images pass through the network at once" in (
        folder / "assets.extra" / "model_card.md"
    ).read_text().replace("\n", " ")


def test_no_images_give_no_embeddings(exported):
    assert serve(exported, np.empty(0, object)).shape == (0, DIM)
    assert serve(exported, np.empty((0, 4, 4, 3), np.uint8), "pixels", "pixels").shape == (0, DIM)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "it is empty"),
        (b"no image", "it is no JPEG, PNG, GIF"),
        (encoded(photograph(0, 64, 64), format="JPEG")[:300], "Invalid JPEG data"),
        (encoded(photograph(0, 64, 64), format="PNG")[:300], "Invalid PNG data"),
    ],
    ids=["empty", "text", "JPEG", "PNG"],
)
def test_an_image_that_cannot_be_decoded_fails_its_batch(exported, image, message):
    # Servers answer an InvalidArgumentError as an error of the client.
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        serve(exported, [encoded(photograph(1, 64, 64), format="PNG"), image])


def test_the_auxiliary_head_stays_behind(student, exported):
    saved = {tuple(shape) for _, shape in tf.train.list_variables(str(exported / "variables" / "variables"))}
    embedding, auxiliary = (layer.kernel.shape for layer in student.layers[-2:])
    assert embedding in saved
    assert auxiliary not in saved


def test_float16(student, exported, tmp_path):
    pixels = np.asarray(photograph(1, 64, 88))[None]
    folder = export_saved_model(student, tmp_path, size=SIZE, resize=RESIZE, preprocess=preprocess, dtype="float16")
    embeddings = serve(folder, pixels, "pixels", "pixels")
    assert embeddings.dtype == np.float16
    np.testing.assert_array_equal(embeddings, serve(exported, pixels, "pixels", "pixels").astype(np.float16))
    assert f"[N, {DIM}] float16" in (folder / "assets.extra" / "model_card.md").read_text()


def test_a_network_that_was_trained_in_half_precision_is_served_in_float32(student, exported, tmp_path):
    with computing_in("mixed_bfloat16"):
        half = build_student()
    half.set_weights(student.get_weights())
    folder = export_saved_model(half, tmp_path, size=SIZE, resize=RESIZE, preprocess=preprocess)
    pixels = np.asarray(photograph(1, 64, 88))[None]
    embeddings = serve(folder, pixels, "pixels", "pixels")
    np.testing.assert_array_equal(embeddings, serve(exported, pixels, "pixels", "pixels"))
    assert half.layers[-1].compute_dtype == "bfloat16", "it is trained on as it was"


def test_extras_tell_what_it_is(exported):
    extras = exported / "assets.extra"
    assert json.loads((extras / "recipe.json").read_text()) == {"name": "toy", "batch": {"size": 4}}
    metadata = json.loads((extras / "metadata.json").read_text())
    assert (metadata["embedding_dim"], metadata["size"], metadata["resize"]) == (DIM, SIZE, RESIZE)
    assert metadata["metrics"] == {"recall@1": 0.5}
    card = (extras / "model_card.md").read_text()
    assert card.startswith("# toy\n")
    for told in ("| recall@1 | 0.5000 |", f"[N, {DIM}] float32", "L2-normalised", f"tensorflow {tf.__version__}"):
        assert told in card
    assert "$" not in card
    assert "## Data\n\nNot recorded." in card


@pytest.mark.slow
def test_saved_model_cli_runs_it(exported, tmp_path):
    image = encoded(photograph(0, 64, 96), format="JPEG")
    np.save(tmp_path / "images.npy", np.array([image]))
    command = [Path(sys.executable).with_name("saved_model_cli"), "run", "--dir", exported, "--tag_set", "serve"]
    inputs = ["--signature_def", "serving_default", "--inputs", f"image_bytes={tmp_path / 'images.npy'}"]
    done = subprocess.run([*command, *inputs, "--outdir", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "embedding.npy"), serve(exported, [image]), atol=1e-6)


def test_versions_count_on_and_none_is_overwritten(tmp_path):
    student = build_student()
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "mine.txt").write_text("keep")
    first = export_saved_model(student, tmp_path, size=8, preprocess=preprocess)
    assert first == tmp_path / "8"
    assert not (first / "assets.extra" / "recipe.json").exists()
    student.layers[1].kernel.assign(0 * student.layers[1].kernel)
    assert export_saved_model(student, tmp_path, size=8, preprocess=preprocess).name == "9"
    assert (tmp_path / "7" / "mine.txt").read_text() == "keep"
    image = np.asarray(photograph(1, 16, 16))[None]
    served = [serve(tmp_path / version, image, "pixels", "pixels") for version in ("8", "9")]
    assert not np.allclose(*served)


def test_zero_embeddings_stay_finite_and_raw_ones_keep_their_length(tmp_path):
    student = build_student()
    image = np.asarray(photograph(1, 16, 16))[None]
    raw = serve(
        export_saved_model(student, tmp_path, size=8, preprocess=preprocess, normalize=False), image, "pixels", "pixels"
    )
    expected = student(preprocess(evaluation_view(image[0], size=8)[None]), training=False)[0].numpy()
    np.testing.assert_allclose(raw, expected, atol=1e-4)
    assert "not normalised" in (tmp_path / "1" / "assets.extra" / "model_card.md").read_text()
    for variable in student.layers[-2].variables:
        variable.assign(0 * variable)
    folder = export_saved_model(student, tmp_path, size=8, preprocess=preprocess)
    np.testing.assert_array_equal(serve(folder, image, "pixels", "pixels"), np.zeros((1, DIM)))


def test_failed_export_leaves_nothing(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        export_saved_model(build_student(), tmp_path, size=8, preprocess=preprocess, metadata={"recipe": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"size": 0}, "size must be 1 or more, but 0 was given"),
        ({"size": 32, "batch_size": 0}, "batch_size must be 1 or more, but 0 was given"),
        ({"size": 32, "resize": 31}, "resize must be at least size = 32, but 31 was given"),
    ],
)
def test_refuses(student, tmp_path, sizes, message):
    with pytest.raises(ValueError, match=message):
        export_saved_model(student, tmp_path, preprocess=preprocess, **sizes)
