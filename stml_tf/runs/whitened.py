"""What a pretrained network reaches without training: its frozen features and their whitening, which starts its heads.

No labels are used: the whitening is fitted to the training images, and its dimension and power are chosen by how well
two views of an image find each other.
"""

import numpy as np

from stml_tf.data.catalog import ImageSet
from stml_tf.distribution.devices import of_chief
from stml_tf.evaluation.embed import l2_normalized
from stml_tf.models import update_teacher
from stml_tf.models.heads import AUXILIARY_HEAD, EMBEDDING_HEAD
from stml_tf.models.parts import auxiliary_network
from stml_tf.models.student import brings_heads
from stml_tf.models.whitening import DIMS, Whitening, choose_whitening
from stml_tf.runs.embed import embed_images, feature_network
from stml_tf.runs.measure import Measured, Results, retrieval
from stml_tf.runs.prepare import Run
from stml_tf.runs.sample import embed_sample, sample_views

FREE = FROZEN, WHITENED = "frozen_features", "whitened_features"  # the rows of the results


def fit_whitening_of(run: Run) -> Whitening:
    """Fit a whitening to the features of a run's network before its first step.

    It has at most `model.embedding_dim` dimensions. A resumed run remembers it.

    Args:
        run: The run, before its first step or resumed.

    Raises:
        UserError: If there are too few images, or they all have the same features.
    """
    return Whitening.unpacked(run.folder.remember("whitening", lambda: of_chief(run.strategy, _chosen(run).packed())))


def start_heads(run: Run) -> None:
    """Initialise both heads of a run's student with the whitening of its features, if the recipe says so.

    Args:
        run: The run, before its first step; its student and teacher are changed.

    Raises:
        UserError: Like `fit_whitening_of`, or if `model.teacher_dim` is below the dimension of the whitening.
    """
    if not run.recipe.starts_whitened or brings_heads(run.recipe.model.weights):
        return
    student, whitening = run.model.student, fit_whitening_of(run)
    for name in (EMBEDDING_HEAD, AUXILIARY_HEAD):
        whitening.start(student.get_layer(name))
    if run.recipe.teacher.start == "student":
        update_teacher(run.model.teacher, auxiliary_network(student), momentum=0.0)


def measure_free(run: Run) -> Results:
    """Measure what a pretrained network reaches without training.

    Args:
        run: The run, before its first step or resumed.

    Returns:
        What was measured of the frozen features and of the whitened ones, with their dimension under "dim"; empty if
        the network started at random, or there are no test images.
    """
    if run.recipe.model.weights is None or run.test is None or not run.recipe.has_linear_heads:
        return {}
    frozen = run.folder.remember(FROZEN, lambda: _features(run, run.test))
    whitening = fit_whitening_of(run)
    rows = {FROZEN: frozen, WHITENED: whitening(frozen)}
    return {name: _retrieval(run, features) for name, features in rows.items()}


def _retrieval(run: Run, features: np.ndarray) -> Measured:
    found = retrieval(run.recipe, l2_normalized(features), run.test, run.num_queries)
    return found._replace(metrics={"dim": features.shape[1], **found.metrics})


def _chosen(run: Run) -> Whitening:
    features = _features(run, run.data.images)
    views = embed_sample(run, feature_network(run.model.student, run.strategy), sample_views(run))
    largest = min(run.recipe.model.embedding_dim, run.recipe.model.teacher_dim)
    return choose_whitening(features, views, dims=[*(dim for dim in DIMS if dim < largest), largest])[0]


def _features(run: Run, images: ImageSet) -> np.ndarray:
    network = feature_network(run.model.student, run.strategy)
    with run.display.doing("computing frozen features", len(images)) as work:
        return embed_images(run.recipe, network, images, normalize=False, on_progress=work)
