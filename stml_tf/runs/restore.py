"""The student of a run, restored from the checkpoint that the recipe keeps."""

from pathlib import Path

import keras

from stml_tf.errors import UserError
from stml_tf.fitting.checkpoints import Checkpoint, Checkpoints
from stml_tf.fitting.health_callback import SCORE
from stml_tf.models.trainable import merge_lora
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.model import build_model


def restore_student(run_dir: Path, recipe: Recipe) -> tuple[keras.Model, Checkpoint]:
    """Build a recipe's student with the weights of the checkpoint that it keeps: the last, or the healthiest so far.

    Args:
        run_dir: The run folder.
        recipe: The run's recipe.

    Returns:
        The student, with LoRA merged, and the checkpoint that it was restored from.

    Raises:
        UserError: If there is no intact checkpoint, or it does not fit.
    """
    checkpoints = Checkpoints(RunFolder(run_dir).checkpoints, best_by=SCORE)
    checkpoint = (recipe.training.keep == "best" and checkpoints.best()) or checkpoints.latest()
    if checkpoint is None:
        raise UserError(f"{run_dir} holds no intact checkpoint: train again with --overwrite.")
    # The checkpoint holds all weights, and the file that the recipe started from may be gone.
    without_weights = recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": None})})
    model = build_model(without_weights, num_classes=checkpoint.extra.get("num_classes"))
    checkpoints.restore(model, checkpoint)
    return merge_lora(model.student), checkpoint
