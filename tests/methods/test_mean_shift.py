import keras
import numpy as np

from stml_tf.losses import mean_shift_loss
from stml_tf.methods import BYOLModel, MeanShiftModel
from stml_tf.models import build_projection_student


def build(build_method, **options):
    keras.utils.set_random_seed(3)
    student = build_projection_student("conv4", embedding_dim=6, hidden_dim=8)
    return build_method(student, hidden_dim=8, **options)


def test_the_memory_takes_the_targets_in_before_neighbors_are_looked_for(random):
    model, twin = (build(MeanShiftModel, memory_size=10, top_k=2) for _ in range(2))
    projections, targets = random.normal(size=(2, 4, 6)).astype(np.float32)
    start = np.asarray(model.memory.embeddings)
    loss = model.objective(projections, targets)
    memory = np.concatenate([targets, start[:6]])
    predictions = twin.predictor(projections, training=True)
    np.testing.assert_array_equal(model.memory.embeddings, memory)
    np.testing.assert_allclose(loss, mean_shift_loss(predictions, targets, memory, top_k=2), rtol=1e-5)


def test_with_a_single_neighbor_it_is_byol(random):
    projections, targets = random.normal(size=(2, 4, 6)).astype(np.float32)
    losses = [
        model.objective(projections, targets)
        for model in (build(MeanShiftModel, memory_size=10, top_k=1), build(BYOLModel))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)
