"""AdamP against the numbers of the adamp package, and against a slow form written channel by channel in NumPy."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.optimizers.adamp import AdamP

GOLDENS = Path(__file__).parents[1] / "goldens"
STEPS = 12


def to_keras_layout(name, values):
    return values.transpose({"linear_weight": (1, 0), "conv_weight": (2, 3, 1, 0)}.get(name, (0,)))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_takes_the_steps_of_the_adamp_package(number):
    golden = np.load(GOLDENS / f"adamp_{number}.npz")
    names = [key.removesuffix("_init") for key in golden.files if key.endswith("_init")]
    variables = [keras.Variable(to_keras_layout(name, golden[f"{name}_init"]), name=name) for name in names]
    optimizer = AdamP(
        float(golden["lr"]), weight_decay=float(golden["weight_decay"]), nesterov=bool(golden["nesterov"])
    )
    optimizer.build(variables)
    for step in range(STEPS):
        optimizer.apply([to_keras_layout(name, golden[f"{name}_grad_{step}"]) for name in names])
        for name, variable in zip(names, variables, strict=True):
            expected = to_keras_layout(name, golden[f"{name}_after_{step}"])
            np.testing.assert_allclose(variable.numpy(), expected, atol=1e-6, err_msg=f"{name}, step {step}")


def slow_adamp(
    weights, gradients, channels, *, learning_rate, weight_decay, delta=0.1, wd_ratio=0.1, epsilon=1e-8, nesterov=False
):
    """`channels`: for each view in turn, an integer array of the weights' shape that numbers each weight's channel.

    Returns the weights after all steps, and how often each view was projected.
    """
    weights = weights.astype(np.float64).copy()
    mean, square, projections = np.zeros_like(weights), np.zeros_like(weights), [0] * len(channels)
    for step, gradient in enumerate(gradients.astype(np.float64), start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        direction = 0.9 * mean + 0.1 * gradient if nesterov else mean
        update = direction / (np.sqrt(square / (1 - 0.999**step)) + epsilon)
        decay = weight_decay
        for view, numbers in enumerate(channels):
            members = [numbers == channel for channel in np.unique(numbers)]
            cosines = [
                abs(weights[m] @ gradient[m]) / (np.linalg.norm(weights[m]) * np.linalg.norm(gradient[m]))
                for m in members
            ]
            if max(cosines) < delta / np.sqrt(members[0].sum()):
                for m in members:
                    unit = weights[m] / np.linalg.norm(weights[m])
                    update[m] -= unit * (unit @ update[m])
                decay *= wd_ratio
                projections[view] += 1
                break
        weights *= 1 - learning_rate * decay
        weights -= learning_rate / (1 - 0.9**step) * update
    return weights, projections


def along(axes, shape):
    """Numbers the channels of a tensor: one per position along `axes`."""
    grids = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    return sum(grids[axis] * 1000**power for power, axis in enumerate(axes)) + np.zeros(shape, int)


@pytest.mark.parametrize(
    ("shape", "channel_axes", "delta", "projected_view"),
    [
        ((6, 4), [1], 0.01, None),
        ((6, 4), [1], 3.0, 0),
        ((3, 3, 2, 5), [3], 4.0, 0),
        ((3, 3, 4, 1), [2, 3], 3.0, 0),
        ((3, 3, 4, 2), [3], 0.001, None),
        ((6, 1), [1], 3.0, 0),
        ((40, 30), [1], 2.5, 1),
    ],
)
def test_equals_the_slow_form(shape, channel_axes, delta, projected_view):
    random = np.random.default_rng(3)
    weights = random.normal(size=shape).astype("float32")
    gradients = random.normal(size=(6, *shape)).astype("float32")
    if projected_view == 1:
        # One channel's gradient points along its weights, which only the view of the whole forgives.
        gradients[..., 0] += weights[..., 0]
    settings = {"learning_rate": 0.01, "weight_decay": 0.5, "delta": delta, "nesterov": True}
    expected, projections = slow_adamp(
        weights, gradients, [along(channel_axes, shape), np.zeros(shape, int)], **settings
    )
    assert [bool(count) for count in projections] == [projected_view == 0, projected_view == 1]

    variable = keras.Variable(weights)
    optimizer = AdamP(**settings)
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([gradient])
    np.testing.assert_allclose(variable.numpy(), expected, atol=2e-6)


def test_projected_step_keeps_the_norm_of_each_channel():
    random = np.random.default_rng(0)
    weights = random.normal(size=(50, 4)).astype("float32")
    gradient = random.normal(size=(50, 4)).astype("float32")
    gradient -= weights * (weights * gradient).sum(0) / (weights**2).sum(0)
    variable = keras.Variable(weights)
    optimizer = AdamP(1e-3)
    optimizer.build([variable])
    optimizer.apply([gradient])
    moved = variable.numpy() - weights
    assert np.abs(moved).max() > 5e-4
    np.testing.assert_allclose((moved * weights).sum(0), 0, atol=1e-5)


def small_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            # Without a bias: normalisation leaves it no gradient but rounding, which Adam blows up to full steps.
            keras.layers.Conv2D(3, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.DepthwiseConv2D(3),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )


def train(model, epochs=1):
    random = np.random.default_rng(7)
    images, targets = random.normal(size=(12, 8, 8, 2)), random.normal(size=(12, 2))
    model.fit(images, targets, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return [weights.copy() for weights in model.get_weights()]


def test_graph_equals_eager():
    results = []
    for run_eagerly in (False, True):
        model = small_model()
        model.compile(AdamP(0.01, weight_decay=0.1), "mse", run_eagerly=run_eagerly, jit_compile=False)
        results.append(train(model))
    for graph, eager in zip(*results, strict=True):
        np.testing.assert_allclose(graph, eager, atol=1e-5)


def test_saved_model_continues_as_if_never_stopped(tmp_path):
    model = small_model()
    model.compile(AdamP(0.01, weight_decay=0.1, nesterov=True), "mse", jit_compile=False)
    train(model)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(copy.optimizer, AdamP)
    assert copy.optimizer.get_config() == model.optimizer.get_config()
    for continued, reloaded in zip(train(model), train(copy), strict=True):
        np.testing.assert_array_equal(continued, reloaded)


def test_config_holds_every_argument():
    arguments = {
        "learning_rate": 0.5,
        "beta_1": 0.8,
        "beta_2": 0.9,
        "epsilon": 1e-6,
        "weight_decay": 0.3,
        "delta": 0.2,
        "wd_ratio": 0.4,
        "nesterov": True,
        "clipnorm": 2.0,
    }
    config = AdamP.from_config(AdamP(**arguments).get_config()).get_config()
    assert {key: config[key] for key in arguments} == arguments


def test_excluded_variables_do_not_decay():
    kernel, bias = keras.Variable(np.ones((3, 2)), name="kernel"), keras.Variable(np.ones(2), name="bias")
    optimizer = AdamP(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build([kernel, bias])
    optimizer.apply([np.zeros((3, 2), "float32"), np.zeros(2, "float32")])
    np.testing.assert_array_equal(bias.numpy(), 1)
    # Gradient zero is orthogonal to anything, so a tenth of the decay is left.
    np.testing.assert_allclose(kernel.numpy(), 1 - 0.1 * 0.5 * 0.1, rtol=1e-6)


def test_float16_weights_follow_float32_ones_though_squares_underflow():
    random = np.random.default_rng(5)
    weights = random.normal(size=(8, 4))
    half, single = keras.Variable(weights, dtype="float16"), keras.Variable(weights, dtype="float32")
    for variable in (half, single):
        optimizer = AdamP(0.01)
        optimizer.build([variable])
        for seed in range(5):
            optimizer.apply([(1e-4 * np.random.default_rng(seed).normal(size=(8, 4))).astype(variable.dtype)])
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    np.testing.assert_allclose(half.numpy(), single.numpy(), atol=5e-3)


def test_zero_weights_and_zero_gradients_stay_finite():
    variables = [keras.Variable(np.zeros((4, 3))), keras.Variable(np.zeros((3, 3, 2, 1))), keras.Variable(np.zeros(3))]
    optimizer = AdamP(0.1, weight_decay=0.1)
    optimizer.build(variables)
    optimizer.apply([np.zeros(variable.shape, "float32") for variable in variables])
    for variable in variables:
        np.testing.assert_array_equal(variable.numpy(), 0)


def test_sparse_gradient_equals_its_dense_form():
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "float32")
    sparse = tf.IndexedSlices(tf.constant([[1.0, 3.0], [5.0, 7.0], [2.0, 2.0]]), tf.constant([0, 2, 0]), (3, 2))
    dense = tf.constant([[3.0, 5.0], [0.0, 0.0], [5.0, 7.0]])
    results = []
    for gradient in (sparse, dense):
        table = keras.Variable(values)
        optimizer = AdamP(0.1)
        optimizer.build([table])
        optimizer.apply([gradient])
        results.append(table.numpy())
    np.testing.assert_allclose(*results, atol=1e-6)
    assert (results[0] != values)[[0, 2]].all()


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("beta_1", 1.0, r"beta_1 must be in \[0, 1\), but 1.0 was given"),
        ("beta_2", -0.1, r"beta_2 must be in \[0, 1\), but -0.1 was given"),
        ("epsilon", 0.0, "epsilon must be positive, but 0.0 was given"),
        ("weight_decay", -1.0, "weight_decay must be 0 or more, but -1.0 was given"),
        ("delta", -1.0, "delta must be 0 or more, but -1.0 was given"),
        ("wd_ratio", 2.0, r"wd_ratio must be in \[0, 1\], but 2.0 was given"),
    ],
)
def test_refuses(argument, value, message):
    with pytest.raises(ValueError, match=message):
        AdamP(**{argument: value})
