import pytest


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path_factory):
    """Undoes what a command sets, as commands here run in the process of the tests, and where no run lies already."""
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
