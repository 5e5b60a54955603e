"""Weights that Keras fetches by name, which takes a network the first time."""

from collections.abc import Callable

import keras

from stml_tf.dry_run import would
from stml_tf.errors import UserError


def build_with_named_weights(build: Callable[..., keras.Model], name: str, weights: str) -> keras.Model:
    """Build a backbone with weights that `build` fetches itself, or with random ones in a dry run.

    Args:
        build: Called with `weights=`.
        name: The backbone, for messages.
        weights: Such as "imagenet".

    Raises:
        UserError: If the weights cannot be fetched.
    """
    if would(f"take the {weights} weights of {name} from Keras's cache, or download them; here they are random"):
        return build(weights=None)
    try:
        return build(weights=weights)
    except Exception as error:
        # A download that failed is a plain Exception of Keras's; one that broke off, an OSError.
        if type(error) is not Exception and not isinstance(error, OSError):
            raise
        raise UserError(
            f"The {weights} weights of {name} cannot be downloaded ({error}): connect to the internet and try again, "
            "or give model.weights a file, or null."
        ) from error
