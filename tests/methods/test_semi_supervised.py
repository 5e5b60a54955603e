import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses import build_loss, multi_similarity_loss, relaxed_contrastive_loss, self_distillation_loss
from stml_tf.methods import SemiSupervisedModel
from stml_tf.methods.pseudo_labels import self_taught_similarity
from stml_tf.models import auxiliary_network, build_student

NUM_LABELED = 4
LABELS = [0, 0, 1, 1, -1, -1, -1, -1]


def build(loss="multi_similarity", num_labeled=NUM_LABELED, **options):
    keras.utils.set_random_seed(1)
    student = build_student("conv4", embedding_dim=6, teacher_dim=10)
    return SemiSupervisedModel(
        student,
        build_loss(loss, num_classes=2, dim=6),
        num_labeled=num_labeled,
        num_neighbors=2,
        momentum=0.9,
        **options,
    )


def trained(data, *, optimizer=None, **options):
    model = build(**options)
    # Tracing a graph for each model would take longer than its few steps.
    model.compile(optimizer or keras.optimizers.SGD(0.5), run_eagerly=True)
    return model, model.fit(data, verbose=0).history


@pytest.fixture
def data(random):
    views = random.normal(size=(3, 8, 2, 16, 16, 3)).astype(np.float32)
    ids = np.stack([random.permutation(8) for _ in range(3)])
    return tf.data.Dataset.from_tensor_slices((views, ids, [LABELS] * 3))


def labeled_part(data):
    return data.map(lambda views, ids, labels: (views[:NUM_LABELED], ids[:NUM_LABELED], labels[:NUM_LABELED]))


def all_weights(model):
    return [np.asarray(weight) for weight in model.variables]


def assert_equal(one, other):
    for a, b in zip(all_weights(one), all_weights(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def descend(variables, gradients):
    for variable, gradient in zip(variables, gradients, strict=True):
        if gradient is not None:
            variable.assign(variable - 0.5 * gradient)


def move_teacher(model):
    for average, current in zip(model.teacher.weights, auxiliary_network(model.student).weights, strict=True):
        average.assign(0.9 * average + 0.1 * current)


@pytest.mark.parametrize("joint", [True, False])
def test_a_step_by_hand(data, joint):
    model, logs = trained(data.take(1), weight=0.7, joint=joint)

    twin = build()
    views, ids, _ = next(iter(data))
    images, ids = tf.reshape(views, (16, 16, 16, 3)), tf.repeat(ids, 2)
    labels = np.repeat(LABELS, 2)
    part = slice(0 if joint else 8, 16)
    predicted = np.array(self_taught_similarity(twin.teacher(images)[part], ids[part], num_neighbors=4, sigma=3.0)[2])
    if joint:
        for i in range(8):
            for j in range(8):
                predicted[i, j] = labels[i] == labels[j]
    with tf.GradientTape() as tape:
        f, g = twin.student(images, training=True)
        supervised = multi_similarity_loss(labels[:8], f[:8])
        taught = sum(relaxed_contrastive_loss(head[part], predicted, delta=1.0) for head in (f, g)) / 2
        loss = supervised + 0.7 * (taught + self_distillation_loss(f[part], g[part]))
    variables = twin.student.trainable_variables
    descend(variables, tape.gradient(loss, variables))
    move_teacher(twin)

    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(logs["supervised"], supervised, rtol=1e-5)
    np.testing.assert_allclose(logs["relaxed_contrastive"], taught, rtol=1e-5)
    assert_equal(model, twin)


def test_labels_alone_are_plain_supervised_learning(data):
    """The same as a network that `fit` trains with a Keras loss."""
    model, logs = trained(labeled_part(data), weight=0.0)
    assert set(logs) == {"loss", "supervised", "gradient_norm"}

    student = build().student
    plain = keras.Model(student.input, student.output[0])
    plain.compile(keras.optimizers.SGD(0.5), loss=build_loss("multi_similarity"), run_eagerly=True)
    flat = labeled_part(data).map(lambda views, _, labels: (tf.reshape(views, (8, 16, 16, 3)), tf.repeat(labels, 2)))
    plain.fit(flat, verbose=0)
    for variable, expected in zip(model.student.variables, student.variables, strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-5)


def test_warm_up_steps_learn_from_labels_alone(data):
    warm, _ = trained(data, warmup_steps=2)
    step_by_step = build(weight=1e-30)
    step_by_step.compile(keras.optimizers.SGD(0.5), run_eagerly=True)
    step_by_step.fit(data.take(2), verbose=0)
    after_warm_up, _ = trained(data.take(2), warmup_steps=2)
    assert_equal(after_warm_up, step_by_step)
    without_warm_up = build()
    without_warm_up.compile(keras.optimizers.SGD(0.5), run_eagerly=True)
    for variable, value in zip(without_warm_up.variables, all_weights(after_warm_up), strict=True):
        if "optimizer" not in variable.path:
            variable.assign(value)
    without_warm_up.fit(data.skip(2), verbose=0)
    np.testing.assert_allclose(
        warm.student.get_layer("g").kernel, without_warm_up.student.get_layer("g").kernel, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_proxies_are_trained_with_the_network(data, accumulate):
    model, _ = trained(data.take(1), loss="proxy_anchor", weight=0.0, num_labeled=4, accumulate=accumulate)
    twin = build("proxy_anchor")
    views, _, _ = next(iter(data))
    with tf.GradientTape() as tape:
        pieces = tf.split(tf.reshape(views, (16, 16, 16, 3)), accumulate)  # each of which BatchNorm sees by itself
        f = tf.concat([twin.student(piece, training=True)[0] for piece in pieces], axis=0)
        loss = twin.supervised_loss(np.repeat(LABELS[:4], 2), f[:8])
    gradient = tape.gradient(loss, twin.supervised_loss.proxies)
    expected = np.asarray(twin.supervised_loss.proxies) - 0.5 * np.asarray(gradient)
    np.testing.assert_allclose(model.supervised_loss.proxies, expected, rtol=1e-4, atol=1e-5)


def test_proxies_go_with_the_optimizer_of_the_heads(data):
    model, start, whole = (build("proxy_anchor") for _ in range(3))
    model.compile(keras.optimizers.SGD(0.0), head_optimizer=keras.optimizers.SGD(0.5), run_eagerly=True)
    whole.compile(keras.optimizers.SGD(0.5), run_eagerly=True)
    for each in (model, whole):
        each.fit(data.take(1), verbose=0)
    np.testing.assert_allclose(model.supervised_loss.proxies, whole.supervised_loss.proxies, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(model.student.trainable_variables[0], start.student.trainable_variables[0])


@pytest.mark.parametrize("loss", ["multi_similarity", "proxy_anchor"])
def test_a_saved_model_goes_on_as_if_it_had_not_stopped(tmp_path, data, loss):
    model = build(loss, weight=0.5, joint=False, warmup_steps=1)
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(data.take(1), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.num_labeled, loaded.weight, loaded.joint, loaded.warmup_steps) == (4, 0.5, False, 1)
    assert loaded.num_neighbors == 2
    for each in (model, loaded):
        each.fit(data, verbose=0)
    assert_equal(model, loaded)


@pytest.mark.parametrize("options", [{"num_labeled": 0}, {"weight": -1.0}, {"warmup_steps": -1}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match="given; they must be at least 1, 0 and 0"):
        build(**options)
