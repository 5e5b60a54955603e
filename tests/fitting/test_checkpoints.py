import json
import resource
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.errors import UserError
from stml_tf.fitting.checkpoints import Checkpoints, _variables
from stml_tf.optimizers.adamp import AdamP
from stml_tf.optimizers.schedules import EpochSchedule
from tests.disk import flipped_bits


@keras.saving.register_keras_serializable(package="tests")
class TeacherStudent(keras.Model):
    """What matters of a self-taught model: a student, a teacher that follows it, two optimizers, random numbers."""

    def __init__(self, width=4):
        super().__init__()
        keras.utils.set_random_seed(0)
        self.student = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(width),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(2),
            ]
        )
        self.teacher = keras.models.clone_model(self.student)
        self.teacher.trainable = False
        self.head_optimizer = keras.optimizers.Adam(0.02)
        self.noise = keras.random.SeedGenerator(7)
        self.build((None, 3))

    def build(self, input_shape):
        self.trunk, self.head = self.student.trainable_variables[:-2], self.student.trainable_variables[-2:]

    def compile(self, **kwargs):
        super().compile(
            optimizer=AdamP(EpochSchedule(0.05, epochs=4, steps_per_epoch=2), weight_decay=0.1),
            loss="mse",
            jit_compile=False,
            **kwargs,
        )
        self.optimizer.build(self.trunk)
        self.head_optimizer.build(self.head)

    def call(self, inputs, training=False):
        return self.student(inputs, training=training)

    def train_step(self, data):
        inputs, targets = data
        with tf.GradientTape() as tape:
            noise = keras.random.normal(tf.shape(inputs), seed=self.noise)
            loss = self.compute_loss(inputs, targets, self(inputs + noise, training=True))
        trunk_gradients, head_gradients = tape.gradient(loss, [self.trunk, self.head])
        self.optimizer.apply(trunk_gradients, self.trunk)
        self.head_optimizer.apply(head_gradients, self.head)
        for kept, new in zip(self.teacher.weights, self.student.weights, strict=True):
            kept.assign(0.9 * kept + 0.1 * new)
        return {"loss": loss}


def compiled_model(**kwargs):
    model = TeacherStudent(**kwargs)
    model.compile()
    return model


def train(model, epochs):
    random = np.random.default_rng(1)
    inputs, targets = random.normal(size=(8, 3)), random.normal(size=(8, 2))
    model.fit(inputs, targets, batch_size=4, epochs=epochs, shuffle=False, verbose=0)


def everything(model):
    variables = [*model.variables, *model.optimizer.variables, *model.head_optimizer.variables]
    return [variable.numpy().copy() for variable in variables]


def save(checkpoints, model, epoch, recall=0.5):
    return checkpoints.save(model, epoch=epoch, step=2 * epoch, metrics={"recall@1": recall})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_training_continues_as_if_never_stopped(tmp_path):
    model = compiled_model()
    train(model, epochs=2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, epoch=2, step=4, metrics={"recall@1": np.float32(0.25)}, extra={"order": [3, 1, 2]})
    train(model, epochs=2)

    resumed = compiled_model()
    checkpoint = checkpoints.latest()
    checkpoints.restore(resumed, checkpoint)
    assert (checkpoint.epoch, checkpoint.step) == (2, 4)
    assert (checkpoint.metrics, checkpoint.extra) == ({"recall@1": 0.25}, {"order": [3, 1, 2]})
    train(resumed, epochs=2)
    for expected, actual in zip(everything(model), everything(resumed), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_every_variable_comes_back(tmp_path):
    model = compiled_model()
    train(model, epochs=1)
    checkpoint = save(Checkpoints(tmp_path), model, 1)
    saved = everything(model)
    train(model, epochs=1)
    changed = [not np.array_equal(before, now) for before, now in zip(saved, everything(model), strict=True)]
    assert sum(changed) > 0.9 * len(changed), "training moves nearly everything, or this test shows little"
    Checkpoints(tmp_path).restore(model, checkpoint)
    for expected, actual in zip(saved, everything(model), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_an_empty_or_missing_folder_has_none(tmp_path):
    assert Checkpoints(tmp_path / "missing").latest() is None
    assert Checkpoints(tmp_path).best() is None


def damage_variables(path):
    variables = path / "variables.npz"
    content = bytearray(variables.read_bytes())
    content[len(content) // 2] ^= 1
    variables.write_bytes(content)


def cut_state(path):
    state = path / "state.json"
    state.write_text(state.read_text()[:40])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_variables, "variables.npz does not have the checksum"),
        (cut_state, "state.json cannot be read"),
        (lambda path: (path / "state.json").write_text("[]"), "state.json cannot be read"),
        (lambda path: (path / "variables.npz").unlink(), "variables.npz cannot be read"),
        (lambda path: (path / "state.json").unlink(), "state.json cannot be read"),
    ],
)
def test_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, damage, reason):
    checkpoints, model = Checkpoints(tmp_path), compiled_model()
    save(checkpoints, model, 1, recall=0.1)
    damage(save(checkpoints, model, 2, recall=0.9).path)
    for find in (checkpoints.latest, checkpoints.best):
        with pytest.warns(UserWarning, match=rf"epoch-0002 is damaged and is passed over: .*{reason}"):
            assert find().epoch == 1
    damage(tmp_path / "epoch-0001")
    with pytest.warns(UserWarning) as warned:
        assert checkpoints.latest() is None
    assert ["epoch-0002" in str(warned[0].message), "epoch-0001" in str(warned[1].message)] == [True, True]


def test_keeps_the_last_ones_and_the_best(tmp_path):
    checkpoints, model = Checkpoints(tmp_path, keep=2), compiled_model()
    for epoch, recall in enumerate([0.2, 0.7, 0.7, 0.1, float("nan"), 0.3]):
        save(checkpoints, model, epoch, recall)
    assert names(tmp_path) == ["epoch-0001", "epoch-0004", "epoch-0005"]
    assert checkpoints.best().epoch == 1, "the earliest of equal ones"
    assert checkpoints.latest().epoch == 5
    assert checkpoints.best("map@r") is None
    assert json.loads((tmp_path / "epoch-0004" / "state.json").read_text())["metrics"] == {"recall@1": None}


def test_best_goes_by_the_metric_asked_for(tmp_path):
    checkpoints, model = Checkpoints(tmp_path, keep=1, best_by="map@r"), compiled_model()
    for epoch, (recall, mean_precision) in enumerate([(0.9, 0.1), (0.1, 0.9), (0.2, 0.3)]):
        metrics = {"recall@1": recall, "map@r": mean_precision}
        checkpoints.save(model, epoch=epoch, step=epoch, metrics=metrics)
    assert names(tmp_path) == ["epoch-0001", "epoch-0002"]
    assert (checkpoints.best().epoch, checkpoints.best("recall@1").epoch) == (1, 2)


def test_order_is_by_number_not_by_name(tmp_path):
    checkpoints, model = Checkpoints(tmp_path), compiled_model()
    for epoch in (9_999, 10_000):
        save(checkpoints, model, epoch)
    assert checkpoints.latest().epoch == 10_000


def test_a_checkpoint_within_an_epoch_comes_after_the_epoch_before_and_is_never_best(tmp_path):
    checkpoints, model = Checkpoints(tmp_path), compiled_model()
    save(checkpoints, model, 2)
    for batch in (9, 100_000):
        checkpoints.save(model, epoch=2, batch=batch, step=4 + batch, metrics={})
    assert names(tmp_path) == ["epoch-0002", "epoch-0002-batch-00009", "epoch-0002-batch-100000"]
    latest = checkpoints.latest()
    assert (latest.epoch, latest.batch, latest.step) == (2, 100_000, 100_004)
    assert checkpoints.best().batch == 0
    save(checkpoints, model, 3)
    assert checkpoints.latest().epoch == 3


def test_arrays_are_kept_beside_the_variables(tmp_path):
    model, batches = compiled_model(), np.arange(6).reshape(3, 2)
    checkpoint = Checkpoints(tmp_path).save(model, epoch=1, step=2, metrics={}, arrays={"batches": batches})
    Checkpoints(tmp_path).restore(model, checkpoint)
    assert checkpoint.arrays().keys() == {"batches"}
    np.testing.assert_array_equal(checkpoint.arrays()["batches"], batches)


def test_means_within_an_epoch_and_the_loss_scale_come_back(tmp_path):
    model = compiled_model()
    model.optimizer = keras.optimizers.LossScaleOptimizer(model.optimizer)
    model.optimizer.build(model.trunk)
    model.optimizer.dynamic_scale.assign(2.0**9)
    model.metrics[0].update_state(3.0)
    checkpoint = save(Checkpoints(tmp_path), model, 1)
    model.optimizer.dynamic_scale.assign(1.0)
    model.reset_metrics()
    Checkpoints(tmp_path).restore(model, checkpoint)
    assert float(model.optimizer.dynamic_scale) == 2.0**9
    assert float(model.metrics[0].result()) == 3.0


def test_same_epoch_is_replaced(tmp_path):
    checkpoints, model = Checkpoints(tmp_path), compiled_model()
    for recall in (0.1, 0.2):
        save(checkpoints, model, 1, recall)
    assert checkpoints.latest().metrics == {"recall@1": 0.2}
    save(checkpoints, model, 2)
    assert names(tmp_path) == ["epoch-0001", "epoch-0002"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_write_leaves_the_previous_one_alone(tmp_path, monkeypatch, error):
    checkpoints, model = Checkpoints(tmp_path), compiled_model()
    save(checkpoints, model, 1)

    def interrupted(path, **values):
        path.write(b"half of it")
        raise error

    monkeypatch.setattr(np, "savez", interrupted)
    for epoch in (1, 2):
        with pytest.raises(error):
            save(checkpoints, model, epoch, recall=0.9)
    assert names(tmp_path) == ["epoch-0001"]
    assert checkpoints.latest().metrics == {"recall@1": 0.5}


def test_what_a_killed_process_left_is_ignored_and_cleaned_up(tmp_path):
    checkpoints, model = Checkpoints(tmp_path), compiled_model()
    save(checkpoints, model, 1)
    left = tmp_path / ".stml-tf-0123456789abcdef.partial"
    left.mkdir()
    (left / "stml-tf.lock").touch()
    (left / "variables.npz").write_bytes(b"half of it")
    assert checkpoints.latest().epoch == 1
    save(checkpoints, model, 3)
    assert names(tmp_path) == ["epoch-0001", "epoch-0003"]


def test_full_disk_is_told_and_leaves_no_rest(tmp_path):
    checkpoints, model = Checkpoints(tmp_path), compiled_model(width=4_000)
    save(checkpoints, model, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"Could not write checkpoint .*epoch-0002.*Earlier checkpoints are untouched"
        ):
            save(checkpoints, model, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["epoch-0001"]
    assert checkpoints.latest().epoch == 1


def test_refuses_another_architecture(tmp_path):
    checkpoint = save(Checkpoints(tmp_path), compiled_model(), 1)
    with pytest.raises(
        ValueError,
        match=r"epoch-0001 does not fit.* student/sequential/dense/kernel is float32 \(3, 4\) there,",
    ):
        Checkpoints(tmp_path).restore(compiled_model(width=5), checkpoint)


def test_refuses_an_optimizer_that_is_not_built(tmp_path):
    checkpoint = save(Checkpoints(tmp_path), compiled_model(), 1)
    model = TeacherStudent()
    keras.Model.compile(model, optimizer=AdamP(EpochSchedule(0.05, epochs=4, steps_per_epoch=2)), loss="mse")
    with pytest.raises(ValueError, match=r"optimizer/.* is .* there, missing here.* build the model and its opti"):
        Checkpoints(tmp_path).restore(model, checkpoint)


def test_refuses_to_keep_none(tmp_path):
    with pytest.raises(ValueError, match="keep must be 1 or more, but 0 was given"):
        Checkpoints(tmp_path, keep=0)


def test_every_flipped_bit_of_a_checkpoint_is_found(tmp_path):
    checkpoints, model = Checkpoints(tmp_path), compiled_model()
    path = save(checkpoints, model, 1).path
    whole = checkpoints.latest()
    for _ in flipped_bits(path / "state.json"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = Checkpoints(tmp_path).latest()
            except UserError:
                continue
        assert found in (None, whole), "a change of blanks alone"


def test_damaged_checkpoints_never_count_for_what_is_kept(tmp_path):
    checkpoints, model = Checkpoints(tmp_path, keep=1), compiled_model()
    for epoch, damage in ((5, damage_variables), (6, cut_state)):
        damage(save(checkpoints, model, epoch, recall=0.9).path)
        save(Checkpoints(tmp_path, keep=9), model, epoch - 3)
    resumed = Checkpoints(tmp_path, keep=1)
    with pytest.warns(UserWarning, match="damaged"):
        resumed.latest()
    for epoch in (1, 4):
        assert save(resumed, model, epoch, recall=0.1).path.exists()
    with pytest.warns(UserWarning, match="damaged"):
        assert resumed.latest().epoch == 4


def test_a_checkpoint_of_the_first_format_is_refused_by_name(tmp_path):
    (tmp_path / "epoch-0003").mkdir()
    state = {"epoch": 3, "batch": 0, "step": 6, "metrics": {}, "extra": {}, "sha256": "0" * 64}
    (tmp_path / "epoch-0003" / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=r"epoch-0003 is of format 1, which an earlier version wrote"):
        Checkpoints(tmp_path).latest()


def test_variables_are_known_by_where_they_belong_not_by_their_place(tmp_path, monkeypatch):
    model = compiled_model()
    train(model, epochs=1)
    checkpoint = save(Checkpoints(tmp_path), model, 1)
    keys = _variables(model).keys()
    assert {
        f"{net}/sequential/{name}" for net in ("student", "teacher") for name in ("dense/kernel", "dense_1/bias")
    } < keys
    other = compiled_model()
    for layers in (other.student, other.optimizer, other.head_optimizer):
        kind = type(layers)
        turned = property(lambda self, usual=kind.variables.fget: usual(self)[::-1])
        monkeypatch.setattr(kind, "variables", turned)
    Checkpoints(tmp_path).restore(other, checkpoint)
    monkeypatch.undo()
    for expected, actual in zip(everything(model), everything(other), strict=True):
        np.testing.assert_array_equal(actual, expected)
