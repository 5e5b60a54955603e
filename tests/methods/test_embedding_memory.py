import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.methods.embedding_memory import EmbeddingMemory


def test_the_newest_push_out_the_oldest_in_a_graph_too(random):
    memory = EmbeddingMemory(7, 3)
    start = np.asarray(memory.embeddings)
    push = tf.function(memory.push)
    first, second, third = random.normal(size=(3, 3, 3)).astype(np.float32)
    push(first)
    np.testing.assert_array_equal(memory.embeddings, np.concatenate([first, start[:4]]))
    push(second)
    push(third)
    np.testing.assert_array_equal(memory.embeddings, np.concatenate([third, second, first[:1]]))


def test_of_a_batch_above_its_size_the_first_rows_stay(random):
    memory = EmbeddingMemory(2, 3)
    batch = random.normal(size=(5, 3)).astype(np.float16)
    memory.push(batch)
    np.testing.assert_array_equal(memory.embeddings, batch[:2].astype(np.float32))


def test_it_starts_with_directions_of_its_own_that_the_seed_decides():
    def start(seed):
        keras.utils.set_random_seed(seed)
        return np.asarray(EmbeddingMemory(50, 4).embeddings)

    np.testing.assert_array_equal(start(1), start(1))
    assert not np.allclose(start(1), start(2))
    assert np.linalg.matrix_rank(start(1)) == 4


def test_it_is_no_trained_weight_and_survives_serialisation():
    memory = EmbeddingMemory(5, 2)
    assert memory.trainable_variables == []
    assert [tuple(variable.shape) for variable in memory.variables] == [(5, 2)]
    again = keras.layers.deserialize(keras.layers.serialize(memory))
    assert (again.size, again.dim) == (5, 2)


def test_an_empty_memory_is_refused():
    with pytest.raises(ValueError, match="memory of 0 embeddings given: it must hold at least 1"):
        EmbeddingMemory(0, 2)
