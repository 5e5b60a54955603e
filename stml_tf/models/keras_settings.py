"""The global Keras settings that the networks require."""

import keras

from stml_tf.errors import UserError

_ALLOWED = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32"}


def require_keras_settings() -> None:
    """Refuse settings under which a network would fail later, or silently have float16 weights.

    Raises:
        UserError: If the backend, image data format or floatx of Keras is another one.
    """
    for name, allowed in _ALLOWED.items():
        given = getattr(keras.config, name)()
        if given != allowed:
            way = (
                "set KERAS_BACKEND in the environment before Keras is imported"
                if name == "backend"
                else f'call keras.config.set_{name}("{allowed}") first'
            )
            raise UserError(f'Keras is set to {name} "{given}"; allowed: "{allowed}". Change keras.json, or {way}.')
