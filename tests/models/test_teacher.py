import numpy as np
import pytest

from stml_tf.models import auxiliary_network, build_student, build_teacher, update_teacher


@pytest.fixture
def student():
    return build_student("conv4", embedding_dim=4, teacher_dim=7)


def test_a_teacher_starts_as_a_copy_with_weights_of_its_own(random, student):
    teacher = build_teacher(student)
    images = random.normal(size=(2, 32, 32, 3)).astype(np.float32)
    _, g = student(images)
    np.testing.assert_allclose(teacher(images), g, rtol=1e-5, atol=1e-6)
    student.get_layer("g").bias.assign(np.ones(7))
    assert not np.allclose(teacher(images), student(images)[1])
    assert teacher.trainable_variables == []


def test_an_independent_teacher_shares_the_trunk_but_not_the_head(student):
    teacher = build_teacher(student, start="independent")
    source = auxiliary_network(student)
    same = [np.array_equal(a, b) for a, b in zip(teacher.weights, source.weights, strict=True)]
    assert same[:-2] == [True] * (len(same) - 2)
    assert not same[-2]


def test_a_moving_average_covers_batch_norm_statistics(student):
    teacher = build_teacher(student)
    before = [np.asarray(weight) for weight in teacher.weights]
    for weight in student.weights:
        weight.assign(weight + 1.0)
    update_teacher(teacher, auxiliary_network(student), momentum=0.75)
    paths = [weight.path for weight in teacher.weights]
    assert any("moving_variance" in path for path in paths)
    for weight, start in zip(teacher.weights, before, strict=True):
        np.testing.assert_allclose(weight, start + 0.25, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_teacher_may_use_the_statistics_of_the_batch_where_the_student_does(random, frozen):
    teacher = build_teacher(build_student("conv4", embedding_dim=4, teacher_dim=7, freeze_batch_norm=frozen))
    images = random.normal(2.0, 3.0, (6, 32, 32, 3)).astype(np.float32)
    by_moving_statistics, by_batch = teacher(images, training=False), teacher(images, training=True)
    assert np.allclose(by_moving_statistics, by_batch, atol=1e-5) == frozen
    assert teacher.trainable_variables == []


def test_an_unknown_start_is_refused(student):
    with pytest.raises(ValueError, match='starts from "student" or "independent", not from \'zero\''):
        build_teacher(student, start="zero")
