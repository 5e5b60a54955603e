"""The kinds of entries in a register: backbones, data sets, losses, methods and optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

Target = str | Callable[..., Any]  # "module:attribute", imported on first use, or the object itself


def resolve(target: Target) -> Any:
    """Return the object that a target names, importing its module if necessary."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


@dataclass(frozen=True)
class Entry:
    """An entry of a register.

    Args:
        name: The name in recipes.
        build: The function or class that builds it.
        origin: The module or file of the plug-in that registered it; None for the package's own.
    """

    name: str
    build: Target
    origin: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Backbone(Entry):
    """A network from preprocessed images to feature maps or vectors. `build(**options)` returns a `keras.Model`.

    Args:
        preprocess: A function from RGB images `[..., height, width, 3]`, 0 to 255, to network inputs; None for none.
        options: Keyword arguments of `build`.
        named_weights: Names of weights that `build` downloads itself; it is then called with `weights`, one of them or
            None.
        reads_pytorch: Whether PyTorch weights can be read for this network.
    """

    preprocess: Target | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    named_weights: tuple[str, ...] = ()
    reads_pytorch: bool = False


@dataclass(frozen=True)
class Source(Entry):
    """A data set. `build(**options)` returns a `Catalog`; it is given `data_dir` and `download` if it takes them.

    Args:
        section: Class of the recipe's `data` section; None to check its keys against the arguments of `build`.
        archives: Whether `data_dir` may be a downloaded archive.
        only_unlabeled: Whether it only serves as additional unlabelled images, named in `data.unlabeled`.
    """

    section: str | None = None
    archives: bool = False
    only_unlabeled: bool = False


@dataclass(frozen=True)
class Loss(Entry):
    """A supervised loss. `build(**options)` returns a callable of `(labels, embeddings)`.

    It also gets `num_classes` and `dim`, the width of the embeddings, if it takes them.
    """


@dataclass(frozen=True)
class Method(Entry):
    """A training method. `build(student, **settings)` returns a `StudentTeacherModel`.

    Args:
        reads: For each argument of `build`, the key of the recipe that sets it, such as "loss.sigma"; or "run.NAME" for
            what only the run knows: `steps_per_epoch` and, for methods that learn from labels, `supervised_loss`.
        options: Further, constant arguments of `build`.
        student: Builds the student from the keys of the recipe's `model` section.
        student_reads: Like `reads`, for further arguments of `student`.
        student_options: Further, constant arguments of `student`.
        also_reads: Keys or whole sections that are read elsewhere in a run, or that a recipe may hold for another
            method.
        logs: By TensorBoard group, the names of what a training step logs in addition to "loss" and "gradient_norm".
        learns_from: "images" for all images without labels; "labels" for labelled images only; or "both" for labelled
            and unlabelled ones in each batch.
        trains: Whether it takes optimizer steps; else the heads are fitted, once.
        two_views: Whether it compares exactly two views of single images, drawn without their neighbours.
    """

    reads: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    student: Target = "stml_tf.models.student:build_student"
    student_reads: Mapping[str, str] = field(default_factory=dict)
    student_options: Mapping[str, Any] = field(default_factory=dict)
    also_reads: tuple[str, ...] = ()
    logs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    learns_from: Literal["images", "labels", "both"] = "images"
    trains: bool = True
    two_views: bool = False

    @property
    def learns_from_labels(self) -> bool:
        return self.learns_from != "images"

    def reads_key(self, key: str) -> bool:
        """Return whether the method reads a key such as "loss.sigma", so that it may differ from its default."""
        section = key.partition(".")[0]
        return any(key in keys for keys in (self.reads.values(), self.student_reads.values(), self.also_reads)) or (
            section in self.also_reads
        )


@dataclass(frozen=True)
class Optimizer(Entry):
    """An optimizer. `build(learning_rate=..., weight_decay=..., **options)` returns a `keras.optimizers.Optimizer`."""
