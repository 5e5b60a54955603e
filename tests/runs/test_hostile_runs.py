"""Run folders that were made to do harm, with the right checksums: nothing is run, and one message says so."""

import json

import numpy as np
import pytest

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.fitting.checkpoints import Checkpoints
from stml_tf.recipe.load import load_recipe
from stml_tf.runs.folder import RunFolder
from tests.hostile import harmful_npy, harmful_npz, harmful_pickle

CASES = {}


def case(change):
    """Register a run folder: a function of it and of the folder that code in it would make."""
    CASES[change.__name__] = change
    return change


def checkpoint(folder, *, variables=b"", **changes):
    """A checkpoint that says so of itself, and whose checksums are right."""
    path = folder / "checkpoints" / "epoch-0001"
    path.mkdir(parents=True, exist_ok=True)
    (path / "variables.npz").write_bytes(variables)
    state = {"format": 2, "epoch": 1, "batch": 0, "step": 2, "metrics": {}, "extra": {"history": []}}
    digest = files.checksum(path / "variables.npz")
    files.write_json(path / "state.json", {**state, "variables_sha256": digest, **changes})


def recipe_file(folder, content):
    (folder / "recipe.json").write_bytes(content)
    (folder / "recipe.json.sha256").write_text(f"{files.checksum(folder / 'recipe.json')}  recipe.json\n")


def recipe_with(folder, **changes):
    document = json.loads((folder / "recipe.json").read_text())
    recipe_file(folder, json.dumps({**document, **changes}).encode())


@case
def recipe_that_is_a_pickle(folder, mark):
    recipe_file(folder, harmful_pickle(mark))


@case
def recipe_that_is_deep(folder, mark):
    recipe_file(folder, b"[" * 100_000)


@case
def recipe_with_a_field_of_python(folder, mark):
    recipe_with(folder, __reduce__=["os.mkdir", [str(mark)]])


@case
def recipe_whose_backbone_is_a_function(folder, mark):
    recipe_with(folder, model={"backbone": "os.mkdir"})


@case
def recipe_whose_data_is_a_module(folder, mark):
    recipe_with(folder, data={"name": "evil"})


@case
def recipe_whose_name_leads_out(folder, mark):
    recipe_with(folder, name="../../outside")


@case
def plugins_that_are_a_pickle(folder, mark):
    (folder / "plugins.json").write_bytes(harmful_pickle(mark))


@case
def plugins_that_name_a_module_beside(folder, mark):
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    record = {"kind": "backbone", "name": "evil", "origin": "evil", "file": str(folder / "evil.py")}
    files.write_json(folder / "plugins.json", {"plugins": [record]})


@case
def plugins_of_an_unknown_kind(folder, mark):
    files.write_json(folder / "plugins.json", {"plugins": [{"kind": "os", "name": "mkdir", "origin": "os"}]})


@case
def plugins_that_are_none(folder, mark):
    files.write_json(folder / "plugins.json", {})


@case
def metrics_that_are_a_pickle(folder, mark):
    (folder / "metrics.json").write_bytes(harmful_pickle(mark))


@case
def remembered_array_that_is_a_pickle(folder, mark):
    (folder / "before.npy").write_bytes(harmful_npy(mark))
    files.seal(folder / "before.npy")


@case
def remembered_array_that_is_cut_short(folder, mark):
    (folder / "before.npy").write_bytes(b"\x93NUMPY")
    files.seal(folder / "before.npy")


@case
def state_that_is_a_pickle(folder, mark):
    checkpoint(folder)
    (folder / "checkpoints" / "epoch-0001" / "state.json").write_bytes(harmful_pickle(mark))


@case
def state_with_a_field_too_many(folder, mark):
    checkpoint(folder, path="/etc")


@case
def state_whose_epoch_is_text(folder, mark):
    checkpoint(folder, epoch="1")


@case
def state_whose_step_is_negative(folder, mark):
    checkpoint(folder, step=-1)


@case
def state_whose_metrics_are_none(folder, mark):
    checkpoint(folder, metrics=None)


@case
def state_of_another_checkpoints_variables(folder, mark):
    checkpoint(folder, variables_sha256="0" * 64)


@case
def variables_that_are_a_pickle(folder, mark):
    checkpoint(folder, variables=harmful_pickle(mark))


@case
def variables_of_objects(folder, mark):
    checkpoint(folder, variables=harmful_npz(mark, "weights"))


@case
def variables_that_are_no_archive(folder, mark):
    checkpoint(folder, variables=b"PK\x03\x04 no archive")


def use(folder):
    """All that is read of a run's folder, on the way to its network."""
    run = RunFolder(folder)
    run.recipe()
    run.read_metrics()
    run.remember("before", lambda: pytest.fail("asked"))
    checkpoints = Checkpoints(run.checkpoints)
    found = checkpoints.latest()
    if found is None:
        raise UserError("there is no intact checkpoint")
    checkpoints.restore(None, found)


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "deep" / "run"
    run = RunFolder(folder)
    run.open(load_recipe("quickstart"))
    run.write_metrics({"epochs": []})
    run.remember("before", lambda: np.ones(3))
    return folder


@pytest.mark.filterwarnings("ignore:Checkpoint")
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_run_and_one_message_says_why(run_folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(run_folder)
    monkeypatch.setattr("stml_tf.fitting.checkpoints._variables", lambda model: {})
    mark = tmp_path / "was_run"
    CASES[name](run_folder, mark)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as raised:
        use(run_folder)
    assert "Traceback" not in str(raised.value)
    assert not mark.exists()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_a_run_leads_no_change_out_of_it(run_folder, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    run = RunFolder(run_folder)
    for file, write in (
        (run.metrics_file, lambda: run.write_metrics({"epochs": []})),
        (run.picture, lambda: run.write_picture(b"png")),
        (run_folder / "unreadable.txt", lambda: run.write_lists(unreadable=["a"])),
        (run_folder / "new.npy", lambda: run.remember("new", lambda: np.ones(1))),
    ):
        for target in (mine, tmp_path / "nowhere"):
            file.unlink(missing_ok=True)
            file.symlink_to(target)
            try:
                write()
            except UserError:
                assert file.name == "new.npy", "which is read where it is"
            assert (mine.read_text(), (tmp_path / "nowhere").exists()) == ("mine", False)
    recipe = load_recipe("quickstart")
    for name in ("recipe.json.sha256", "before.npy"):
        (run_folder / name).unlink()
        (run_folder / name).symlink_to(mine)
    run.open(recipe, overwrite=True)
    assert mine.read_text() == "mine"
    assert run.recipe() == recipe
