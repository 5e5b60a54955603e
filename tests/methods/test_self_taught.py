import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses import relaxed_contrastive_loss, self_distillation_loss
from stml_tf.methods import SelfTaughtModel
from stml_tf.methods.pseudo_labels import self_taught_similarity
from stml_tf.models import auxiliary_network, build_student
from stml_tf.optimizers import AdamP


def build(**options):
    keras.utils.set_random_seed(1)
    student = build_student("conv4", embedding_dim=6, teacher_dim=10)
    return SelfTaughtModel(student, num_neighbors=2, momentum=0.9, **options)


@pytest.fixture
def data(random):
    views = random.normal(size=(3, 8, 2, 16, 16, 3)).astype(np.float32)
    ids = np.stack([random.permutation(8) for _ in range(3)])
    return tf.data.Dataset.from_tensor_slices((views, ids))


def all_weights(model):
    return [np.asarray(weight) for part in (model.student, model.teacher) for weight in part.weights]


def test_a_step_is_the_algorithm(data):
    """Student, similarity, losses, optimizer and teacher, one after the other by hand."""
    model, twin = build(), build()
    model.compile(keras.optimizers.SGD(0.5))
    logs = model.fit(data.take(1), verbose=0).history

    views, ids = next(iter(data))
    images, ids = tf.reshape(views, (16, 16, 16, 3)), tf.repeat(ids, 2)
    similarity = self_taught_similarity(twin.teacher(images), ids, num_neighbors=4, sigma=3.0)
    with tf.GradientTape() as tape:
        f, g = twin.student(images, training=True)
        contrastive = [relaxed_contrastive_loss(head, similarity.combined, delta=1.0) for head in (f, g)]
        loss = sum(contrastive) / 2 + self_distillation_loss(f, g)
    variables = twin.student.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign(variable - 0.5 * gradient)
    for average, current in zip(twin.teacher.weights, auxiliary_network(twin.student).weights, strict=True):
        average.assign(0.9 * average + 0.1 * current)

    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    for trained, by_hand in zip(all_weights(model), all_weights(twin), strict=True):
        np.testing.assert_allclose(trained, by_hand, rtol=1e-4, atol=1e-5)


def test_logs_are_finite_and_shares_are_shares(data):
    model = build()
    model.compile(AdamP(1e-3))
    logs = model.fit(data, verbose=0).history
    assert set(logs) == {"loss", "relaxed_contrastive", "self_distillation", "gradient_norm", "positive_share"}
    assert np.all(np.isfinite(list(logs.values())))
    # Two views of an image are always in each other's context: at least one in fifteen pairs is positive.
    assert 1 / 15 <= logs["positive_share"][0] <= 1
    np.testing.assert_allclose(
        logs["loss"][0], logs["relaxed_contrastive"][0] + logs["self_distillation"][0], rtol=1e-5
    )


def test_the_teacher_may_move_before_the_step_as_in_the_authors_code(data):
    before, after = build(teacher_update="before"), build(teacher_update="after")
    for model in (before, after):
        model.compile(keras.optimizers.SGD(0.5))
        model.fit(data.take(1), verbose=0)
    # Before the step only BatchNorm's statistics have changed: every trainable weight of the teacher stays.
    start = build()
    moved = [
        not np.allclose(weight, initial)
        for weight, initial in zip(before.teacher.weights, start.teacher.weights, strict=True)
        if "moving" not in weight.path
    ]
    assert not any(moved)
    student = auxiliary_network(after.student).weights
    for average, initial, current in zip(after.teacher.weights, start.teacher.weights, student, strict=True):
        np.testing.assert_allclose(average, 0.9 * initial + 0.1 * current, rtol=1e-4, atol=1e-6)


def test_a_centred_teacher_ignores_an_offset_that_a_plain_one_sees(data):
    views, ids = next(iter(data))
    similarities = {}
    for center in (False, True):
        model = build(teacher_center=center, sigma=0.3)
        plain = np.asarray(model.pseudo_labels(views, ids).combined)
        model.teacher.get_layer("g").bias.assign(np.full(10, 5.0))
        similarities[center] = (plain, np.asarray(model.pseudo_labels(views, ids).combined))
    np.testing.assert_allclose(*similarities[True], atol=1e-4)
    before, shifted = similarities[False]
    assert shifted.mean() > before.mean() + 0.05


def test_heads_may_have_an_optimizer_of_their_own(data):
    model, start, whole = build(), build(), build()
    model.compile(keras.optimizers.SGD(0.0), head_optimizer=keras.optimizers.SGD(0.5))
    whole.compile(keras.optimizers.SGD(0.5))
    for each in (model, whole):
        each.fit(data.take(1), verbose=0)
    variables = (each.student.trainable_variables for each in (model, start, whole))
    for variable, initial, stepped in zip(*variables, strict=True):
        in_head = variable.path.split("/")[0] in ("f", "g")
        np.testing.assert_allclose(variable, stepped if in_head else initial, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("half", [False, True])
def test_steps_are_counted_where_the_heads_alone_learn(data, half):
    """By them go schedules, the warm-up of semi-supervised training, checkpoints and TensorBoard."""
    model = build()
    for layer in model.student.layers:
        layer.trainable = layer.name in ("f", "g")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5)) if half else keras.optimizers.SGD(0.5)
    model.compile(optimizer, head_optimizer=keras.optimizers.SGD(0.5))
    model.fit(data.take(2), verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 2


def test_equal_optimizers_for_trunk_and_heads_equal_one_for_all(data):
    one, two = build(), build()
    one.compile(AdamP(1e-2, weight_decay=0.1))
    two.compile(AdamP(1e-2, weight_decay=0.1), head_optimizer=AdamP(1e-2, weight_decay=0.1))
    for model in (one, two):
        model.fit(data, verbose=0)
    for a, b in zip(all_weights(one), all_weights(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_saved_model_goes_on_as_if_it_had_not_stopped(tmp_path, data):
    model = build(sigma=0.5, delta=0.8)
    model.compile(AdamP(1e-3), head_optimizer=AdamP(1e-2))
    model.fit(data, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.sigma, loaded.delta, loaded.num_neighbors) == (0.5, 0.8, 2)
    for a, b in zip(all_weights(model), all_weights(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    for each in (model, loaded):
        each.fit(data, verbose=0)
    for a, b in zip(all_weights(model), all_weights(loaded), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_embeddings_are_normalised_and_of_f(random):
    model = build()
    images = random.normal(size=(3, 16, 16, 3)).astype(np.float32)
    embeddings = np.asarray(model.embed(images))
    f = np.asarray(model(images)[0])
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(embeddings, f / np.linalg.norm(f, axis=1, keepdims=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, r"momentum=1\.0 must be at least 0 and below 1"),
        ({"momentum": 0.5, "teacher_update": "never"}, '"after" or "before" the optimizer\'s step, not \'never\''),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SelfTaughtModel(build_student("conv4", embedding_dim=2, teacher_dim=2), **options)
