import keras
import numpy as np
import pytest

from stml_tf.evaluation.health import Verdict
from stml_tf.fitting.callbacks import TrainingStopped
from stml_tf.fitting.health_callback import HealthCallback, StopWhenCollapsed


def views(random, *, spread=1.0, images=40, dim=8):
    """Two views of images; without a spread all images are the same, and views differ by chance alone."""
    centers = np.array([3.0, *[0.0] * (dim - 1)]) + spread * random.normal(size=(images, dim))
    return np.stack([centers + 0.05 * random.normal(size=(images, dim)) for _ in range(2)])


def fit(callback, epochs, history, stop=False):
    class Remember(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            history.append(dict(logs))

    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callbacks = [callback, Remember(), *([StopWhenCollapsed(callback)] if stop else [])]
    model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=epochs, verbose=0, callbacks=callbacks)


def test_a_steady_embedding_is_healthy_and_keeps_its_neighbours(random):
    start, history = views(random), []
    callback = HealthCallback(lambda: start, start=start)
    fit(callback, 2, history)
    assert callback.verdict is Verdict.HEALTHY
    assert [logs["health/kept_from_last"] for logs in history] == [1.0, 1.0]
    assert [logs["health/kept_from_start"] for logs in history] == [1.0, 1.0]
    assert history[0]["health"] == pytest.approx(
        np.sqrt(history[0]["health/view_agreement"] * history[0]["health/shared_neighbors"])
    )


def test_a_collapse_stops_the_run_after_its_second_epoch_is_told_and_says_what_to_do(random):
    callback, history = HealthCallback(lambda: views(random, spread=0.0), start=views(random)), []
    with pytest.raises(
        TrainingStopped, match=r"after epoch 2, as the embedding collapses.*Nothing was exported. Lower"
    ):
        fit(callback, 5, history, stop=True)
    assert callback.verdict is Verdict.COLLAPSING
    assert len(history) == 2


def test_a_collapse_goes_on_where_that_is_asked_for(random):
    history = []
    fit(HealthCallback(lambda: views(random, spread=0.0), start=views(random)), 4, history)
    assert len(history) == 4


@pytest.mark.parametrize(("pretrained", "expected"), [(True, Verdict.WORSE_THAN_FROZEN), (False, Verdict.HEALTHY)])
def test_only_a_pretrained_network_is_held_against_its_start(random, pretrained, expected):
    start = views(random)
    worse = start + 0.4 * random.normal(size=start.shape)
    callback = HealthCallback(lambda: worse, start=start, pretrained=pretrained)
    fit(callback, 1, [])
    assert callback.verdict is expected


def test_a_resumed_run_judges_as_one_that_never_stopped(random):
    start = views(random)
    epochs = [views(random, spread=0.9), views(random, spread=0.8), views(random, spread=0.0)]
    kept, history = {}, []

    def callback(embedded, **options):
        return HealthCallback(lambda: embedded.pop(0), start=start, remember=kept.__setitem__, **options)

    whole = callback(list(epochs))
    fit(whole, 3, history)
    resumed, after = callback(epochs[2:], last=kept[2]), []
    resumed.go_on(history[:2])
    fit(resumed, 1, after)
    assert resumed.verdict is whole.verdict is Verdict.COLLAPSING
    names = [name for name in history[2] if name.startswith("health")]
    assert {name: after[0][name] for name in names} == {name: history[2][name] for name in names}
