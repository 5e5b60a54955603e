"""The names that a recipe may use: backbones, data sets, losses, methods and optimizers. Loads no TensorFlow.

The recipe's allowed values, its JSON Schema, error messages and TensorBoard's groups all come from these registers. To
add something inside the package, write one file and one entry in `builtin`; from outside, call `register_backbone` and
its sisters.
"""

from stml_tf.registry.builtin import (
    ADDONS_PREFIX,
    REGISTERS,
    backbones,
    log_group,
    losses,
    methods,
    optimizers,
    sources,
    weights_packages,
)
from stml_tf.registry.entries import Backbone, Entry, Loss, Method, Optimizer, Source, Target, resolve
from stml_tf.registry.parameters import arguments_of, parameters_of
from stml_tf.registry.register import Register
from stml_tf.registry.registration import (
    register_backbone,
    register_loss,
    register_method,
    register_source,
    registering,
)

__all__ = [
    "ADDONS_PREFIX",
    "REGISTERS",
    "Backbone",
    "Entry",
    "Loss",
    "Method",
    "Optimizer",
    "Register",
    "Source",
    "Target",
    "arguments_of",
    "backbones",
    "log_group",
    "losses",
    "methods",
    "optimizers",
    "parameters_of",
    "register_backbone",
    "register_loss",
    "register_method",
    "register_source",
    "registering",
    "resolve",
    "sources",
    "weights_packages",
]
