import keras
import pytest

from stml_tf.errors import UserError
from stml_tf.methods import SelfTaughtModel
from stml_tf.models import build_student
from stml_tf.models.backbones.by_name import build_backbone

CASES = [
    ("backend", "jax", r'set to backend "jax"; allowed: "tensorflow"\. Change keras.json, or set KERAS_BACKEND'),
    (
        "image_data_format",
        "channels_first",
        r'"channels_first"; allowed: "channels_last"\. .*, or call keras.config.set_image_data_format\(',
    ),
    ("floatx", "float16", r'"float16"; allowed: "float32"\. .*, or call keras.config.set_floatx\("float32"\) first'),
]


@pytest.mark.parametrize(("name", "given", "message"), CASES)
def test_settings_of_keras_that_nothing_here_is_made_for_are_refused(monkeypatch, name, given, message):
    student = build_student("conv4", embedding_dim=4, teacher_dim=4)
    monkeypatch.setattr(keras.config, name, lambda: given)
    for build in (lambda: build_backbone("conv4"), lambda: SelfTaughtModel(student)):
        with pytest.raises(UserError, match=message):
            build()
