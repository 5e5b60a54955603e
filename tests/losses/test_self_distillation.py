import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses import SelfDistillationLoss, relaxed_contrastive_loss, self_distillation_loss
from tests import slow_forms

GOLDEN_BATCHES = [f"stml_loss_{i}" for i in range(6)]


@pytest.mark.parametrize("name", GOLDEN_BATCHES)
def test_loss_equals_the_authors(golden, name):
    batch = golden(name)
    loss = self_distillation_loss(batch["student_f"], batch["student_g"])
    np.testing.assert_allclose(loss, batch["self_distillation"], rtol=1e-5)


@pytest.mark.parametrize("name", GOLDEN_BATCHES)
def test_gradients_of_the_whole_objective_equal_the_authors(golden, name):
    batch = golden(name)
    f, g = tf.Variable(batch["student_f"]), tf.Variable(batch["student_g"])
    delta = float(batch["delta"])
    with tf.GradientTape() as tape:
        contrastive = [relaxed_contrastive_loss(head, batch["similarity"], delta=delta) for head in (f, g)]
        loss = sum(contrastive) / 2 + self_distillation_loss(f, g)
    np.testing.assert_allclose(loss, batch["loss"], rtol=1e-5)
    for gradient, head in zip(tape.gradient(loss, [f, g]), ("grad_f", "grad_g"), strict=True):
        # Relative to the whole gradient, not element by element: above 25 rows the reference's own distances come from
        # a float32 expansion whose diagonal is 1e-3 instead of 0, which moves single elements by 1e-4. Against
        # float64 ours are exact to 1e-5, see the next test.
        error = np.linalg.norm(gradient - batch[head]) / np.linalg.norm(batch[head])
        assert error < 1e-4


def test_gradient_equals_differences_of_the_slow_form(random):
    f = tf.Variable(random.normal(size=(6, 3)).astype(np.float32))
    g = random.normal(size=(6, 5)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = self_distillation_loss(f, g)
    gradient = np.asarray(tape.gradient(loss, f))
    start = f.numpy().astype(np.float64)
    for index in np.ndindex(6, 3):
        up, down = start.copy(), start.copy()
        up[index] += 1e-5
        down[index] -= 1e-5
        slope = (slow_forms.self_distillation(up, g) - slow_forms.self_distillation(down, g)) / 2e-5
        np.testing.assert_allclose(gradient[index], slope, rtol=1e-3, atol=1e-6)


def test_loss_equals_the_slow_form(random):
    f, g = random.normal(size=(11, 4)).astype(np.float32), random.normal(size=(11, 9)).astype(np.float32)
    np.testing.assert_allclose(self_distillation_loss(f, g), slow_forms.self_distillation(f, g), rtol=1e-5)


def test_loss_of_equal_relations_is_zero_and_of_others_is_positive(random):
    f = random.normal(size=(8, 4)).astype(np.float32)
    np.testing.assert_allclose(self_distillation_loss(f, 3.0 * f), 0.0, atol=1e-6)
    assert self_distillation_loss(f, random.normal(size=(8, 4)).astype(np.float32)) > 1e-4


def test_no_gradient_flows_into_the_target(random):
    f, g = (tf.Variable(random.normal(size=(8, 4)).astype(np.float32)) for _ in range(2))
    with tf.GradientTape() as tape:
        loss = self_distillation_loss(f, g)
    of_f, of_g = tape.gradient(loss, [f, g])
    expected = slow_forms.gradient(lambda x: slow_forms.self_distillation(x, g.numpy()), f.numpy())
    np.testing.assert_allclose(of_f, expected, rtol=1e-4, atol=1e-6)
    assert of_g is None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_collapsed_rows_are_finite(dtype):
    f = tf.Variable(np.ones((6, 3), dtype))
    with tf.GradientTape() as tape:
        loss = self_distillation_loss(f, np.zeros((6, 4), dtype))
    assert np.isfinite(loss)
    assert np.all(np.isfinite(tape.gradient(loss, f)))


def test_keras_class_equals_the_function_and_survives_serialisation(random):
    f, g = random.normal(size=(6, 3)).astype(np.float32), random.normal(size=(6, 3)).astype(np.float32)
    loss = keras.losses.deserialize(keras.losses.serialize(SelfDistillationLoss()))
    np.testing.assert_allclose(loss(g, f), self_distillation_loss(f, g), rtol=1e-6)
