import json
from pathlib import Path

import pytest

from stml_tf.recipe import load_recipe
from stml_tf.run_folder import RunFolder


@pytest.fixture
def recipe():
    return load_recipe("quickstart", ["seed=7"])


def test_a_new_folder_holds_the_resolved_recipe(tmp_path, recipe):
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.create(recipe)
    assert folder.recipe() == recipe
    assert json.loads(folder.recipe_file.read_text())["sampling"]["coverage"] is True


def test_a_run_is_refused_unless_it_is_to_be_replaced(tmp_path, recipe):
    folder = RunFolder(tmp_path / "run")
    folder.create(recipe)
    old = folder.path / "old"
    old.touch()
    with pytest.raises(ValueError, match=r"run holds a run already: .*--overwrite"):
        folder.create(recipe)
    assert old.exists()
    folder.create(recipe, overwrite=True)
    assert not old.exists()


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path, recipe):
    (tmp_path / "letters.txt").touch()
    with pytest.raises(ValueError, match=r"holds files that are no run already: give another --run-dir\."):
        RunFolder(tmp_path).create(recipe, overwrite=True)
    assert (tmp_path / "letters.txt").exists()


def test_a_file_is_refused(tmp_path, recipe):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ValueError, match="is a file: give another --run-dir"):
        RunFolder(path).create(recipe)


def test_a_folder_without_a_recipe_is_no_run(tmp_path):
    with pytest.raises(ValueError, match=r"is no run folder: it lacks recipe\.json"):
        RunFolder(tmp_path).recipe()


def test_unreadable_files_are_listed_and_without_any_there_is_no_list(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_unreadable([])
    assert not folder.unreadable_file.exists()
    folder.write_unreadable([(Path("a.png"), "truncated"), (Path("b.png"), "empty")])
    assert folder.unreadable_file.read_text() == "a.png\ttruncated\nb.png\tempty\n"
