import io
import json

import numpy as np
import pytest
from rich.console import Console

from stml_tf.recipe.load import load_recipe
from stml_tf.runs import measure
from stml_tf.runs.before_and_after import measure_after, measure_before
from stml_tf.runs.measure import StudentRetrieval, embed_test_images
from stml_tf.runs.prepare import prepare

SMALL = ("data.num_classes=16", "data.instances=6", "data.image_size=16", "views.size=16", "batch.size=16")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    recipe = load_recipe("quickstart", [*SMALL, "sampling.num_neighbors=4"])
    folder = tmp_path_factory.mktemp("prepared") / "run"
    return prepare(recipe, run_dir=folder, console=Console(file=io.StringIO()))


@pytest.fixture
def embedded(monkeypatch):
    """A list that grows by an entry each time a run's test images are embedded."""
    times = []

    def count(run):
        times.append(len(run.test))
        return embed_test_images(run)

    monkeypatch.setattr(measure, "embed_test_images", count)
    return times


def test_a_student_is_measured_again_if_a_bit_of_it_has_changed(prepared, embedded):
    student = StudentRetrieval(prepared)
    first = student()
    assert student() is first and embedded == [48]
    network = prepared.model.student
    for variable in (network.trainable_variables[0], network.non_trainable_variables[-1]):
        embedded.clear()
        before = variable.numpy()
        changed = before.copy()
        changed.flat[0] = np.nextafter(changed.flat[0], np.float32(np.inf))
        variable.assign(changed)
        assert student() is student() and len(embedded) == 1
        variable.assign(before)
        np.testing.assert_array_equal(student().embeddings, first.embeddings)
        assert student().metrics == first.metrics and len(embedded) == 2


def test_a_measurement_that_failed_is_made_again(prepared, monkeypatch):
    student = StudentRetrieval(prepared)
    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(measure, "embed_test_images", lambda run: (_ for _ in ()).throw(MemoryError()))
        student()
    assert student().metrics["queries"] == 48


def test_what_is_measured_before_and_after(prepared, embedded):
    student = StudentRetrieval(prepared)
    before = measure_before(prepared, student)
    assert list(before) == ["before_training"]
    kept = json.loads((prepared.folder.path / "baselines.json").read_text())
    assert kept["before_training"] == before["before_training"].metrics
    results = measure_after(prepared, student, before)
    assert list(results) == ["raw_pixels", "before_training", "after_training"]
    # No step was taken in between.
    assert results["after_training"] is results["before_training"] and embedded == [48]

    resumed = measure_before(prepared, StudentRetrieval(prepared))
    assert embedded == [48]  # it is read from the folder
    assert resumed["before_training"].metrics == before["before_training"].metrics
    np.testing.assert_array_equal(resumed["before_training"].embeddings, before["before_training"].embeddings)
