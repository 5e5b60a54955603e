import numpy as np
import pytest
import tensorflow as tf

from stml_tf.models import build_projection_student, build_student, computing_in
from stml_tf.runs.embed import feature_network, student_network


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_embeddings_and_features_are_float32_whatever_the_network_computes_in(precision, random):
    images = tf.constant(random.random((2, 16, 16, 3)), tf.float32)
    with computing_in(precision):
        student = build_student("conv4", embedding_dim=4, teacher_dim=8)
        baseline = build_projection_student("conv4", embedding_dim=4, hidden_dim=8, embedding="features")
    for network in (student_network(student), feature_network(student), student_network(baseline), baseline):
        outputs = network(images)
        assert {output.dtype for output in tf.nest.flatten(outputs)} == {tf.float32}
    np.testing.assert_array_equal(student_network(student)(images), student(images, training=False)[0])
