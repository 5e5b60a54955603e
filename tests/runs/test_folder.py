import json
import multiprocessing
import os

import numpy as np
import pytest

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.recipe.load import load_recipe
from stml_tf.runs.folder import RunFolder
from tests.disk import flipped_bits


@pytest.fixture
def recipe():
    return load_recipe("quickstart", ["seed=7"])


def test_a_new_folder_holds_the_resolved_recipe(tmp_path, recipe):
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.open(recipe)
    assert folder.recipe() == recipe
    assert json.loads(folder.recipe_file.read_text())["sampling"]["coverage"] is True


def test_of_several_processes_one_writes(tmp_path, recipe):
    chief, other = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run", write=False)
    other.open(recipe)
    assert other.remember("before", lambda: np.ones(2)).tolist() == [1, 1]
    assert not other.path.exists()
    chief.open(recipe)
    chief.remember("before", lambda: np.zeros(2))
    other.write_lists(unreadable=["a.png\tbroken"])
    other.write_metrics({"recall@1": 0.5})
    assert {path.name for path in chief.path.iterdir()} == {"recipe.json", "recipe.json.sha256", "before.npy"}
    assert other.remember("before", lambda: pytest.fail("asked again")).tolist() == [0, 0]


def test_a_run_is_refused_unless_it_is_to_be_replaced(tmp_path, recipe):
    folder = RunFolder(tmp_path / "run")
    folder.open(recipe)
    theirs = [folder.path / name for name in ("photos/a.jpg", "checkpoints/mine.npz", "tensorboard/notes.txt", "n.txt")]
    own = [folder.path / name for name in ("checkpoints/epoch-0001/state.json", "metrics.json", "before_training.npy")]
    for file in (*theirs, *own):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("old")
    with pytest.raises(ValueError, match=r"run holds a run already: .*--resume.*--overwrite.*--run-dir"):
        folder.open(recipe)
    assert all(file.exists() for file in own)
    folder.open(recipe, overwrite=True)
    assert [file.read_text() for file in theirs] == ["old"] * len(theirs)
    assert not any(file.exists() for file in own)
    assert folder.recipe() == recipe


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_a_recipe_that_someone_wrote_makes_no_run_of_a_folder(tmp_path, recipe, options):
    for name in ("recipe.json", "report.html", "metrics.json"):
        (tmp_path / name).write_text('{"name": "mine"}')
    with pytest.raises(UserError, match=r"is not empty and is not a run folder: give another --run-dir\."):
        RunFolder(tmp_path).open(recipe, **options)
    assert {path.read_text() for path in tmp_path.iterdir()} == {'{"name": "mine"}'}


def test_a_recipe_that_its_owner_has_changed_is_replaced_only_by_itself(tmp_path, recipe):
    folder = RunFolder(tmp_path)
    folder.open(recipe)
    changed = folder.recipe_file.read_text().replace('"seed": 7', '"seed": 8')
    folder.recipe_file.write_text(changed)
    with pytest.raises(UserError, match=r"recipe\.json is not what the run wrote, so --overwrite does not replace it"):
        folder.open(recipe, overwrite=True)
    assert folder.recipe_file.read_text() == changed
    folder.open(load_recipe("quickstart", ["seed=8"]), overwrite=True)
    assert folder.recipe().seed == 8


def use(folder, held, done):
    with RunFolder(folder).in_use():
        held.set()
        assert done.wait(600)


def test_of_two_processes_one_trains_in_a_folder(tmp_path, recipe):
    run = tmp_path / "run"
    spawned = multiprocessing.get_context("spawn")
    held, done = spawned.Event(), spawned.Event()
    other = spawned.Process(target=use, args=(run, held, done))
    other.start()
    assert held.wait(600)
    RunFolder(run).check(recipe)  # nothing but the lock is there
    message = r"Another process trains in .*run: wait until it ends, or give another --run-dir"
    with pytest.raises(UserError, match=message), RunFolder(run).in_use():
        pytest.fail("both train")
    done.set()
    other.join()
    with RunFolder(run).in_use(), RunFolder(run, write=False).in_use():
        RunFolder(run).open(recipe)
    assert RunFolder(run).recipe() == recipe


def test_what_fails_before_anything_is_written_leaves_no_folder(tmp_path):
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "new" / "run"):
        with pytest.raises(KeyError), RunFolder(folder).in_use():
            raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_metrics_of_an_earlier_version_are_read(tmp_path):
    measured = {"recall@1": 0.5}
    earlier = {"raw pixels": measured, "frozen, whitened to 384": measured, "after training": measured, "epochs": []}
    (tmp_path / "metrics.json").write_text(json.dumps(earlier))
    assert RunFolder(tmp_path).read_metrics() == {
        "raw_pixels": measured,
        "whitened_features": measured,
        "after_training": measured,
        "epochs": [],
    }


def test_a_flipped_bit_in_the_recipe_or_the_metrics_of_a_run_is_found(tmp_path, recipe):
    folder = RunFolder(tmp_path)
    folder.open(recipe)
    folder.write_metrics({"recall@1": 0.5})
    for file, read in ((folder.recipe_file, folder.recipe), (folder.recipe_checksum, folder.recipe)):
        for place, bit in flipped_bits(file):
            if place % 17 and file == folder.recipe_file:
                continue
            try:
                assert read() == recipe, "a change of the checksum's blanks alone"
            except UserError as error:
                assert "recipe.json is not what the run wrote: restore it" in str(error), (place, bit)
    for _ in flipped_bits(folder.metrics_file):
        try:
            assert folder.read_metrics().items() >= {"recall@1": 0.5}.items()
        except UserError:
            continue


def test_a_recipe_that_its_owner_has_changed_is_taken_once_its_checksum_is_gone(tmp_path, recipe):
    folder = RunFolder(tmp_path)
    folder.open(recipe)
    folder.recipe_file.write_text(folder.recipe_file.read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.raises(UserError, match=r"if you changed it yourself, delete recipe\.json\.sha256 beside it"):
        folder.recipe()
    folder.recipe_checksum.unlink()
    assert folder.recipe().seed == 8


def test_a_run_goes_on_with_the_same_recipe_and_keeps_what_it_holds(tmp_path, recipe):
    folder = RunFolder(tmp_path / "run")
    folder.open(recipe, resume=True)
    kept = folder.path / "kept"
    kept.touch()
    folder.open(recipe, resume=True)
    assert kept.exists()


def test_every_field_in_which_the_recipe_differs_is_named(tmp_path, recipe):
    folder = RunFolder(tmp_path)
    folder.open(recipe)
    other = load_recipe(
        "quickstart", ["seed=8", "loss.delta=0.7", 'data={"name": "folder"}', 'optimizer.options={"beta_1": 0.8}']
    )
    with pytest.raises(ValueError, match="cannot be resumed with another recipe") as refused:
        folder.check(other, resume=True)
    lines = str(refused.value).splitlines()
    assert "  seed: 7 in the run, 8 given" in lines
    assert "  loss.delta: 0.9 in the run, 0.7 given" in lines
    assert '  data.name: "glyphs" in the run, "folder" given' in lines
    assert "  data.num_classes: 1000 in the run, null given" in lines
    assert "  optimizer.options.beta_1: null in the run, 0.8 given" in lines
    assert not any("batch.size" in line for line in lines)
    assert str(folder.recipe_file) in lines[-1]


def test_a_run_is_not_both_replaced_and_gone_on_with(tmp_path, recipe):
    with pytest.raises(ValueError, match="give --overwrite or --resume, not both"):
        RunFolder(tmp_path).check(recipe, overwrite=True, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_was_killed_at_its_very_beginning_begins_anew(tmp_path, recipe, resume):
    (tmp_path / ".stml-tf-0123456789abcdef.partial").mkdir()
    files.write_json(tmp_path / "plugins.json", {"plugins": []})
    (tmp_path / "recipe.json.sha256").touch()
    RunFolder(tmp_path).open(recipe, resume=resume)
    assert RunFolder(tmp_path).recipe() == recipe


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path, recipe):
    (tmp_path / "letters.txt").touch()
    with pytest.raises(ValueError, match=r"is not empty and is not a run folder: give another --run-dir\."):
        RunFolder(tmp_path).open(recipe, overwrite=True)
    with pytest.raises(ValueError, match="is not empty and is not a run folder"):
        RunFolder(tmp_path).open(recipe, resume=True)
    assert (tmp_path / "letters.txt").exists()


def test_a_file_is_refused(tmp_path, recipe):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ValueError, match="is a file: give another --run-dir"):
        RunFolder(path).open(recipe)


def test_a_folder_without_a_recipe_is_no_run(tmp_path):
    with pytest.raises(ValueError, match=r"is not a run folder: it lacks recipe\.json"):
        RunFolder(tmp_path).recipe()


def test_unreadable_files_are_listed_and_without_any_there_is_no_list(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_lists(unreadable=[], left_out=[])
    assert not list(tmp_path.iterdir())
    folder.write_lists(unreadable=["a.png\ttruncated", "b.png\tempty"], left_out=["notes.txt\tno image"])
    assert (tmp_path / "unreadable.txt").read_text() == "a.png\ttruncated\nb.png\tempty\n"
    assert (tmp_path / "left_out.txt").read_text() == "notes.txt\tno image\n"


def test_what_is_remembered_and_damaged_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    folder.remember("before_training", lambda: np.ones((40, 3)))
    np.testing.assert_array_equal(folder.remember("before_training", lambda: pytest.fail("computed")), np.ones((40, 3)))
    os.truncate(tmp_path / "before_training.npy", 500)
    with pytest.raises(UserError, match=r"before_training\.npy"):
        folder.remember("before_training", lambda: pytest.fail("computed"))


def test_a_run_whose_folder_was_deleted_has_no_result(tmp_path, recipe):
    folder = RunFolder(tmp_path / "run")
    folder.open(recipe)
    folder.recipe_file.unlink()
    with pytest.raises(UserError, match=r"The run folder .*run was deleted during training"):
        folder.write_metrics({})
