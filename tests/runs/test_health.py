import io

import pytest
from rich.console import Console

from stml_tf import train
from stml_tf.fitting.callbacks import TrainingRuined
from stml_tf.recipe.load import load_recipe


@pytest.mark.slow
def test_a_ruined_quickstart_is_called_ruined_by_its_third_epoch(tmp_path):
    """Its loss falls all the while; a fifth of the classes, in batches of half the size."""
    ruined = ("loss.sigma=0.05", "optimizer.learning_rate=0.02", "teacher.center=false")
    recipe = load_recipe("quickstart", ["data.num_classes=200", "batch.size=60", "training.epochs=3", *ruined])
    printed = io.StringIO()
    with pytest.raises(TrainingRuined, match=r"after epoch [23], as the embedding collapses"):
        train(recipe, run_dir=tmp_path / "run", console=Console(file=printed, width=200))
    assert not (tmp_path / "saved_models").exists()
