"""Weights that Keras downloads by name and caches."""

from collections.abc import Callable

import keras

from stml_tf.dry_run import would
from stml_tf.errors import UserError


def build_with_named_weights(build: Callable[..., keras.Model], name: str, weights: str) -> keras.Model:
    """Build a backbone with weights that `build` downloads itself, or with random ones in a dry run.

    Args:
        build: Called with `weights`; returns the backbone.
        name: Name of the backbone, for messages.
        weights: Name of the weights, such as "imagenet".

    Raises:
        UserError: If the weights cannot be downloaded.
    """
    if would(f"take the {weights} weights of {name} from Keras's cache, or download them; here they are random"):
        return build(weights=None)
    try:
        return build(weights=weights)
    except Exception as error:
        # Keras raises a plain Exception if a download fails, and an OSError if it breaks off.
        if type(error) is not Exception and not isinstance(error, OSError):
            raise
        raise UserError(
            f"The {weights} weights of {name} cannot be downloaded ({error}): connect to the internet and try again, "
            "or give model.weights a file, or null."
        ) from error
