"""What holds for MoCo, BYOL and MeanShift alike."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.fitting.checkpoints import Checkpoints
from stml_tf.methods import BYOLModel, MeanShiftModel, MoCoModel
from stml_tf.models import build_projection_student
from stml_tf.optimizers import AdamP

METHODS = {
    "moco": (MoCoModel, {"memory_size": 20}),
    "byol": (BYOLModel, {"hidden_dim": 12}),
    "mean_shift": (MeanShiftModel, {"hidden_dim": 12, "memory_size": 20, "top_k": 3}),
}
every_method = pytest.mark.parametrize("method", METHODS)


def build(method, *, seed=1, **options):
    keras.utils.set_random_seed(seed)
    student = build_projection_student("conv4", embedding_dim=6, hidden_dim=12, batch_norm=method != "moco")
    build_method, settings = METHODS[method]
    return build_method(student, **{"momentum": 0.9, **settings, **options})


@pytest.fixture
def data(random):
    views = random.normal(size=(2, 8, 2, 16, 16, 3)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((views, np.tile(np.arange(8), (2, 1))))


def all_weights(model):
    return [np.asarray(variable) for layer in model.layers for variable in layer.weights]


@every_method
def test_a_step_is_teacher_loss_optimizer_and_moving_average(data, method):
    model, twin = build(method), build(method)
    model.compile(keras.optimizers.SGD(0.5))
    logs = model.fit(data.take(1), verbose=0).history

    views, _ = next(iter(data))
    targets = twin.teacher(views[:, 1], training=True)
    with tf.GradientTape() as tape:
        _, projections = twin.student(views[:, 0], training=True)
        loss = twin.objective(projections, targets)
    variables = twin.trainable_variables
    gradients = tape.gradient(loss, variables)
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign(variable - 0.5 * gradient)
    for average, current in zip(twin.teacher.weights, twin.student.weights, strict=True):
        average.assign(0.9 * average + 0.1 * current)

    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(logs["gradient_norm"], tf.linalg.global_norm(gradients), rtol=1e-3)
    for trained, by_hand in zip(all_weights(model), all_weights(twin), strict=True):
        np.testing.assert_allclose(trained, by_hand, rtol=1e-3, atol=1e-4)


@every_method
def test_a_saved_model_goes_on_as_if_it_had_not_stopped(tmp_path, data, method):
    model = build(method)
    model.compile(AdamP(1e-3), head_optimizer=AdamP(1e-2))
    model.fit(data, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    ours, theirs = ({**each.get_config(), "student": None} for each in (model, loaded))
    assert ours == theirs
    for each in (model, loaded):
        each.fit(data, verbose=0)
    for a, b in zip(all_weights(model), all_weights(loaded), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@every_method
def test_a_checkpoint_holds_student_teacher_predictor_and_memory(tmp_path, method):
    model, other = build(method), build(method, seed=7)
    checkpoints = Checkpoints(tmp_path)
    for each in (model, other):
        each.compile(AdamP(1e-3))
    checkpoints.restore(other, checkpoints.save(model, epoch=1, step=2, metrics={}))
    for a, b in zip(all_weights(model), all_weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


@every_method
def test_the_head_optimizer_trains_head_and_predictor_alone(data, method):
    model, start = build(method), build(method)
    model.compile(keras.optimizers.SGD(0.0), head_optimizer=keras.optimizers.SGD(0.5))
    model.fit(data.take(1), verbose=0)
    for name in ("conv1", "conv4"):
        kernels = [each.student.get_layer("conv4").get_layer(name).kernel for each in (model, start)]
        np.testing.assert_array_equal(*kernels)
    heads = [each.student.get_layer("g").trainable_variables for each in (model, start)]
    if method != "moco":
        heads = [[*head, *each.predictor.trainable_variables] for head, each in zip(heads, (model, start), strict=True)]
    # The bias before a BatchNorm has no gradient.
    assert not any(np.allclose(a, b) for a, b in zip(*heads, strict=True) if len(a.shape) == 2)


def test_other_than_two_views_are_refused(random):
    model = build("byol")
    model.compile(keras.optimizers.SGD(0.1))
    views = random.normal(size=(1, 8, 3, 16, 16, 3)).astype(np.float32)
    with pytest.raises(ValueError, match="BYOLModel learns from 2 views of an image, but 3 were given"):
        model.fit(tf.data.Dataset.from_tensor_slices((views, np.zeros((1, 8), int))), verbose=0)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("moco", {"momentum": 1.0}, r"momentum=1\.0 must be at least 0 and below 1"),
        ("moco", {"temperature": 0.0}, r"temperature=0\.0 must be above 0"),
        ("moco", {"memory_size": 0}, "memory of 0 embeddings given"),
        ("mean_shift", {"top_k": 21}, "top_k=21 must be from 1 to the memory's 20 embeddings"),
        ("mean_shift", {"top_k": 0}, "top_k=0 must be from 1 to the memory's 20 embeddings"),
    ],
)
def test_impossible_settings_are_refused(method, options, message):
    with pytest.raises(ValueError, match=message):
        build(method, **options)
