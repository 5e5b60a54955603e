import keras
import numpy as np
import pytest

from stml_tf.losses import NormalizedSoftmaxLoss, ProxyAnchorLoss, normalized_softmax_loss, proxy_anchor_loss
from tests.losses.supervised_batch import DIM, LABELS, NUM_CLASSES, embeddings, proxies, unit


def slow_proxy_anchor(labels, x, vectors, alpha, delta):
    similarity = unit(x) @ unit(vectors).T
    pull, push = [], []
    for c in range(len(vectors)):
        own = [similarity[i, c] for i in range(len(labels)) if labels[i] == c]
        others = [similarity[i, c] for i in range(len(labels)) if labels[i] != c]
        if own:
            pull.append(np.log(1 + sum(np.exp(-alpha * (s - delta)) for s in own)))
        push.append(np.log(1 + sum(np.exp(alpha * (s + delta)) for s in others)))
    return np.mean(pull) + np.mean(push)


def slow_normalized_softmax(labels, x, vectors, temperature):
    logits = unit(x) @ unit(vectors).T / temperature
    return np.mean([np.log(np.sum(np.exp(row))) - row[label] for row, label in zip(logits, labels, strict=True)])


@pytest.mark.parametrize(("alpha", "delta"), [(32.0, 0.1), (8.0, 0.3)])
def test_proxy_anchor_equals_the_slow_form(alpha, delta):
    loss = proxy_anchor_loss(LABELS, embeddings(), proxies(), alpha=alpha, delta=delta)
    np.testing.assert_allclose(loss, slow_proxy_anchor(LABELS, embeddings(), proxies(), alpha, delta), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_normalized_softmax_equals_the_slow_form(temperature):
    loss = normalized_softmax_loss(LABELS, embeddings(), proxies(), temperature=temperature)
    np.testing.assert_allclose(loss, slow_normalized_softmax(LABELS, embeddings(), proxies(), temperature), rtol=1e-5)


def test_a_label_without_a_proxy_is_a_stranger():
    labels = np.append(LABELS, NUM_CLASSES)
    x = np.vstack([embeddings(), np.ones((1, DIM), np.float32)])
    expected = normalized_softmax_loss(LABELS, embeddings(), proxies())
    np.testing.assert_allclose(normalized_softmax_loss(labels, x, proxies()), expected, rtol=1e-6)
    expected = slow_proxy_anchor(labels, x, proxies(), 32.0, 0.1)
    np.testing.assert_allclose(proxy_anchor_loss(labels, x, proxies()), expected, rtol=1e-5)


@keras.saving.register_keras_serializable("tests")
class Classifier(keras.Model):
    """One layer and a loss with proxies: all that a model needs to train both."""

    def __init__(self, loss, **kwargs):
        super().__init__(**kwargs)
        self.embedding = keras.layers.Dense(DIM)
        self.proxy_loss = loss

    def call(self, images):
        return self.embedding(images)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.proxy_loss(y, y_pred)

    def get_config(self):
        return {"loss": keras.saving.serialize_keras_object(self.proxy_loss)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["loss"]))


@pytest.mark.parametrize("loss_class", [ProxyAnchorLoss, NormalizedSoftmaxLoss])
def test_a_model_trains_and_keeps_the_proxies(loss_class, tmp_path):
    keras.utils.set_random_seed(0)
    model = Classifier(loss_class(NUM_CLASSES, DIM))
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    history = model.fit(embeddings(), LABELS, epochs=100, batch_size=len(LABELS), verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    proxies, found = unit(model.proxy_loss.proxies.numpy()), unit(np.asarray(model(embeddings())))
    np.testing.assert_array_equal(np.argmax(found @ proxies.T, axis=1), LABELS, "each finds the proxy of its class")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.proxy_loss.proxies, model.proxy_loss.proxies)
    np.testing.assert_allclose(
        loaded.proxy_loss(LABELS, loaded(embeddings())), model.proxy_loss(LABELS, model(embeddings())), rtol=1e-6
    )


def test_proxies_stay_float32_under_mixed_precision():
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        loss = ProxyAnchorLoss(NUM_CLASSES, DIM)
    finally:
        keras.config.set_dtype_policy(policy)
    assert loss.proxies.dtype == "float32"
    assert loss(LABELS, embeddings().astype(np.float16)).dtype == "float32"


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="num_classes=0 must be a number above 0"):
        ProxyAnchorLoss(0, DIM)
    with pytest.raises(ValueError, match="dim=-2 must be a number above 0"):
        NormalizedSoftmaxLoss(NUM_CLASSES, -2)
    with pytest.raises(ValueError, match="alpha=0 must be a number above 0"):
        ProxyAnchorLoss(NUM_CLASSES, DIM, alpha=0)
    with pytest.raises(ValueError, match="temperature=0 must be a number above 0"):
        NormalizedSoftmaxLoss(NUM_CLASSES, DIM, temperature=0)
