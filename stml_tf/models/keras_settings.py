"""The settings of Keras, of the environment and of `keras.json`, that networks here are made for."""

import keras

from stml_tf.errors import UserError

_ALLOWED = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32"}


def require_keras_settings() -> None:
    """Refuse to build a network that would fail later, or whose weights would silently be float16.

    Raises:
        UserError: If Keras is set to another backend, image data format or floatx.
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
