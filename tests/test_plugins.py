"""Someone else's module adds a backbone, a data set, a loss and a method, which then serve like the package's own."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from stml_tf import registry
from stml_tf.cli.main import main
from stml_tf.errors import UserError
from stml_tf.plugins import import_plugin, records_of, require_registered

PLUGIN = """
import keras
import numpy as np
from keras import ops

import stml_tf
from stml_tf.data.catalog import Catalog, ImageSet, split_classes
from stml_tf.methods import SemiSupervisedModel

def pooled_conv():
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(images)))

def stripes(num_classes, instances=6, size=16):
    random = np.random.default_rng(0)
    colors = random.integers(0, 200, (num_classes, 1, 1, size, 3))
    pixels = (colors + random.integers(0, 56, (num_classes, instances, size, size, 3))).astype(np.uint8)
    labels = np.repeat(np.arange(num_classes), instances)
    images = ImageSet(pixels.reshape(-1, size, size, 3), labels, tuple(map(str, range(num_classes))))
    return Catalog("stripes", *split_classes(images, 0.5))

def center_loss(weight=1.0):
    def loss(labels, embeddings):
        same = ops.cast(labels[:, None] == labels[None, :], "float32")
        centers = ops.matmul(same, embeddings) / ops.sum(same, axis=1, keepdims=True)
        return weight * ops.mean(ops.square(embeddings - centers))
    return loss

def patient(student, scale=1.0, **settings):
    return SemiSupervisedModel(student, weight=0.0, momentum=0.5 * scale, **settings)

stml_tf.register_backbone("pooled_conv", pooled_conv, preprocess=lambda images: images / 255.0)
stml_tf.register_source("stripes", stripes)
stml_tf.register_loss("center", center_loss)
reads = {"supervised_loss": "run.supervised_loss", "num_labeled": "supervision.num_labeled"}
stml_tf.register_method("patient", patient, reads=reads, logs={"loss": ("supervised",)}, learns_from="labels")
"""
RECIPE = {
    "name": "stripes",
    "method": "patient",
    "method_options": {"scale": 0.5},
    "data": {"name": "stripes", "num_classes": 8},
    "views": {"size": 16},
    "model": {"backbone": "pooled_conv", "embedding_dim": 4, "teacher_dim": 4},
    "supervision": {"loss": "center", "options": {"weight": 2.0}, "classes_per_batch": 4, "images_per_class": 2},
    "batch": {"size": 8},
    "optimizer": {"learning_rate": 0.001},
    "training": {"epochs": 1},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the plug-in and a recipe that uses it lie; what it registers goes away afterwards."""
    (tmp_path / "stripes_plugin.py").write_text(PLUGIN)
    (tmp_path / "stripes.json").write_text(json.dumps(RECIPE))
    monkeypatch.chdir(tmp_path)
    for register in registry.REGISTERS.values():
        monkeypatch.setattr(register, "_entries", dict(register._entries))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def stml_tf(folder, *arguments):
    """Run the command in a process of its own; returns its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "stml_tf", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_module_of_the_users_trains_evaluates_exports_and_resumes(folder):
    code = [line for line in PLUGIN.splitlines() if line.strip()]
    assert len(code) <= 30
    train = ("train", "stripes.json", "--run-dir", "run")
    plugin = ("--import", "stripes_plugin")
    status, printed = stml_tf(folder, *train, *plugin)
    assert (status, "SavedModel" in printed) == (0, True), printed
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert {"recall@1", "map@r"} <= set(metrics["after_training"])
    assert "supervised" in metrics["epochs"][0]

    # The run says what it was made with, and each command what to import.
    records = json.loads((folder / "run" / "plugins.json").read_text())["plugins"]
    assert {(record["kind"], record["name"], record["origin"]) for record in records} == {
        ("backbone", "pooled_conv", "stripes_plugin"),
        ("data set", "stripes", "stripes_plugin"),
        ("loss", "center", "stripes_plugin"),
        ("method", "patient", "stripes_plugin"),
    }
    assert {record["file"] for record in records} == {str(folder / "stripes_plugin.py")}
    saved_model = folder / "saved_models" / "stripes"
    for command in (
        ("evaluate", "run"),
        ("export", "run", "out"),
        (*train, "--resume"),
        ("evaluate", saved_model),
    ):
        status, printed = stml_tf(folder, *command)
        assert status == 2 and "Traceback" not in printed, printed
        assert "cannot be opened without what it was made with:" in printed
        assert 'the backbone "pooled_conv", which stripes_plugin registers: add --import stripes_plugin' in printed

    status, printed = stml_tf(folder, "evaluate", "run", *plugin)
    assert status == 0 and f"{metrics['after_training']['recall@1']:.4f}" in printed, printed
    assert stml_tf(folder, "evaluate", saved_model, "--import", "stripes_plugin.py")[0] == 0
    assert stml_tf(folder, "export", "run", "out", *plugin)[0] == 0
    assert (folder / "out" / "1" / "saved_model.pb").exists()

    (folder / "run" / "metrics.json").unlink()  # as if it had been stopped before its end
    status, printed = stml_tf(folder, *train, "--resume", *plugin)
    assert status == 0 and "Resuming from run/checkpoints/epoch-0001" in printed, printed


def test_what_is_registered_is_checked_described_and_suggested(folder):
    def call(*arguments):
        return CliRunner().invoke(main, [*arguments, "--import", "stripes_plugin.py"])

    schema = json.loads(call("schema").output)
    assert "pooled_conv" in schema["$defs"]["Model"]["properties"]["backbone"]["enum"]
    assert "patient" in schema["properties"]["method"]["enum"]
    assert schema["properties"]["data"]["discriminator"]["mapping"]["stripes"] == "#/$defs/OtherData"
    assert "stripes.json is valid" in call("validate", "stripes.json").output
    for override, line in {
        "model.backbone=pooled_con": 'did you mean "pooled_conv"?',
        "data.name=stripe": 'did you mean "stripes"?',
        "supervision.loss=centre": 'did you mean "center"?',
        "method=pattient": 'did you mean "patient"?',
        "data.instanses=3": "data.instanses: unknown key; allowed in data: name, num_classes, instances, size",
        'data={"name": "stripes"}': "data.num_classes: missing; stripes needs it",
        "method_options.skale=1": 'method_options.skale: unknown key; allowed: scale; did you mean "scale"?',
        "teacher.center=true": "teacher.center: true given; allowed: leave it out, as patient does not read it",
    }.items():
        refused = call("validate", "stripes.json", "--set", override)
        assert refused.exit_code == 2 and line in refused.output, (override, refused.output)


def test_a_module_that_cannot_be_imported_is_told(folder):
    (folder / "nothing.py").write_text("")
    for module, message in {
        "gone.py": "--import gone.py: no such file",
        "stripes_plugins": r'no such module, neither installed nor in .*; did you mean "stripes_plugin"\?',
        "nothing": "--import nothing registers nothing",
    }.items():
        with pytest.raises(UserError, match=message):
            import_plugin(module)
    (folder / "broken.py").write_text("import not_installed_anywhere")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        import_plugin("broken")


def test_names_of_the_package_stay_its_own(folder):
    for register, name in (
        (registry.register_backbone, "conv4"),
        (registry.register_loss, "triplet"),
        (registry.register_source, "glyphs"),
        (registry.register_method, "moco"),
    ):
        with pytest.raises(UserError, match=f'"{name}" is a .* of stml_tf itself: register yours under another name'):
            register(name, lambda: None)
    with pytest.raises(UserError, match='"a b" cannot name a backbone; allowed: letters, digits'):
        registry.register_backbone("a b", lambda: None)
    with pytest.raises(UserError, match='3 cannot build the loss "three"; allowed: a callable, or its place'):
        registry.register_loss("three", 3)
    with pytest.raises(UserError, match='student="head" given; allowed: heads, projection, or a function'):
        registry.register_method("mine", lambda student: None, student="head")


def test_what_comes_with_the_package_needs_no_import():
    assert records_of({"backbone": "conv4", "data set": "glyphs", "loss": "triplet", "method": "moco"}) == []


def test_all_that_is_missing_is_told_in_one_message():
    records = [
        {"kind": "backbone", "name": "mine", "origin": "my_nets"},
        {"kind": "data set", "name": "given", "origin": "mine: 48 training images"},
        {"kind": "method", "name": "moco", "origin": "my_methods"},
    ]
    with pytest.raises(UserError) as refused:
        require_registered(records, "runs/a")
    assert str(refused.value).splitlines() == [
        "runs/a cannot be opened without what it was made with:",
        '  the backbone "mine", which my_nets registers: add --import my_nets, or in Python, import it first',
        "  mine: 48 training images, which was passed to train(): pass it again, as images=...",
    ]
