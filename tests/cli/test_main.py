import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import stml_tf
from stml_tf.cli.main import main
from stml_tf.data.sources import cub
from stml_tf.data.sources.cub import load_cub
from stml_tf.recipe.load import load_recipe
from stml_tf.runs import evaluate as evaluation
from stml_tf.runs import export as exporting
from stml_tf.runs import train as training
from stml_tf.runs.folder import RunFolder
from tests.data.sources.miniatures import write_cub
from tests.disk import at_most


@pytest.fixture
def asked(monkeypatch):
    """Records what commands ask for, in place of training, measuring and exporting; these have tests of their own."""
    calls = []

    def record(module, name, answer):
        def body(*arguments, **options):
            calls.append((name, arguments, options))
            return answer

        monkeypatch.setattr(module, name, body)

    record(training, "train_recipe", None)
    record(evaluation, "evaluate", {"recall@1": 0.51234, "queries": 40})
    record(exporting, "export", Path("somewhere"))
    return calls


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_train_passes_everything_on(asked, tmp_path):
    flags = ["--run-dir", "here", "--overwrite", "--resume", "--dry-run"]
    result = call("train", "quickstart", "--set", "seed=7", "--set", "batch.size=40", "--data-dir", tmp_path, *flags)
    assert (result.exit_code, result.output) == (0, "")
    [(name, args, kwargs)] = asked
    assert (name, args) == ("train_recipe", (load_recipe("quickstart", ["seed=7", "batch.size=40"]),))
    assert kwargs.pop("catalog").name == "glyphs"
    assert (kwargs.pop("data_dir"), kwargs.pop("download")) == (tmp_path, False)
    assert kwargs == {"run_dir": Path("here"), "overwrite": True, "resume": True, "dry_run": True}


def test_train_does_nothing_it_was_not_told_to(asked):
    assert call("train", "quickstart").exit_code == 0
    [(_, _, kwargs)] = asked
    del kwargs["catalog"]
    assert (kwargs.pop("data_dir"), kwargs.pop("download")) == (None, False)
    assert kwargs == {"run_dir": Path("runs/quickstart"), "overwrite": False, "resume": False, "dry_run": False}


def test_the_downloaded_archive_is_data_to_train_on(asked, tmp_path, monkeypatch):
    expected = write_cub(tmp_path / "made")
    packed = shutil.make_archive(str(tmp_path / "CUB_200_2011"), "gztar", tmp_path / "made")
    archive = shutil.move(packed, tmp_path / "CUB_200_2011.tgz")
    monkeypatch.setattr(cub, "open_cub", replace(cub.open_cub, load=partial(load_cub, expected=expected)))
    train = ("train", "cub", "--set", "model.weights=null", "--data-dir")
    assert call(*train, archive).exit_code == 0
    [(_, _, kwargs)] = asked
    assert kwargs["catalog"].test.images[0].is_relative_to(tmp_path / "CUB_200_2011")
    (other := tmp_path / "cars.tgz").touch()
    refused = call(*train, other)
    assert refused.exit_code == 2
    assert "cars.tgz is no archive of CUB-200-2011: give CUB_200_2011.tgz" in refused.output


def test_a_download_is_asked_of_the_data(asked):
    result = call("train", "quickstart", "--download")
    assert (result.exit_code, result.output) == (
        2,
        "Error: There is nothing to download for the data 'glyphs': leave --download away.\n",
    )


def test_a_run_to_go_on_with_and_another_recipe_are_refused_before_tensorflow_loads(asked, tmp_path):
    RunFolder(tmp_path).open(load_recipe("quickstart"))
    assert "holds a run already: resume it with --resume" in call("train", "quickstart", "--run-dir", tmp_path).output
    refused = call("train", "quickstart", "--run-dir", tmp_path, "--resume", "--set", "seed=3")
    assert refused.exit_code == 2
    assert "seed: 0 in the run, 3 given" in refused.output
    assert asked == []
    assert call("train", "quickstart", "--run-dir", tmp_path, "--resume").exit_code == 0


def test_missing_data_and_an_existing_run_are_refused_before_tensorflow_loads(tmp_path):
    """In a process of its own, where TensorFlow is not loaded yet."""
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "taken").open(load_recipe("quickstart"))
    for arguments, message in (
        (["omniglot"], "say where with --data-dir"),
        (["omniglot", "--data-dir", str(tmp_path / "empty")], "has no folders"),
        (["quickstart", "--run-dir", str(tmp_path / "taken")], "holds a run already"),
    ):
        code = f"""
import sys
from stml_tf.cli.main import main
try:
    main(["train", *{arguments}])
finally:
    print("loaded:", [name for name in ("tensorflow", "keras") if name in sys.modules])
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == "loaded: []\n"


def test_evaluate_prints_the_metrics(asked, tmp_path):
    (archive := tmp_path / "CUB_200_2011.tgz").touch()
    result = call("evaluate", tmp_path, "--data-dir", archive)
    assert asked == [("evaluate", (tmp_path,), {"data_dir": archive, "images": None})]
    assert [line.split() for line in result.output.splitlines()] == [["recall@1", "0.5123"], ["queries", "40"]]


def test_export_says_where_the_model_is(asked, tmp_path):
    result = call("export", tmp_path, "out")
    options = {"quantize": False, "data_dir": None, "batch_size": 64, "dtype": "float32"}
    assert asked == [("export", (tmp_path, Path("out")), options)]
    assert result.output == "SavedModel written to somewhere\n"


def test_export_says_what_quantisation_costs(asked, tmp_path, monkeypatch):
    cost = {"images": 1200, "least_cosine": 0.99876, "recall@1_float32": 0.5, "recall@1_int8": 0.49}
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "metadata.json").write_text(json.dumps({"quantization": cost}))
    monkeypatch.setattr(exporting, "export", lambda *arguments, **options: tmp_path)
    result = call("export", tmp_path, "out", "--quantize")
    assert "on 1,200 images the cosine to the embedding by the original weights is at least 0.9988" in result.output
    assert "R@1 is 0.4900 in place of 0.5000" in result.output


@pytest.mark.parametrize(("option", "value"), [("--batch-size", "0"), ("--dtype", "int8")])
def test_export_refuses_an_option_out_of_range(asked, tmp_path, option, value):
    result = call("export", tmp_path, "out", option, value)
    assert (result.exit_code, asked) == (2, [])
    assert option in result.output


@pytest.mark.parametrize("command", ["train", "validate"])
def test_a_wrong_recipe_is_refused(asked, command):
    result = call(command, "quickstart", "--set", "batch.siz=3")
    assert result.exit_code == 2
    assert result.output.startswith("Error: quickstart with batch.siz=3:\n  batch.siz: unknown key;")
    assert "Traceback" not in result.output
    assert asked == []


@pytest.mark.parametrize("arguments", [["train", "quickstart", "--data-dir"], ["evaluate"], ["export"]])
def test_a_missing_folder_is_refused(asked, arguments, tmp_path):
    result = call(*arguments, tmp_path / "nowhere", *(["out"] if arguments == ["export"] else []))
    assert result.exit_code == 2
    assert "nowhere' does not exist" in result.output.replace("\n", "")
    assert asked == []


def test_one_of_several_workers_leaves_reading_data_until_they_have_met(asked, monkeypatch, tmp_path):
    job = {"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(job))
    assert call("train", "quickstart", "--data-dir", str(tmp_path), "--download").exit_code == 0
    _, _, kwargs = asked[-1]
    assert (kwargs["catalog"], kwargs["data_dir"], kwargs["download"]) == (None, tmp_path, True)


@pytest.mark.parametrize("flags", [[], ["--verbose"]])
def test_tensorflow_is_hushed_unless_verbose(asked, monkeypatch, flags):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    call("train", "quickstart", *flags)
    assert os.environ.get("TF_CPP_MIN_LOG_LEVEL") == (None if flags else "3")


TINY = (
    *("data.num_classes=16", "data.instances=6", "data.image_size=16", "views.size=16", "training.epochs=1"),
    *("model.embedding_dim=8", "model.teacher_dim=16", "batch.size=16", "sampling.num_neighbors=4"),
)


@pytest.mark.slow
def test_a_run_is_trained_measured_exported_and_over():
    tiny = [word for override in TINY for word in ("--set", override)]
    trained = call("train", "quickstart", *tiny)
    assert trained.exit_code == 0, trained.output
    assert "epoch 1/1" in trained.output
    metrics = json.loads(Path("runs/quickstart/metrics.json").read_text())["after_training"]

    measured = call("evaluate", "runs/quickstart")
    assert measured.exit_code == 0, measured.output
    table = dict(line.split() for line in measured.output.splitlines())
    assert float(table["recall@1"]) == pytest.approx(metrics["recall@1"], abs=1e-4)
    assert table["queries"] == str(metrics["queries"]) == "48"

    exported = call("export", "runs/quickstart", "again", "--quantize")
    assert exported.exit_code == 0, exported.output
    assert exported.output.startswith("SavedModel written to again/1\n")
    assert re.search(r"on 48 images the cosine to the .* original weights is at least (0\.99|1\.00)", exported.output)

    over = call("train", "quickstart", *tiny, "--resume")
    assert (over.exit_code, over.output) == (
        0,
        "The run in runs/quickstart is finished: there is nothing to resume.\n",
    )
    refused = call("train", "quickstart", *tiny)
    assert refused.exit_code == 2
    assert "holds a run already: resume it with --resume" in refused.output


def test_a_network_that_cannot_be_built_leaves_no_folder():
    options = ["--set", 'optimizer.options={"beta_1": "x"}']
    refused = call("train", "quickstart", *(word for override in TINY for word in ("--set", override)), *options)
    assert refused.exit_code == 2
    assert refused.stderr == ("Error: Optimizer 'adamp', option 'beta_1': 'x' given; input should be a valid number.\n")
    assert list(Path.cwd().iterdir()) == []


@pytest.fixture
def conv4_checkpoint(tmp_path):
    """A PyTorch checkpoint of the smallest network, with the heads of the authors' training code."""
    random, state, inputs = np.random.default_rng(0), {}, 3
    for block, channels in enumerate((32, 64, 128, 256), start=1):
        state[f"model.conv{block}.weight"] = random.normal(size=(channels, inputs, 3, 3))
        state |= {f"model.norm{block}.{key}": random.uniform(size=channels) for key in ("weight", "bias")}
        state |= {f"model.norm{block}.running_{key}": random.uniform(size=channels) for key in ("mean", "var")}
        inputs = channels
    for head, width in (("f", 6), ("g", 9)):
        state[f"model.embedding_{head}.weight"] = random.normal(size=(width, 256))
        state[f"model.embedding_{head}.bias"] = random.normal(size=width)
    np.savez(path := tmp_path / "conv4.npz", **state)
    return path


@pytest.mark.parametrize(
    ("flags", "widths"), [([], {"embedding_dim": 6, "teacher_dim": 9}), (["--no-heads"], {})], ids=["heads", "no heads"]
)
def test_converted_weights_come_with_what_a_recipe_says_of_them(conv4_checkpoint, tmp_path, flags, widths):
    out = tmp_path / "conv4.weights.h5"
    result = call("convert-weights", conv4_checkpoint, "--backbone", "conv4", "-o", out, *flags)
    section = {"backbone": "conv4", "weights": str(out), **widths}
    assert result.output == f'Weights written to {out}. In a recipe: "model": {json.dumps(section)}\n'
    assert load_recipe("quickstart", [f"model={json.dumps(section)}"]).model.weights == str(out)
    assert out.stat().st_size > 1_000_000


def test_a_full_disk_while_weights_are_written_is_one_message(conv4_checkpoint, tmp_path):
    out = tmp_path / "out" / "conv4.weights.h5"
    with at_most(50_000):
        result = call("convert-weights", conv4_checkpoint, "--backbone", "conv4", "-o", out)
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: The disk is full \(.*File too large.*\): free some space first\.\n", result.output)
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("checkpoint", "backbone", "message"),
    [
        ("gone.pth", "conv4", "gone.pth: no such file"),
        ("conv4.npz", "resnet18", "not fit resnet18: it lacks bn1.weight"),
        ("conv4.npz", "RESNET18", "PyTorch weights cannot be read for 'RESNET18': choose one of conv4, "),
    ],
)
def test_weights_that_cannot_be_converted_are_refused(conv4_checkpoint, tmp_path, checkpoint, backbone, message):
    out = tmp_path / "out.weights.h5"
    result = call("convert-weights", conv4_checkpoint.with_name(checkpoint), "--backbone", backbone, "-o", out)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert not out.exists()


def test_validate_sums_the_recipe_up():
    result = call("validate", "quickstart", "--set", "training.epochs=77")
    assert result.exit_code == 0
    assert result.output.startswith("quickstart is valid\n")
    assert "77 epochs" in result.output
    assert "still needs" not in result.output


def test_validate_names_the_weights_that_training_still_needs_and_train_refuses_without(asked, tmp_path):
    result = call("validate", "cub")
    assert result.exit_code == 0
    assert result.output.startswith("cub is valid\n")
    file = "weights/bn_inception.weights.h5"
    command = f"stml-tf convert-weights CHECKPOINT --backbone bn_inception -o {file}"
    assert result.output.endswith(
        f"Training still needs {file}, which does not exist: make it from a PyTorch checkpoint: {command}\n"
    )
    refused = call("train", "cub", "--data-dir", tmp_path)
    assert refused.exit_code == 2
    assert f'no such file: "{file}" given' in refused.output
    assert command in refused.output
    assert asked == []
    Path("weights").mkdir()
    Path(file).touch()
    assert "still needs" not in call("validate", "cub").output


def test_validate_knows_no_command_for_weights_that_are_not_pytorchs():
    result = call("validate", "cub_convnext_tiny", "--set", "model.weights=mine.weights.h5")
    assert result.exit_code == 0
    assert "Training still needs mine.weights.h5, which does not exist: it is a file that Keras has" in result.output
    assert "convert-weights" not in result.output


def test_schema_prints_json():
    assert "views" in json.loads(call("schema").output)["properties"]


def test_version():
    assert stml_tf.__version__ in call("--version").output


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], ["tensorflow", "keras", "pydantic", "rich"]),
        (["train", "--help"], ["tensorflow", "keras", "pydantic", "rich"]),
        (["validate", "quickstart"], ["tensorflow", "keras", "rich"]),
        (["train", "quickstart", "--set", "batch.siz=3"], ["tensorflow", "keras", "rich"]),
    ],
)
def test_what_needs_no_tensorflow_does_not_wait_for_it(arguments, heavy):
    code = f"""
import sys
from stml_tf.cli.main import main
try:
    main({arguments})
finally:
    print("loaded:", [name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.endswith("loaded: []\n")
    assert "Traceback" not in done.stderr
