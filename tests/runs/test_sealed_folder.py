import numpy as np
import pytest

from stml_tf.errors import UserError
from stml_tf.runs.sealed_folder import SealedFolder
from tests.disk import flipped_bits

WRITE = {
    "before.npy": lambda folder: folder.remember("before", lambda: np.arange(3)),
    "health_even.npz": lambda folder: folder.remember_epoch("health", 2, np.arange(3)),
    "queries.npz": lambda folder: folder.keep_arrays("queries", {"found": np.array([True])}),
    "history.json": lambda folder: folder.keep_json("history", {"epochs": []}),
}
READ = {
    "before.npy": lambda folder: folder.remember("before", lambda: pytest.fail("computed again")),
    "health_even.npz": lambda folder: folder.recall_epoch("health", 2),
    "queries.npz": lambda folder: folder.kept_arrays("queries"),
    "history.json": lambda folder: folder.kept_json("history"),
}


def test_what_was_computed_once_is_remembered(tmp_path):
    folder = SealedFolder(tmp_path)

    def killed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.remember("before", killed)
    assert not folder.remembers("before")
    for value in (1.0, 2.0):
        np.testing.assert_array_equal(folder.remember("before", lambda value=value: np.full(3, value)), np.ones(3))
    assert folder.remembers("before")


def test_the_arrays_of_two_epochs_are_kept(tmp_path):
    folder = SealedFolder(tmp_path)
    for epoch in range(4):
        folder.remember_epoch("health", epoch, np.full(2, epoch))
    assert [folder.recall_epoch("health", epoch) is None for epoch in range(5)] == [True, True, False, False, True]
    np.testing.assert_array_equal(folder.recall_epoch("health", 2), [2, 2])


def test_what_is_kept_comes_back_and_is_replaced(tmp_path):
    folder = SealedFolder(tmp_path)
    assert folder.kept_json("history") is folder.kept_arrays("queries") is None
    for number in (1, 2):
        folder.keep_json("history", {"epochs": [{"loss": number}]})
        folder.keep_arrays("queries", {"a": np.array([number]), "b": np.eye(number)})
    assert folder.kept_json("history")["epochs"] == [{"loss": 2}]
    arrays = folder.kept_arrays("queries")
    assert list(arrays) == ["a", "b"]
    np.testing.assert_array_equal(arrays["b"], np.eye(2))


@pytest.mark.parametrize("name", WRITE)
def test_a_flipped_bit_is_found(tmp_path, name):
    WRITE[name](SealedFolder(tmp_path))
    for _ in flipped_bits(tmp_path / name):
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            READ[name](SealedFolder(tmp_path))


@pytest.mark.parametrize("name", WRITE)
def test_where_another_process_writes_nothing_is_written(tmp_path, name):
    WRITE[name](SealedFolder(tmp_path / "none", write=False))
    assert not (tmp_path / "none").exists()
