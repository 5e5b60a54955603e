"""Half precision with loss scaling, and XLA."""

import keras
import numpy as np
import pytest

from stml_tf.methods import SelfTaughtModel
from stml_tf.models import build_student, computing_in
from tests.methods.tiny_student import batches_of_views, tiny_student, weights_of


def model_in(precision, *, head_rate=0.05, **compile_options):
    keras.utils.set_random_seed(1)
    with computing_in(precision):
        model = SelfTaughtModel(tiny_student(), num_neighbors=2, momentum=0.9)
    model.compile(
        keras.optimizers.SGD(0.05), head_optimizer=head_rate and keras.optimizers.SGD(head_rate), **compile_options
    )
    return model


def fit(model, steps=4, seed=0):
    history = model.fit(batches_of_views(steps, seed=seed), shuffle=False, verbose=0).history
    return {name: values[0] for name, values in history.items()}


def test_the_precision_holds_for_layers_built_within():
    with computing_in("mixed_bfloat16"):
        student = build_student("conv4", embedding_dim=4, teacher_dim=6)
    assert keras.config.dtype_policy().name == "float32"
    trunk = student.layers[1]
    assert {layer.compute_dtype for layer in trunk.layers} == {"bfloat16"}
    assert {weight.dtype for weight in student.weights} == {"float32"}
    f, g = student(np.zeros((2, 16, 16, 3), np.float32))
    assert f.dtype == g.dtype == "float32"


def test_the_precision_ends_where_something_fails():
    with pytest.raises(RuntimeError), computing_in("mixed_float16"):
        raise RuntimeError
    assert keras.config.dtype_policy().name == "float32"


def test_an_unknown_precision_is_refused():
    with (
        pytest.raises(ValueError, match="one of float32, mixed_float16, mixed_bfloat16, not 'float16'"),
        computing_in("float16"),
    ):
        pass


@pytest.mark.parametrize(("precision", "tolerance"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 5e-2)])
def test_half_precision_trains_much_as_float32_does(precision, tolerance):
    full, half = model_in("float32"), model_in(precision)
    expected, found = fit(full), fit(half)
    # The gradient's norm is the loss's own, not that of the scaled loss.
    for name in ("loss", "relaxed_contrastive", "gradient_norm"):
        np.testing.assert_allclose(found[name], expected[name], rtol=4 * tolerance, err_msg=name)
    for a, b in zip(weights_of(half), weights_of(full), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())
    assert any(not np.array_equal(a, b) for a, b in zip(weights_of(half), weights_of(full), strict=True))


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_other_precisions_scale_no_loss(precision):
    assert not isinstance(model_in(precision).optimizer, keras.optimizers.LossScaleOptimizer)


def test_both_optimizers_skip_an_overflow_together_and_keep_one_scale():
    model = model_in("mixed_float16")
    optimizers = (model.optimizer, model.head_optimizer)
    assert all(isinstance(each, keras.optimizers.LossScaleOptimizer) for each in optimizers)
    before = [np.asarray(weight) for weight in model.student.weights]
    for each in optimizers:
        each.dynamic_scale.assign(2.0**60)  # the trunk's gradients are in float16 and overflow, the heads' do not
    logs = fit(model, steps=1)
    for weight, initial in zip(model.student.weights, before, strict=True):
        np.testing.assert_array_equal(weight, initial)
    assert [float(each.dynamic_scale) for each in optimizers] == [2.0**59, 2.0**59]
    assert [int(each.iterations) for each in optimizers] == [0, 0]
    assert logs["gradient_norm"] == 0 and np.isfinite(logs["loss"])

    fit(model, steps=60)
    assert float(optimizers[0].dynamic_scale) == float(optimizers[1].dynamic_scale) < 2.0**40
    assert int(optimizers[0].iterations) == int(optimizers[1].iterations) > 0
    assert all(np.isfinite(weight).all() for weight in weights_of(model))


def test_a_model_saved_in_half_precision_has_its_scale_back(tmp_path):
    model = model_in("mixed_float16")
    fit(model, steps=1)
    model.optimizer.dynamic_scale.assign(64.0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.dynamic_scale) == 64.0
    assert not isinstance(loaded.optimizer.inner_optimizer, keras.optimizers.LossScaleOptimizer)


def test_compiled_by_xla_a_model_trains_alike():
    plain, compiled = model_in("float32", jit_compile=False), model_in("float32", jit_compile=True)
    assert (plain.jit_compile, compiled.jit_compile) == (False, True)
    expected, found = fit(plain), fit(compiled)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    for a, b in zip(weights_of(compiled), weights_of(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())
