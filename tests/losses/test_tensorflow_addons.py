import importlib.util
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses import build_loss, lifted_structure_loss, tensorflow_addons, triplet_loss
from stml_tf.losses.tensorflow_addons import TensorFlowAddonsLoss
from tests.losses.supervised_batch import DIM, embeddings, unit

# Rows without a positive count differently there.
LABELS = np.array([4, 0, 4, 2, 0, 0, 4, 2, 2, 0, 4, 2])

installed = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in ("tensorflow_addons", "tf_keras")),
    reason="the extra `addons` is not installed",
)


def test_native_losses_do_not_bring_it_in():
    check = (
        "import sys; from stml_tf.losses import build_loss; build_loss('triplet'); "
        "print({'tensorflow_addons', 'tf_keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_too_new_a_python_is_refused(monkeypatch):
    monkeypatch.setattr(tensorflow_addons, "LAST_PYTHON", (3, 9))
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    message = (
        f'"tfa:triplet_hard_loss" needs tensorflow-addons, which exists for Python up to 3.9; this is Python {here}.'
    )
    with pytest.raises(ValueError, match=re.escape(message) + " Choose a native loss"):
        build_loss("tfa:triplet_hard_loss")


def test_a_missing_package_is_refused_and_nothing_is_left_changed(monkeypatch):
    monkeypatch.setattr(tensorflow_addons, "LAST_PYTHON", (99, 0))
    monkeypatch.setitem(sys.modules, "tensorflow_addons.losses", None)
    before = vars(tf)["keras"]
    with pytest.raises(
        ValueError, match=r"needs .* is not installed\. .* pip install 'stml-tf\[addons\]', or choose a"
    ):
        build_loss("tfa:triplet_hard_loss")
    assert vars(tf)["keras"] is before
    assert "keras.src.engine" not in sys.modules


@installed
def test_keras_stays_keras_3():
    build_loss("tfa:triplet_hard_loss")
    assert keras.__version__.startswith("3.")
    assert tf.keras.layers.Dense is keras.layers.Dense
    assert "keras.src.engine" not in sys.modules
    from tensorflow.keras import layers

    assert layers.Dense is keras.layers.Dense


@installed
def test_its_losses_equal_the_native_ones():
    x = unit(embeddings()).astype(np.float32)
    for mining, name in (("semi_hard", "tfa:triplet_semihard_loss"), ("hard", "tfa:triplet_hard_loss")):
        loss = build_loss(name, margin=0.2, distance_metric="squared-L2")
        np.testing.assert_allclose(loss(LABELS, x), triplet_loss(LABELS, x, mining=mining), rtol=1e-5)
    loss = build_loss("tfa:lifted_struct_loss", num_classes=5, dim=DIM)
    np.testing.assert_allclose(loss(LABELS, x), lifted_structure_loss(LABELS, x), rtol=1e-5)


@installed
def test_a_value_for_each_row_becomes_their_mean():
    loss = build_loss("tfa:pinball_loss", tau=0.5)(np.array([[1.0], [2.0]]), np.array([[0.0], [4.0]]))
    np.testing.assert_allclose(loss, (0.5 + 1.0) / 2)


@installed
def test_a_keras_3_model_trains_with_it():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(DIM)])
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=build_loss("tfa:lifted_struct_loss"))
    history = model.fit(embeddings(), LABELS, epochs=10, batch_size=len(LABELS), verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]


@installed
def test_it_survives_serialisation():
    loss = build_loss("tfa:triplet_semihard_loss", margin=0.7)
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(copy, TensorFlowAddonsLoss)
    np.testing.assert_allclose(copy(LABELS, embeddings()), loss(LABELS, embeddings()), rtol=1e-6)


@installed
def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(
        ValueError, match=r'"tfa:triplet_semi_hard"; allowed: contr.*; did you mean "triplet_semihard_loss"\?'
    ):
        build_loss("tfa:triplet_semi_hard")
    with pytest.raises(
        ValueError, match=r"no option 'marjin'; allowed: distance_metric, margin; did you mean \"margin\"\?"
    ):
        build_loss("tfa:triplet_semihard_loss", marjin=1.0)
    with pytest.raises(ValueError, match='Unknown loss "tfa:sparsemax_loss"'):  # It takes three tensors.
        build_loss("tfa:sparsemax_loss")
