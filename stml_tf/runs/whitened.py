"""What a pretrained network gives without training: frozen features and their whitening, as which its heads start.

Labels play no part: the whitening is fitted on the training images, its power is known for each family of networks, and
its dimension is that of the head, or as many as the features have.
"""

import numpy as np

from stml_tf import registry
from stml_tf.evaluation.embed import l2_normalized
from stml_tf.models import update_teacher
from stml_tf.models.heads import AUXILIARY_HEAD, EMBEDDING_HEAD
from stml_tf.models.parts import auxiliary_network
from stml_tf.models.student import brings_heads
from stml_tf.models.whitening import Whitening
from stml_tf.runs.measure import Metrics, embed_features, retrieval
from stml_tf.runs.prepare import Run


def start_heads(run: Run) -> None:
    """Start both heads of a run's student as whitenings of its training images' features, if the recipe says so.

    Call it before the first step: the features are those of the network as it is.

    Raises:
        UserError: If there are too few images, or they all have the same features.
    """
    if not run.recipe.starts_whitened or brings_heads(run.recipe.model.weights):
        return
    student = run.model.student
    for name in (EMBEDDING_HEAD, AUXILIARY_HEAD):
        head = student.get_layer(name)
        _whitening(run, head.units).start(head)
    if run.recipe.teacher.start == "student":
        update_teacher(run.model.teacher, auxiliary_network(student), momentum=0.0)


def measure_free(run: Run) -> dict[str, Metrics]:
    """Measure what a pretrained network reaches without training; a run that is resumed remembers it.

    Returns:
        The name of a row -> its metrics; empty where the network starts at random, or without test images.
    """
    if run.recipe.model.weights is None or run.test is None:
        return {}
    frozen = run.folder.remember("frozen_features", lambda: embed_features(run, run.test))
    packed = run.folder.remember("whitening", lambda: np.vstack(_whitening(run, run.recipe.model.embedding_dim)))
    whitening = Whitening(packed[:-1], packed[-1])
    rows = {"frozen features": frozen, f"frozen, whitened to {whitening.dim}": whitening(frozen)}
    return {
        name: retrieval(run.recipe, l2_normalized(features), run.test, run.num_queries)
        for name, features in rows.items()
    }


def _whitening(run: Run, width: int) -> Whitening:
    components = run.principal_components
    power = registry.backbones.find(run.recipe.model.backbone).whitening_power
    return components.whitening(min(width, len(components.deviations)), power)
