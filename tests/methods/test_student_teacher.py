"""What Keras offers on a model works on the datasets of `fit`, whatever network is the student."""

import inspect
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.errors import UserError
from stml_tf.losses import TripletLoss
from stml_tf.methods import BYOLModel, SelfTaughtModel, SemiSupervisedModel
from stml_tf.models import auxiliary_network, build_student, build_teacher, head_variables


def any_student():
    """Heads of several layers, none of which is called f or g."""
    images = keras.Input((16, 16, 3))
    trunk = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(8, 3, name="trunk")(images))
    embedding = keras.layers.UnitNormalization()(keras.layers.Dense(4, name="kept")(trunk))
    auxiliary = keras.layers.Dense(6, name="second")(keras.layers.Dense(5, name="first", activation="relu")(trunk))
    return keras.Model(images, [embedding, auxiliary])


@pytest.fixture
def dataset(random):
    views = random.normal(size=(3, 8, 2, 16, 16, 3)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((views, np.tile(np.arange(8), (3, 1))))


def named(variables):
    return [variable.path.split("/")[0] for variable in variables]


def test_heads_are_what_one_output_alone_passes_through():
    student = any_student()
    assert named(head_variables(student)) == ["kept", "kept", "first", "first", "second", "second"]
    assert named(auxiliary_network(student).trainable_variables) == ["trunk"] * 2 + ["first"] * 2 + ["second"] * 2


def test_a_teacher_of_any_student_starts_as_a_copy_or_with_a_head_of_its_own(random):
    keras.utils.set_random_seed(0)
    student = any_student()
    images = random.normal(size=(2, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(build_teacher(student)(images), student(images)[1], rtol=1e-5)
    independent = build_teacher(student, start="independent")
    for name, same in (("trunk", True), ("first", False), ("second", False)):
        there, here = (network.get_layer(name).get_weights()[0] for network in (independent, student))
        assert np.array_equal(there, here) == same


def test_any_student_learns_with_a_rate_of_its_own_for_the_heads(dataset):
    keras.utils.set_random_seed(0)
    model = SelfTaughtModel(any_student(), num_neighbors=2)
    before = {layer.name: layer.get_weights() for layer in model.student.layers}
    model.compile(keras.optimizers.SGD(0.0), head_optimizer=keras.optimizers.SGD(0.1))
    model.fit(dataset, verbose=0)
    moved = {
        name
        for name, weights in before.items()
        if any(np.any(a != b) for a, b in zip(weights, model.student.get_layer(name).get_weights(), strict=True))
    }
    assert moved == {"kept", "first", "second"}


def test_evaluate_and_validation_data_compute_the_losses_and_change_nothing(dataset):
    keras.utils.set_random_seed(0)
    model = SelfTaughtModel(build_student("conv4", embedding_dim=4, teacher_dim=6), num_neighbors=2)
    model.compile("sgd")
    before = [np.array(weight) for weight in model.weights]
    losses = model.evaluate(dataset, return_dict=True, verbose=0)
    assert set(losses) == {"loss", "relaxed_contrastive", "self_distillation", "positive_share"}
    assert losses["loss"] == pytest.approx(losses["relaxed_contrastive"] + losses["self_distillation"], rel=1e-5)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    history = model.fit(dataset, validation_data=dataset, verbose=0).history
    assert {"val_loss", "loss", "gradient_norm"} <= set(history)
    assert history["val_loss"][0] == pytest.approx(model.evaluate(dataset, return_dict=True, verbose=0)["loss"])


def test_predict_gives_both_outputs_of_every_view(dataset):
    model = SelfTaughtModel(any_student(), num_neighbors=2)
    model.compile("sgd")
    embeddings, auxiliary = model.predict(dataset, verbose=0)
    assert (embeddings.shape, auxiliary.shape) == ((24, 2, 4), (24, 2, 6))
    views, _ = next(iter(dataset))
    np.testing.assert_allclose(embeddings[:8, 1], model.predict(views[:, 1], verbose=0)[0], atol=1e-5)


@pytest.mark.parametrize("method", ["byol", "semi_supervised"])
def test_a_method_without_such_a_loss_says_what_to_call(dataset, method):
    if method == "byol":
        model = BYOLModel(any_student(), hidden_dim=4)
    else:
        model = SemiSupervisedModel(any_student(), TripletLoss(), num_labeled=4, num_neighbors=2)
    model.compile("sgd")
    with pytest.raises(UserError, match=r"has no loss to validate with: embed test images with `model\.embed`"):
        model.evaluate(dataset, verbose=0)


def test_the_example_in_the_docstring_runs():
    (_, example, *_) = inspect.getdoc(SelfTaughtModel).split("\n\n    import keras")
    code = textwrap.dedent("    import keras" + example.split("\n\nArgs:")[0])
    seen = {}
    exec(code.replace("model.fit(dataset, epochs=2)", "model.fit(dataset, epochs=2, verbose=0)"), seen)
    assert seen["embeddings"].shape == (24, 8)
    np.testing.assert_allclose(np.linalg.norm(seen["embeddings"], axis=1), 1, atol=1e-5)


def test_what_cannot_be_a_student_is_refused():
    class Subclassed(keras.Model):
        def call(self, images):
            return images, images

    with pytest.raises(UserError, match=r"is a Subclassed, not a functional model, .* be copied: wrap it"):
        SelfTaughtModel(Subclassed())
    images = keras.Input((4, 4, 3))
    with pytest.raises(UserError, match=r"allowed: one input and two outputs, an embedding \[batch, dim\]"):
        SelfTaughtModel(keras.Model(images, keras.layers.Flatten()(images)))


def test_a_wrapped_network_is_a_student(dataset):
    @keras.saving.register_keras_serializable("tests")
    class TwoHeads(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.flat, self.first, self.second = keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.Dense(6)

        def call(self, images):
            features = self.flat(images)
            return self.first(features), self.second(features)

    images = keras.Input((16, 16, 3))
    model = SelfTaughtModel(keras.Model(images, TwoHeads()(images)), num_neighbors=2)
    model.compile("sgd")
    assert np.isfinite(model.fit(dataset, verbose=0).history["loss"]).all()
