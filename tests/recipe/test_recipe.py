import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stml_tf import registry
from stml_tf.recipe.errors import RecipeError
from stml_tf.recipe.load import load_recipe, recipe_schema, save_recipe, shipped_recipes
from stml_tf.recipe.recipe import Recipe

SMALLEST = {
    "name": "small",
    "data": {"name": "glyphs"},
    "views": {"size": 32},
    "model": {"backbone": "conv4"},
    "optimizer": {"learning_rate": 0.001},
    "training": {"epochs": 3},
}


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALLEST))
    return path


def refusal(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


def test_defaults_are_filled_in(recipe_file):
    recipe = load_recipe(recipe_file)
    assert recipe.method == "self_taught"
    assert recipe.views.crop_scale == (0.16, 1.0)
    assert recipe.sampling.num_neighbors == 5
    assert recipe.optimizer.name == "adamp"


def test_a_recipe_does_not_change(recipe_file):
    with pytest.raises(ValidationError, match="frozen"):
        load_recipe(recipe_file).batch.size = 3


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(name, check_files=False)
    assert recipe.name == name
    assert shipped_recipes()[name] == recipe.about != ""


def test_a_file_goes_before_a_shipped_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text(json.dumps(SMALLEST))
    assert load_recipe("quickstart").name == "small"


@pytest.mark.parametrize(
    "overrides", [[], ["data.train_classes=70", "evaluation.recall_at=[1,10]", 'optimizer.options={"nesterov":true}']]
)
def test_what_is_saved_loads_as_it_was(recipe_file, tmp_path, overrides):
    recipe = load_recipe(recipe_file, overrides)
    save_recipe(recipe, tmp_path / "saved.json")
    assert load_recipe(tmp_path / "saved.json") == recipe


def test_saving_spells_defaults_out(recipe_file, tmp_path):
    save_recipe(load_recipe(recipe_file), tmp_path / "saved.json")
    assert json.loads((tmp_path / "saved.json").read_text())["teacher"]["momentum"] == 0.999


@pytest.mark.parametrize(
    ("override", "get", "value"),
    [
        ("batch.size=60", lambda recipe: recipe.batch.size, 60),
        ("loss.sigma=3", lambda recipe: recipe.loss.sigma, 3.0),
        ("about=a = b", lambda recipe: recipe.about, "a = b"),
        ("evaluation.recall_at=[1,100]", lambda recipe: recipe.evaluation.recall_at, (1, 100)),
        ("optimizer.head_learning_rate=null", lambda recipe: recipe.optimizer.head_learning_rate, None),
        ("optimizer.options.clipnorm=1.5", lambda recipe: recipe.optimizer.options, {"clipnorm": 1.5}),
        ('data={"name": "folder", "test": null}', lambda recipe: recipe.data.test, None),
    ],
)
def test_overrides(recipe_file, override, get, value):
    assert get(load_recipe(recipe_file, [override])) == value


def test_the_last_override_stays(recipe_file):
    assert load_recipe(recipe_file, ["seed=1", "seed=2"]).seed == 2


def test_a_byte_order_mark_is_fine(recipe_file):
    recipe_file.write_text(json.dumps(SMALLEST), encoding="utf-8-sig")
    assert load_recipe(recipe_file).name == "small"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        # One key, one value.
        ("batch.siz=3", 'batch.siz: unknown key; allowed in batch: size; did you mean "size"?'),
        ("batch.xyz.deep=3", "batch.xyz: unknown key; allowed in batch: size"),
        ("momentum=0.5", '; did you mean "teacher.momentum"?'),
        ("Seed=3", '; did you mean "seed"?'),
        ("data.num_clases=3", ', allow_leaks, labeled_classes, labeled_fraction; did you mean "num_classes"?'),
        ("batch.size.x=3", 'batch.size: {"x": 3} given; allowed: a whole number >= 2'),
        ('batch.size="12"', 'batch.size: "12" given; allowed: a whole number >= 2'),
        ("batch.size=12.0", "batch.size: 12.0 given; allowed: a whole number >= 2"),
        ("batch.size=true", "batch.size: true given; allowed: a whole number >= 2"),
        ("batch=null", "batch: null given; allowed: an object with size"),
        ("loss.sigma=0", "loss.sigma: 0 given; allowed: a number > 0"),
        ("loss.sigma=NaN", "loss.sigma: NaN given; allowed: numbers, which NaN"),
        ("optimizer.learning_rate=1e999", "optimizer.learning_rate: Infinity given; allowed: numbers, which NaN"),
        ("teacher.momentum=1", "teacher.momentum: 1 given; allowed: a number >= 0 and < 1"),
        ("views.flip=1", "views.flip: 1 given; allowed: true or false"),
        ("views.crop_scale=0.5", "views.crop_scale: 0.5 given; allowed: a list of 2, each a number > 0 and <= 1"),
        ("views.crop_scale=[0.5]", "views.crop_scale.1: missing; allowed: a number > 0 and <= 1"),
        ("views.crop_scale=[0.5,2]", "views.crop_scale.1: 2 given; allowed: a number > 0 and <= 1"),
        ("views.crop_scale=[0.9,0.1]", "views.crop_scale: [0.9, 0.1] given; allowed: the smaller number first"),
        ("evaluation.recall_at=[]", "recall_at: [] given; allowed: a list with one or more items, each a whole number"),
        ("evaluation.recall_at=[1,0]", "evaluation.recall_at.1: 0 given; allowed: a whole number >= 1"),
        ("evaluation.recall_at=[2,1,2]", "recall_at: [2, 1, 2] given; allowed: each K once and ascending, [1, 2]"),
        ("teacher.start=students", '"students" given; allowed: student, independent; did you mean "student"?'),
        ("model.backbone=RESNET50", 'model.backbone: "RESNET50" given; allowed: conv4, googlenet, '),
        ("model.backbone=RESNET50", ', Xception; did you mean "ResNet50"?'),
        ("model.weights=3", "model.weights: 3 given; allowed: text or null"),
        ("name=a/b", 'name: "a/b" given; allowed: text of letters, digits, dots, dashes and underscores'),
        ("data.train_classes=1.0", "data.train_classes: 1.0 given; allowed: a share > 0 and < 1, or a whole number of"),
        ("data.train_classes=true", "data.train_classes: true given; allowed: a share > 0 and < 1, or a whole number"),
        ("data.name=glyph", 'data.name: "glyph" given; allowed: cars196, cub, folder, glyphs, inshop, sop, tfds; did'),
        ("data.name=glyph", '; did you mean "glyphs"?'),
        ("data.name=[1]", "data.name: [1] given; allowed: cars196, cub, folder, glyphs, inshop, sop, tfds"),
        ("data={}", "data.name: missing; allowed: cars196, cub, folder, glyphs, inshop, sop, tfds"),
        ("data=3", "data: 3 given; allowed: an object with name"),
        ("views={}", "views.size: missing; allowed: a whole number >= 16"),
        (
            'optimizer.options={"learning_rate":1}',
            '{"learning_rate": 1} given; learning_rate is set by optimizer.learning_rate',
        ),
        # Keys that do not fit together.
        ("batch.size=32", "batch.size: 32 given; allowed: a multiple of sampling.num_neighbors (5), such as 30 or 35"),
        ("sampling.num_neighbors=121", "sampling.num_neighbors: 121 given; allowed: at most batch.size (120), "),
        ("data.num_classes=10", "batch.size: 120 given; allowed: at most the 60 training images of data, "),
        ("data.train_classes=1000", "data.train_classes: 1000 given; allowed: a share or a count that leaves some "),
        ("data.train_classes=0.0001", "train_classes: 0.0001 given; allowed: a share or a count that leaves some of "),
        ("schedule.warmup_epochs=3", "schedule.warmup_epochs: 3 given; allowed: fewer than training.epochs (3)"),
        ("evaluation.resize=31", "evaluation.resize: 31 given; allowed: at least views.size (32), "),
        ("model.weights=imagenet", 'model.weights: "imagenet" given; allowed for conv4: a file or null, '),
        *(
            (f"model.trainable={value}", f'model.trainable: {value} given; allowed: "all", "heads", a whole number of ')
            for value in ("0", '"head"', "true", '{"lora": 0}', '{"rank": 4}')
        ),
        ("model.rewhiten=1.5", "model.rewhiten: 1.5 given; allowed: a number >= 0 and <= 1"),
        ("loss.contextual_weight=-1", "loss.contextual_weight: -1 given; allowed: a number >= 0 and <= 1"),
        (
            'model={"backbone":"conv4","head":"whitened","rewhiten":0.5}',
            "optimizer.head_learning_rate: null given; allowed: 0 with model.rewhiten, which replaces after each epoch",
        ),
        (
            'optimizer={"name":"schedulefreeadamw","layer_decay":0.5}',
            'optimizer.layer_decay: 0.5 given; allowed with "schedulefreeadamw": 1, as its steps are not proportional',
        ),
        ("optimizer.layer_decay=1.5", "optimizer.layer_decay: 1.5 given; allowed: a number > 0 and <= 1"),
        ("model.weights=imagenet", "; a file may be Keras's or PyTorch's"),
        (
            'model={"backbone":"ResNet50","weights":"a/net.pth"}',
            'model.weights: "a/net.pth" given; allowed for ResNet50: a Keras weights file, as PyTorch weights are',
        ),
        ("model.weights=gone.h5", 'model.weights: no such file: "gone.h5" given; allowed: a file or null; make it '),
        ("model.weights=gone.h5", "stml-tf convert-weights CHECKPOINT --backbone conv4 -o gone.h5"),
        (
            'data={"name":"tfds:cifar10","classes":1}',
            "data.classes: unknown key; allowed in data: name, background, bit_depth, max_unreadable, allow_leaks",
        ),
        (
            'data={"name":"tfds:cifar10","train_classes":0}',
            "data.train_classes: 0 given; allowed: a share > 0 and < 1, or",
        ),
        ('data={"name":"tfds:cifar10","dataset":"a"}', 'data.name: "tfds:cifar10" given; allowed: tfds'),
        ('data={"name":"tfds"}', "data.dataset: missing; allowed: text"),
        ('data={"name":"cub","train_classes":0.5}', "data.train_classes: unknown key; allowed in data: name"),
        (
            'data={"name":"folder","test":"b","train_classes":0.5}',
            'data.test: "b" given together with train_classes 0.5',
        ),
    ],
)
def test_a_wrong_value_is_refused(recipe_file, override, line):
    head, *lines = refusal(recipe_file, override).splitlines()
    assert head == f"{recipe_file} with {override}:"
    assert len(lines) == 1
    assert line in lines[0]


def test_an_optimizer_that_would_undo_whitened_heads_is_refused():
    whitened = ('model.head="whitened"', "optimizer.name=schedulefreeadamw")
    with pytest.raises(RecipeError, match="allowed with whitened heads: any other, as this one goes back to the heads"):
        load_recipe("quickstart", whitened)
    load_recipe("quickstart", whitened[1:])


ALONE = "sampling.num_neighbors=1"


@pytest.mark.parametrize("method", ["moco", "byol", "mean_shift"])
def test_a_baseline_needs_its_name_and_images_alone(recipe_file, method):
    recipe = load_recipe(recipe_file, [f"method={method}", ALONE])
    assert (recipe.method, recipe.baseline.memory_size) == (method, 9600)


@pytest.mark.parametrize(
    ("method", "override", "line"),
    [
        ("mocco", ALONE, 'method: "mocco" given; allowed: self_taught, semi_supervised, supervised, moco, byol'),
        (
            "moco",
            "sampling.num_neighbors=5",
            "sampling.num_neighbors: 5 given; allowed: 1, as moco is trained on images",
        ),
        ("byol", "views.num_views=3", "views.num_views: 3 given; allowed: 2, as byol shows one view to the student"),
        ("moco", "model.rewhiten=0.5", "model.rewhiten: 0.5 given; allowed: leave it out, as moco does not read it"),
        ("moco", "loss.sigma=0.3", "loss.sigma: 0.3 given; allowed: leave it out, as moco does not read it"),
        ("moco", "teacher.center=true", "teacher.center: true given; allowed: leave it out, as moco does not read it"),
        ("moco", "model.teacher_dim=7", "model.teacher_dim: 7 given; allowed: leave it out, as moco does not read it"),
        ("moco", "baseline.top_k=3", "baseline.top_k: 3 given; allowed: leave it out, as moco does not read it"),
        (
            "byol",
            "baseline.memory_size=300",
            "baseline.memory_size: 300 given; allowed: leave it out, as byol does not",
        ),
        (
            "mean_shift",
            "baseline.temperature=1",
            "baseline.temperature: 1.0 given; allowed: leave it out, as mean_shift",
        ),
        (
            "mean_shift",
            "baseline.memory_size=119",
            "baseline.memory_size: 119 given; allowed: at least 120, to hold the batch",
        ),
        ("self_taught", "baseline.top_k=3", "baseline.top_k: 3 given; allowed: leave it out, as self_taught does not"),
        ("moco", "baseline.embedding=pooled", 'baseline.embedding: "pooled" given; allowed: projection, features'),
    ],
)
def test_a_method_is_given_nothing_that_it_does_not_read(recipe_file, method, override, line):
    _, *lines = refusal(recipe_file, f"method={method}", ALONE, override).splitlines()
    assert len(lines) == 1
    assert line in lines[0]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "embeddings of 512 dimensions"),
        (["method=moco", ALONE], "embeddings of 512 dimensions, the output of the MLP head"),
        (["method=byol", ALONE, "baseline.embedding=features"], "the pooled features below the MLP head as embeddings"),
    ],
)
def test_a_recipe_says_which_embedding_is_evaluated(recipe_file, overrides, words):
    assert load_recipe(recipe_file, overrides).embedding == words


SEMI = ("method=semi_supervised", "data.labeled_classes=0.1")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("supervision.loss=triplets", '"triplets" given; allowed: contrastive, lifted_structure'),
        ("supervision.loss=triplets", 'tensorflow_addons.losses; did you mean "triplet"?'),
        ("supervision.loss=tfa:", '"tfa:" given; allowed: contrastive'),
        ("supervision.weight=0", "supervision.weight: 0 given; allowed: a number > 0"),
        ("data.labeled_classes=1.0", "data.labeled_classes: 1.0 given; allowed: a share > 0 and < 1, or a whole"),
        ("data.labeled_classes=null", "data.labeled_classes: null given; allowed: the share or the number of training"),
        ("data.labeled_fraction=1", "data.labeled_fraction: 1 given; allowed: a number > 0 and < 1"),
        (
            "data.labeled_fraction=0.5",
            "data.labeled_fraction: 0.5 given together with labeled_classes 0.1; allowed: one",
        ),
        (
            "supervision.classes_per_batch=31",
            "supervision.classes_per_batch: 31 given; allowed: such that, times images_",
        ),
        ("supervision.classes_per_batch=31", "fewer labelled images than batch.size (122), not 124: the others"),
        ("batch.size=121", "batch.size: 121 given; allowed: 32 labelled images (supervision.classes_per_batch times"),
        ("batch.size=121", "a multiple of sampling.num_neighbors (5), such as 117 or 122"),
        ("supervision.warmup_epochs=3", "supervision.warmup_epochs: 3 given; allowed: fewer than training.epochs (3)"),
        ("training.accumulate=5", "allowed: a divisor of the 122 images of a step"),
        (
            'data={"name": "folder", "unlabeled": "more"}',
            "data.train_labels: false given; allowed: true, as semi_super",
        ),
        (
            'data={"name": "folder", "labeled_fraction": 0.5}',
            "data.labeled_fraction: 0.5 given; allowed where the training images have labels, so set train_labels to",
        ),
        ('data={"name": "cub", "unlabeled": "sop"}', 'data.unlabeled: "sop" given; allowed: nabirds, compcars or null'),
    ],
)
def test_a_recipe_that_cannot_learn_from_labels_is_refused(recipe_file, override, line):
    _, *lines = refusal(recipe_file, *SEMI, "batch.size=122", override).splitlines()
    assert any(line in found for found in lines)
    assert len(lines) == 1


def test_labels_alone_have_to_fit_into_a_batch(recipe_file):
    assert load_recipe(recipe_file, ["method=supervised", "batch.size=32"]).images_per_step == 32
    message = refusal(recipe_file, "method=supervised", "batch.size=31")
    assert "there are at most batch.size (31) labelled images in a batch, not 32" in message


@pytest.mark.parametrize("loss", [*registry.losses, "tfa:triplet_semihard_loss"])
def test_supervised_losses_are_named(recipe_file, loss):
    assert load_recipe(recipe_file, [f"supervision.loss={loss}"]).supervision.loss == loss


@pytest.mark.parametrize("method", ["supervised", "self_taught"])
def test_the_method_alone_makes_another_of_a_semi_supervised_recipe(method):
    overrides = ["supervision.warmup_epochs=2", "supervision.joint=false", "supervision.weight=2"]
    for name in ("glyphs_semi", "omniglot_semi"):
        assert load_recipe(name, [*overrides, f"method={method}"]).method == method


def test_baselines_learn_nothing_from_labels(recipe_file):
    alone = ("method=byol", "sampling.num_neighbors=1", "supervision.loss=triplet")
    assert 'supervision.loss: "triplet" given; allowed: leave it out, as byol does not read it' in refusal(
        recipe_file, *alone
    )


@pytest.mark.parametrize("devices", ["all", 2, ["GPU:0", "GPU:2"]])
def test_devices_are_all_a_count_or_names(recipe_file, devices):
    recipe = load_recipe(recipe_file, [f"training.devices={json.dumps(devices)}"])
    assert recipe.model_dump(mode="json")["training"]["devices"] == devices


@pytest.mark.parametrize("devices", ['"GPU:0"', "0", "true", "[]", "[1]", "1.5"])
def test_other_devices_are_refused(recipe_file, devices):
    assert 'given; allowed: "all", a whole number >= 1, or a list of names such as ["GPU:0", "GPU:1"]' in refusal(
        recipe_file, f"training.devices={devices}"
    )


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("training.accumulate=0", "training.accumulate: 0 given; allowed: a whole number >= 1"),
        (
            "training.precision=float16",
            'training.precision: "float16" given; allowed: float32, mixed_float16, mixed_bfloat16, auto',
        ),
        ("training.checkpoint_steps=0", "training.checkpoint_steps: 0 given; allowed: a whole number >= 1"),
        ("model.synchronize_batch_norm=1", "model.synchronize_batch_norm: 1 given; allowed: true or false"),
    ],
)
def test_speed_switches_are_refused_with_what_is_allowed(recipe_file, override, line):
    assert line in refusal(recipe_file, override)


@pytest.mark.parametrize(
    ("log_to", "line"),
    [
        ("wandb", 'training.log_to: "wandb" given; allowed: a list of wandb, mlflow'),
        ('["wandb", "mlflw"]', 'training.log_to.1: "mlflw" given; allowed: wandb, mlflow; did you mean "mlflow"?'),
        ('["wandb", "wandb"]', 'training.log_to: ["wandb", "wandb"] given; allowed: each once, ["wandb"]'),
    ],
)
def test_trackers_are_named_once_each_in_a_list(recipe_file, log_to, line):
    assert line in refusal(recipe_file, f"training.log_to={log_to}")
    assert load_recipe(recipe_file, ['training.log_to=["wandb","mlflow"]']).training.log_to == ("wandb", "mlflow")


def test_every_problem_is_listed(recipe_file):
    message = refusal(recipe_file, "seed=-1", "batch.siz=3", "views.size=null")
    assert [line.split(":")[0] for line in message.splitlines()[1:]] == ["  seed", "  views.size", "  batch.siz"]
    message = refusal(recipe_file, "batch.size=31", "schedule.warmup_epochs=9")
    assert [line.split(":")[0] for line in message.splitlines()[1:]] == ["  batch.size", "  schedule.warmup_epochs"]


def test_missing_keys_are_named(tmp_path):
    path = tmp_path / "empty.json"
    path.write_text("{}")
    assert refusal(path) == (
        f"{path}:\n  name: missing; allowed: text of letters, digits, dots, dashes and underscores that begins with a "
        "letter or digit, 100 at most\n  data: missing; allowed: an object with name\n"
        "  views: missing; allowed: an object with num_views, size, crop_scale, crop_ratio, rotation, shift, flip, "
        "brightness, contrast, saturation, hue, greyscale, blur\n"
        "  model: missing; allowed: an object with backbone, weights, embedding_dim, teacher_dim, head, "
        "rewhiten, trainable, freeze_batch_norm, synchronize_batch_norm"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"name": "a",\n\t"seed" 3}',
            ", line 2, column 9: not JSON: Expecting ':' delimiter\n   \"seed\" 3}\n          ^",
        ),
        ("", ", line 1, column 1: not JSON: Expecting value"),
        ("[1]", ": [1] given; allowed: an object with the keys of a recipe"),
        ('{"seed": 1, "seed": 2}', ': the key "seed" is given 2 times in one object; keep one'),
        (b"\xff\xfe\x00", ": not a text file; allowed: JSON in UTF-8"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refusal(path).startswith(f"{path}{message}")


def test_a_missing_recipe_is_refused():
    message = refusal("recipes/quikstart.json")
    assert message.startswith("recipes/quikstart.json: no such file; allowed: a JSON file, or a shipped recipe's name")
    assert message.endswith('did you mean "quickstart"?')


@pytest.mark.parametrize("override", ["batch.size", "=3", "batch.=3"])
def test_a_malformed_override_is_refused(recipe_file, override):
    assert f'"{override}" given; allowed: key.path=value, such as batch.size=60' in refusal(recipe_file, override)


def test_an_override_below_a_value_is_refused(recipe_file):
    assert "name.x: unknown key, as name is a value and has no keys" in refusal(recipe_file, "name.x=1")


def test_train_classes_leave_out_the_default_test_folder(recipe_file):
    assert load_recipe(recipe_file, ['data={"name":"folder"}']).data.test == "test"
    assert load_recipe(recipe_file, ['data={"name":"folder","train_classes":0.5}']).data.test is None


def test_a_set_of_tensorflow_datasets_has_a_short_name(recipe_file):
    short = load_recipe(recipe_file, ['data={"name":"tfds:cifar10/x:1.0.0","train_classes":7}']).data
    assert (
        short == load_recipe(recipe_file, ['data={"name":"tfds","dataset":"cifar10/x:1.0.0","train_classes":7}']).data
    )
    assert (short.dataset, short.train_classes) == ("cifar10/x:1.0.0", 7)


def test_a_weights_file_has_to_exist_only_before_training(recipe_file, tmp_path):
    weights = tmp_path / "trunk.weights.h5"
    overrides = [f"model.weights={weights}"]
    assert load_recipe(recipe_file, overrides, check_files=False).model.weights == str(weights)
    weights.touch()
    assert load_recipe(recipe_file, overrides).model.weights == str(weights)


def test_evaluation_may_cut_out_what_it_has_resized(recipe_file):
    overrides = ["evaluation.size=24", "evaluation.resize=28"]
    assert load_recipe(recipe_file, overrides).evaluation.resize == 28
    assert "at least evaluation.size (29)" in refusal(recipe_file, *overrides, "evaluation.size=29")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=5,
)
PATHS = [(key,) for key in Recipe.model_fields] + [
    (section, key)
    for section, part in load_recipe("quickstart").model_dump().items()
    if isinstance(part, dict)
    for key in [*part, "unknown"]
]


@settings(max_examples=60, deadline=None)
@given(path=st.sampled_from(PATHS), value=JSON_VALUES)
def test_any_value_is_either_taken_or_refused_by_name(tmp_path_factory, path, value):
    document = json.loads(load_recipe("quickstart").model_dump_json())
    (document[path[0]] if len(path) == 2 else document)[path[-1]] = value
    file = tmp_path_factory.mktemp("recipe") / "any.json"
    file.write_text(json.dumps(document))
    try:
        recipe = load_recipe(file)
    except RecipeError as error:
        assert str(error).startswith(f"{file}")
        assert path[0] in str(error)
    else:
        save_recipe(recipe, file)
        assert load_recipe(file) == recipe


def test_the_schema_describes_every_key():
    schema = recipe_schema()
    parts = [schema, *schema["$defs"].values()]
    keys = [(key, value) for part in parts for key, value in part.get("properties", {}).items()]
    assert [key for key, value in keys if not value.get("description")] == []
    assert {"sigma", "num_neighbors", "train_labels"} <= {key for key, _ in keys}
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name", "data", "views", "model"]


def test_tensorflow_is_not_loaded():
    code = "import sys, stml_tf.recipe.load as r; r.load_recipe('quickstart'); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=600).returncode == 0


def test_a_cache_has_an_older_name(recipe_file):
    for old, new in (("true", "memory"), ("false", None)):
        assert load_recipe("quickstart", [f'training={{"epochs": 1, "cache_images": {old}}}']).training.cache == new


def test_averaged_weights_of_keras_are_refused():
    with pytest.raises(RecipeError, match=r"use_ema: given; .*a run would measure one network and keep another"):
        load_recipe("quickstart", ['optimizer.options={"use_ema": true}'])
    with pytest.raises(RecipeError, match=r"gradient_accumulation_steps: given; .*training\.accumulate takes a"):
        load_recipe("quickstart", ['optimizer.options={"gradient_accumulation_steps": 3}'])


def test_colours_and_bits_of_image_files_are_bounded():
    base = ['data={"name": "folder", "background": [0, 10, 255], "bit_depth": 12, "max_unreadable": 0.2}']
    assert load_recipe("quickstart", base).data.background == (0, 10, 255)
    for override in (
        "data.background=[0, 1]",
        "data.background=[0, 1, 256]",
        "data.bit_depth=7",
        'data.bit_depth="12"',
    ):
        with pytest.raises(RecipeError, match=override.split("=")[0]):
            load_recipe("quickstart", [*base, override])
