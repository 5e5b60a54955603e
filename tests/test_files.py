import errno
import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.files import DamagedError
from tests.disk import at_most, flipped_bits


def in_process(function, *arguments):
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def write_and_die(file):
    with files.write_file(file) as stream:
        stream.write(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_file_is_there_whole_with_its_folders(tmp_path):
    target = tmp_path / "deep" / "er" / "a.txt"
    with files.write_file(target) as stream:
        stream.write(b"one ")
        assert not target.exists()
        stream.write(np.frombuffer(b"two!", np.int32))
    assert target.read_bytes() == b"one two!"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path, error):
    for target in (tmp_path / "old.txt", tmp_path / "new" / "folder" / "new.txt"):
        files.write_text(tmp_path / "old.txt", "old")
        with pytest.raises(error), files.write_file(target) as stream:
            stream.write(b"half of it")
            raise error
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old.txt": "old"}


def test_a_full_disk_is_an_error_with_a_number_and_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.npy"
    with files.write_file(target) as stream:
        np.save(stream, np.arange(3))
    for write in (np.save, lambda stream, array: np.savez(stream, array=array)):
        with at_most(10_000), pytest.raises(OSError) as raised, files.write_file(target) as stream:
            write(stream, np.zeros(100_000))
        assert raised.value.errno == errno.EFBIG
        assert raised.value.filename == str(target), "which disk is full"
    with at_most(10_000), pytest.raises(OSError) as raised, files.work_folder(tmp_path / "run") as work:
        files.write_bytes(work / "run" / "deep.bin", bytes(100_000))
    assert raised.value.filename == str(tmp_path / "run")
    assert np.load(target).tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_what_a_killed_process_left_goes_away_when_the_next_thing_is_written(tmp_path):
    target = tmp_path / "a.txt"
    process = in_process(write_and_die, target)
    process.join(600)
    (left,) = tmp_path.iterdir()
    assert files.is_work_folder(left)
    files.write_text(target, "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_living_process_writes_stays_as_does_what_only_looks_like_it(tmp_path):
    of_the_user = tmp_path / ".stml-tf-0123456789abcdef.partial"
    of_the_user.mkdir()
    (of_the_user / "photo.jpg").touch()
    (tmp_path / "b.partial").mkdir()
    with files.write_file(tmp_path / "a.txt") as stream:
        files.write_text(tmp_path / "c.txt", "c")
        stream.write(b"a")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "c.txt", of_the_user.name, "b.partial"}
    assert (of_the_user / "photo.jpg").exists()


def test_a_link_is_replaced_and_never_followed_and_a_long_name_fits(tmp_path):
    real, link = tmp_path / "real" / ("n" * 250 + ".txt"), tmp_path / "link"
    files.write_text(real, "old")
    for target in (real, tmp_path / "nowhere"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        files.write_text(link, "new")
        assert (link.is_symlink(), link.read_text()) == (False, "new")
    assert real.read_text() == "old"
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_is_published_whole_and_never_over_another(tmp_path):
    def make(name, content):
        with files.work_folder(tmp_path / name) as work:
            (work / name).mkdir()
            (work / name / "file").write_text(content)
            files.publish(work / name, tmp_path / name)

    (tmp_path / "model").mkdir()
    make("model", "first")
    with pytest.raises(OSError, match="not empty"):
        make("model", "second")
    assert (tmp_path / "model" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_replaced_folder_comes_back_if_the_step_fails(tmp_path, monkeypatch, fails):
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("old")
    (target / "notes.txt").write_text("mine")
    with files.work_folder(target) as work:
        (work / "target").mkdir()
        (work / "target" / "file").write_text("new")
        if fails:
            monkeypatch.setattr(files, "publish", lambda *_: (_ for _ in ()).throw(OSError("no")))
            with pytest.raises(OSError, match="no"):
                files.replace_folder(work / "target", target, ["file"])
        else:
            files.replace_folder(work / "target", target, ["file"])
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "file": "old" if fails else "new",
        "notes.txt": "mine",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def replace_and_die(target):
    files.publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    with files.work_folder(target) as work:
        (work / "target").mkdir()
        files.replace_folder(work / "target", target, ["file"])


def test_a_folder_that_a_killed_process_was_replacing_comes_back(tmp_path):
    files.write_text(tmp_path / "target" / "file", "old")
    in_process(replace_and_die, tmp_path / "target").join(600)
    assert not (tmp_path / "target").exists()
    files.recover(tmp_path)
    assert (tmp_path / "target" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_folder_goes_whole_and_one_that_holds_something_else_keeps_it(tmp_path, monkeypatch):
    for name in ("a/one", "a/two", "b/one", "b/photo.jpg"):
        files.write_text(tmp_path / name, name)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    files.delete_whole(tmp_path / "link", ["one", "two"])
    assert (tmp_path / "b" / "one").exists()
    for name in ("a", "b"):
        files.delete_whole(tmp_path / name, ["one", "two"])
    assert {path.name for path in tmp_path.rglob("*")} == {"link", "b", "photo.jpg"}
    files.write_text(tmp_path / "c" / "one", "c")

    def no_room(parent):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_locked_work_folder", no_room)
    files.delete_whole(tmp_path / "c", ["one"])
    assert not (tmp_path / "c").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate])
@example(content={"metrics": {"recall@1": 1e100}})
@given(content=st.dictionaries(st.text().filter(lambda key: key != "sha256"), json_values, max_size=3))
def test_every_flipped_bit_of_a_json_file_is_found_or_changes_nothing(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("json") / "a.json"
    files.write_json(file, content)
    assert files.read_json(file) == content
    for _ in flipped_bits(file):
        try:
            assert json.dumps(files.read_json(file)) == json.dumps(content)
        except DamagedError:
            continue


def test_every_flipped_bit_of_a_sealed_file_is_found(tmp_path):
    file = tmp_path / "a.npy"
    with files.write_file(file, sealed=True) as stream:
        np.save(stream, np.arange(5, dtype=np.int8))
    assert np.load(files.require_seal(file)).tolist() == [0, 1, 2, 3, 4]
    assert np.load(file, mmap_mode="r").tolist() == [0, 1, 2, 3, 4]
    for _ in flipped_bits(file):
        with pytest.raises(DamagedError, match=r"a\.npy does not (have the checksum|end with its checksum)"):
            files.require_seal(file)
    for length in reversed(range(file.stat().st_size)):
        os.truncate(file, length)
        with pytest.raises(DamagedError):
            files.require_seal(file)


def test_another_librarys_file_is_sealed_too_and_foreign_ones_are_known(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"content")
    assert not files.is_sealed(file)
    with pytest.raises(DamagedError, match="does not end with its checksum"):
        files.require_seal(file)
    files.seal(file)
    assert files.is_sealed(file)
    with pytest.raises(DamagedError, match="missing cannot be read"):
        files.require_seal(tmp_path / "missing")


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "{}", '{"a": 1}', '{"sha256": 3}', "[" * 100_000, "\x00", '{"a": NaN, "sha256": ""}']
)
def test_what_is_no_json_of_ours_is_damaged(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DamagedError, match=r"a\.json (cannot be read|does not have the checksum|holds no checksum)"):
        files.read_json(tmp_path / "a.json")


def test_only_known_files_are_deleted(tmp_path):
    folder = tmp_path / "g"
    for name in ("epoch-1.npz", "photo.jpg", "sub/epoch-2.npz"):
        files.write_text(folder / name, name)
    files.delete_known(folder, ["epoch-*", "sub"])
    assert {path.name for path in folder.rglob("*")} == {"photo.jpg", "sub", "epoch-2.npz"}
    files.delete_known(folder / "sub", ["epoch-*"])
    assert {path.name for path in folder.iterdir()} == {"photo.jpg"}
    files.delete_known(tmp_path / "missing", ["*"])
    (tmp_path / "link").symlink_to(folder)
    files.delete_known(tmp_path / "link", ["*"])
    assert (folder / "photo.jpg").exists(), "a link to a folder of the user's is no folder of ours"


def test_an_output_replaces_its_own_kind_alone_and_only_if_told(tmp_path):
    def check(name, **options):
        ours = lambda file: files.begins_with(file, b"path,cluster")  # noqa: E731
        files.refuse_existing(tmp_path / name, suffixes=[".csv", ".tsv"], ours=ours, **{"overwrite": True, **options})

    photo = b"\xff\xd8\xff photo"
    (tmp_path / "photo.jpg").write_bytes(photo)
    (tmp_path / "photo.csv").write_bytes(photo)
    (tmp_path / "ours.csv").write_text("path,cluster\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nowhere")
    for name, message in [
        ("photo.jpg", r"photo\.jpg has to end in \.csv or \.tsv"),
        ("new.jpg", r"new\.jpg has to end in \.csv or \.tsv"),
        ("photo.csv", r"photo\.csv was not written by this command, so --overwrite does not replace it"),
        ("empty.csv", "was not written by this command"),
        ("folder.csv", "is no regular file"),
        ("dangling.csv", "is a link to .*nowhere, which does not exist"),
    ]:
        with pytest.raises(UserError, match=message):
            check(name)
    with pytest.raises(UserError, match=r"ours\.csv exists already: give another file, or replace it with --overwrite"):
        check("ours.csv", overwrite=False)
    check("ours.csv")
    check("new.csv", overwrite=False)
    check("new.CSV")


def test_too_little_room_is_told_beforehand(tmp_path):
    files.require_room(tmp_path / "not" / "yet", 1)
    with pytest.raises(OSError, match=r"No space left on device: about 1,000,000,000,000.0 MB are needed, and .* free"):
        files.require_room(tmp_path / "not" / "yet", 10**18)


def count_up(file, times):
    for _ in range(times):
        with files.locked(file.with_name("lock"), busy="wait"):
            count = int(file.read_text())
            time.sleep(0.001)
            file.write_text(str(count + 1))


def test_a_lock_lets_one_in_at_a_time(tmp_path):
    file = tmp_path / "count"
    file.write_text("0")
    processes = [in_process(count_up, file, 40) for _ in range(3)]
    for process in processes:
        process.join(600)
    assert file.read_text() == "120"


def test_waiting_for_a_lock_is_said(tmp_path, caplog):
    fork = multiprocessing.get_context("fork")
    held, said = fork.Event(), fork.Event()

    def hold_until_it_is_said():
        with files.locked(tmp_path / "lock", busy=""):
            held.set()
            said.wait(600)

    process = in_process(hold_until_it_is_said)
    assert held.wait(600)
    caplog.handler.addFilter(lambda record: said.set() or True)
    with files.locked(tmp_path / "lock", busy="waiting for another process"):
        pass
    assert caplog.messages == ["waiting for another process"]
    process.join(600)


def test_a_file_that_someone_reads_is_held(tmp_path):
    file = tmp_path / "a"
    file.write_text("a")
    first, second = files.hold(file), files.hold(file)
    assert files.is_held(file)
    first.close()
    assert files.is_held(file)
    second.close()
    assert not files.is_held(file)
