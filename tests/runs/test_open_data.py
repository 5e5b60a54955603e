import json

import pytest
from PIL import Image

from stml_tf.data.image_files import ListedError, Unreadable
from stml_tf.errors import UserError
from stml_tf.recipe.load import load_recipe
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.open_data import listing_all, open_data


@pytest.fixture
def leaking(tmp_path):
    """A data folder in which all eight test images are training images."""
    for part in ("train", "test"):
        for number in range(8):
            path = tmp_path / "data" / part / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    return tmp_path / "data"


def recipe(**data):
    return load_recipe("quickstart", [f"data={json.dumps({'name': 'folder', **data})}"])


def test_all_leaks_are_listed_beside_the_run_folder(tmp_path, leaking):
    with pytest.raises(UserError, match=r"(?s)^8 of 8 test images .*\n  and 3 more\nAll of them are listed in (.*)\.$"):
        open_data(recipe(), RunFolder(tmp_path / "runs" / "mine"), data_dir=leaking)
    (file,) = (tmp_path / "runs").iterdir()
    assert file.name == "mine-leaks.txt"
    lines = file.read_text().splitlines()
    assert len(lines) == 8
    assert lines[0] == f"{leaking}/test/a/0.png\tsame as {leaking}/train/a/0.png"


def test_a_dry_run_writes_no_list_and_says_where_it_would_be(tmp_path, leaking):
    with pytest.raises(UserError, match=r"Without --dry-run, all of them are listed in .*runs/mine-leaks\.txt\.$"):
        open_data(recipe(), RunFolder(tmp_path / "runs" / "mine"), data_dir=leaking, dry_run=True)
    assert not (tmp_path / "runs").exists()


def test_leaks_that_are_allowed_come_with_the_catalog(tmp_path, leaking):
    assert len(open_data(recipe(allow_leaks=True), RunFolder(tmp_path / "mine"), data_dir=leaking).leaks) == 8


@pytest.mark.parametrize(("count", "write"), [(5, True), (6, False)])
def test_where_the_message_names_all_or_another_process_writes_there_is_no_list(tmp_path, count, write):
    bad = [Unreadable(index, tmp_path / f"{index}.png", "damaged") for index in range(count)]
    with pytest.raises(ListedError, match="damaged"), listing_all(RunFolder(tmp_path / "mine", write=write)):
        raise ListedError("Bad:", bad, name="unreadable")
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_cannot_be_written_does_not_hide_the_error(tmp_path):
    (tmp_path / "file").touch()
    bad = [Unreadable(index, tmp_path / f"{index}.png", "damaged") for index in range(6)]
    with pytest.raises(ListedError, match=r"and 1 more$"), listing_all(RunFolder(tmp_path / "file" / "mine")):
        raise ListedError("Bad:", bad, name="unreadable")


def test_published_data_sets_are_measured_as_they_are_and_others_are_not():
    published = load_recipe("cub", check_files=False).data
    assert published.allow_leaks
    assert not recipe().data.allow_leaks
