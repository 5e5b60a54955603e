"""What a recipe accepts, a run takes a step with, or says in one message why it cannot, and leaves nothing."""

import io
import json
from collections import Counter

import keras
import numpy as np
import pytest
from rich.console import Console

from stml_tf import train
from stml_tf.errors import UserError
from stml_tf.fitting.callbacks import TrainingStopped
from stml_tf.recipe.errors import RecipeError
from stml_tf.recipe.load import load_recipe
from tests.recipe.mutations import mutated

RUNS = 30
TINY = (
    *("data.num_classes=16", "data.instances=6", "data.image_size=16", "views.size=16", "training.epochs=2"),
    *("model.embedding_dim=8", "batch.size=16"),
)
METHODS = {
    "quickstart": ("model.teacher_dim=16", "sampling.num_neighbors=4", 'optimizer.options={"beta_1": 0.8}'),
    "omniglot_moco": (
        "baseline.hidden_dim=8",
        "baseline.memory_size=32",
        'data={"name":"glyphs"}',
        "model.weights=null",
    ),
    "glyphs_semi": (
        *("model.teacher_dim=16", "sampling.num_neighbors=4", "supervision.classes_per_batch=2"),
        *("supervision.images_per_class=4", "supervision.loss=triplet", 'supervision.options={"margin": 0.2}'),
        *("data.labeled_classes=null", "data.labeled_fraction=0.5"),
    ),
}


def affordable(recipe):
    """Whether a step takes a second and not an hour; how large a recipe may be is tested elsewhere."""
    sizes = (recipe.views.size, recipe.evaluation.size or 0, recipe.evaluation.resize or 0, recipe.batch.size)
    widths = (recipe.model.embedding_dim, recipe.model.teacher_dim, recipe.baseline.hidden_dim)
    return (
        (max(sizes) <= 64 and max(widths) <= 2048 and recipe.views.num_views <= 4)
        and (recipe.data.name == "glyphs" and recipe.data.num_classes * recipe.data.instances <= 1000)
        and recipe.data.image_size <= 64
        and recipe.model.backbone == "conv4"
        and not recipe.training.deterministic  # which would hold for the tests that follow
    )


def accepted(documents, random, file):
    """Mutants that are valid, without end."""
    while True:
        file.write_bytes(mutated(documents[random.integers(len(documents))], random))
        try:
            recipe = load_recipe(file)
        except RecipeError:
            continue
        if affordable(recipe):
            yield recipe


@pytest.mark.slow
def test_mutated_recipes_that_are_accepted_take_a_step_or_end_in_one_message(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    documents = []
    for name, overrides in METHODS.items():
        data = [each for each in overrides if each.startswith("data=")]
        rest = [each for each in overrides if each not in data]
        documents.append(json.loads(load_recipe(name, [*data, *TINY, *rest]).model_dump_json()))
    random, outcomes = np.random.default_rng(0), Counter()
    mutants = accepted(documents, random, tmp_path / "recipe.json")
    for _ in range(RUNS):
        recipe, printed = next(mutants), io.StringIO()
        try:
            train(recipe, dry_run=True, console=Console(file=printed))
            assert "one step was taken" in printed.getvalue()
            outcomes["took a step"] += 1
        except (UserError, TrainingStopped) as error:
            assert len(str(error)) < 5_000
            outcomes[type(error).__name__] += 1
        keras.backend.clear_session()
        assert list((tmp_path / "empty").iterdir()) == []
    with capsys.disabled():
        print(f"\n{RUNS} mutated recipes that were accepted: {dict(outcomes)}")
    assert outcomes["took a step"] > RUNS / 4
