import numpy as np
import pytest

from stml_tf import load_recipe
from stml_tf.errors import UserError
from stml_tf.models import build_student
from stml_tf.monitoring import Summaries
from stml_tf.runs.fit import checkpoint_to_resume, fit
from stml_tf.runs.measure import StudentRetrieval
from stml_tf.runs.prepare import prepare
from stml_tf.runs.whitened import start_heads

REWHITENED = (
    *("data.num_classes=8", "data.instances=4", "data.image_size=16", "views.size=16", "training.epochs=2"),
    *("model.embedding_dim=8", "model.teacher_dim=12", "batch.size=8", "sampling.num_neighbors=2"),
    *("model.head=whitened", "model.rewhiten=0.5", "optimizer.head_learning_rate=0", "training.deterministic=true"),
)


class Stopped(Exception):
    pass


def stop(epoch, logs):
    raise Stopped


def heads(model):
    """Return the kernels of the student's two heads and of the teacher's."""
    return [layer.kernel.numpy() for layer in (*map(model.student.get_layer, "fg"), model.teacher.get_layer("g"))]


def test_heads_that_have_learned_are_not_replaced(tmp_path):
    file = tmp_path / "student.weights.h5"
    build_student("conv4", embedding_dim=8, teacher_dim=12).save_weights(file)
    recipe = load_recipe("quickstart", [*REWHITENED, f"model.weights={file}"])
    with pytest.raises(UserError, match=r"model\.rewhiten: 0\.5 given; allowed: null with .*, which holds heads"):
        prepare(recipe, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # makes TensorFlow deterministic, for the whole process
def test_heads_are_fitted_again_and_a_resumed_run_ends_with_the_same_bits(tmp_path):
    recipe = load_recipe("quickstart", REWHITENED)

    def trained(name, *, resume=False, **options):
        run = prepare(recipe, run_dir=tmp_path / name, resume=resume)
        checkpoint = checkpoint_to_resume(run) if resume else None
        if checkpoint is None:
            start_heads(run)
        started = heads(run.model)
        fit(run, Summaries(None), StudentRetrieval(run), resume_from=checkpoint, **options)
        return run.model, started

    whole, started = trained("whole")
    with pytest.raises(Stopped):
        trained("resumed", watch=stop)
    resumed, _ = trained("resumed", resume=True)
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)

    # All heads are one whitening, of which the wider ones are rotations; it is not the one that they started as.
    f, g, teacher = (kernel @ kernel.T for kernel in heads(whole))
    np.testing.assert_allclose(g, f, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(teacher, g)
    assert np.abs(f - started[0] @ started[0].T).max() > 0.01
