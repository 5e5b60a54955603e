import numpy as np

from stml_tf.losses import info_nce_loss
from stml_tf.methods import MoCoModel
from stml_tf.models import build_projection_student


def test_negatives_are_those_of_earlier_batches_and_the_queue_then_takes_the_targets_in(random):
    student = build_projection_student("conv4", embedding_dim=6, hidden_dim=8, batch_norm=False)
    model = MoCoModel(student, memory_size=10, temperature=0.2)
    first, second, third = random.normal(size=(3, 4, 6)).astype(np.float32)
    start = np.asarray(model.memory.embeddings)
    loss = model.objective(first, second)
    np.testing.assert_allclose(loss, info_nce_loss(first, second, start, temperature=0.2), rtol=1e-5)
    np.testing.assert_array_equal(model.memory.embeddings, np.concatenate([second, start[:6]]))
    loss = model.objective(first, third)
    queue = np.concatenate([second, start[:6]])
    np.testing.assert_allclose(loss, info_nce_loss(first, third, queue, temperature=0.2), rtol=1e-5)
