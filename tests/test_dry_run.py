import shutil
from functools import partial

import keras
import pytest
from click.testing import CliRunner

from stml_tf import registry
from stml_tf.cli.main import main
from stml_tf.data.sources.cub import CUB, load_cub
from stml_tf.data.sources.published_source import PublishedSource
from stml_tf.dry_run import DryRunStopped, trial, would, would_have_to
from stml_tf.errors import UserError
from stml_tf.models.backbones.by_name import build_backbone
from tests.data.sources.miniatures import write_cub


def everything_in(folder):
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_outside_of_a_trial_all_is_done():
    assert not would("write")
    would_have_to("write")
    with trial(False) as notes:
        assert not would("write")
    assert notes == []


def test_within_a_trial_it_is_told():
    with trial(True) as notes:
        assert would("download the weights")
        with pytest.raises(DryRunStopped, match=r"^Dry run: training would first extract a to b\. Nothing was written"):
            would_have_to("extract a to b")
    assert notes == ["download the weights", "extract a to b"]
    assert not would("write")


def test_a_dry_run_does_not_extract_an_archive(tmp_path, monkeypatch):
    expected = write_cub(tmp_path / "made")
    data = tmp_path / "data"
    packed = shutil.make_archive(str(tmp_path / "packed"), "gztar", tmp_path / "made")
    data.mkdir()
    shutil.move(packed, data / "CUB_200_2011.tgz")
    miniature = PublishedSource(CUB, partial(load_cub, expected=expected), "caltech_birds2011")
    monkeypatch.setattr("stml_tf.data.sources.cub.open_cub", miniature)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    before = everything_in(tmp_path)
    for where in (data, data / "CUB_200_2011.tgz"):
        options = ["--set", "model.weights=null", "--data-dir", str(where), "--dry-run"]
        result = CliRunner().invoke(main, ["train", "cub", *options])
        assert result.exit_code == 0
        assert result.output == (
            f"Dry run: training would first extract {data}/CUB_200_2011.tgz to {data}/CUB_200_2011. Nothing was "
            "written, so it ends here.\n"
        )
    result = CliRunner().invoke(main, ["check", "cub", "--data-dir", str(data), "--json"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"training would first extract {data}/CUB_200_2011.tgz to {data}/CUB_200_2011. Do that" in result.stderr
    assert everything_in(tmp_path) == before


def test_a_dry_run_downloads_no_data(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda builder: pytest.fail("downloaded"))
    monkeypatch.chdir(tmp_path)
    data = ["--set", 'data={"name": "tfds:cifar10"}', "--data-dir", str(tmp_path), "--download"]
    result = CliRunner().invoke(main, ["train", "quickstart", *data, "--dry-run"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Dry run: training would first download cifar10 to {tmp_path}/cifar10/")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def fetched_backbone():
    """A backbone whose weights come from elsewhere; raises what a test puts into `.error`."""

    class Builder:
        error = None

        def __call__(self, weights):
            if weights and self.error:
                raise self.error
            return keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1, name=str(weights))])

    build = Builder()
    with registry.backbones.holding(registry.Backbone("fetched", build, origin="here", named_weights=("imagenet",))):
        yield build


def test_a_dry_run_downloads_no_weights(fetched_backbone):
    assert build_backbone("fetched", weights="imagenet").layers[0].name == "imagenet"
    with trial(True) as notes:
        assert build_backbone("fetched", weights="imagenet").layers[0].name == "None"
    (note,) = notes
    assert note.startswith(
        "take the imagenet weights of fetched from Keras's cache, or download them; here they are ra"
    )


@pytest.mark.parametrize("error", [Exception("URL fetch failure on https://x: -3"), ConnectionResetError("broke off")])
def test_weights_that_cannot_be_downloaded_are_one_message(fetched_backbone, error):
    fetched_backbone.error = error
    with pytest.raises(UserError, match=r"imagenet weights of fetched cannot be downloaded \((URL|bro).*or null\.$"):
        build_backbone("fetched", weights="imagenet")


def test_another_fault_of_a_backbone_is_not_taken_for_a_download(fetched_backbone):
    fetched_backbone.error = KeyError("layer")
    with pytest.raises(KeyError, match="layer"):
        build_backbone("fetched", weights="imagenet")


def test_keras_says_so_where_there_is_no_network(tmp_path, monkeypatch):
    """The real thing, at an address where nothing listens."""
    monkeypatch.setattr("keras.src.applications.mobilenet.BASE_WEIGHT_PATH", "http://127.0.0.1:9/")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"imagenet weights of MobileNet cannot be downloaded \(URL fetch failure"):
        build_backbone("MobileNet", weights="imagenet")
