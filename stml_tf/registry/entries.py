"""The kinds of entries in a register: what is known about a backbone, a data set, a loss, a method or an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

Target = str | Callable[..., Any]  # "module:attribute", imported on first use, or the object itself


def resolve(target: Target) -> Any:
    """Return what a target stands for, importing its module if necessary."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


@dataclass(frozen=True)
class Entry:
    """What every register knows about a name.

    Args:
        name: What recipes call it.
        build: Where it is built.
        origin: For what a plug-in registered, the module or file that did; None for the package's own.
    """

    name: str
    build: Target
    origin: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Backbone(Entry):
    """A network from preprocessed images to feature maps or vectors. `build(**options)` returns a `keras.Model`.

    Args:
        preprocess: From RGB images of 0 to 255, `[..., height, width, 3]`, to network inputs; None: as they are.
        options: Keyword arguments of `build`.
        named_weights: Weights that `build` fetches itself; it is then called with `weights=`, one of them or None.
        reads_pytorch: Whether PyTorch's weights of this network are read.
    """

    preprocess: Target | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    named_weights: tuple[str, ...] = ()
    reads_pytorch: bool = False


@dataclass(frozen=True)
class Source(Entry):
    """A data set. `build(**options)` returns a `Catalog`; it is given `data_dir` and `download` if it takes them.

    Args:
        section: Class of the recipe's `data` section; None checks its keys against the arguments of `build`.
        archives: Whether `data_dir` may be a downloaded archive.
        only_unlabeled: Whether it serves as further unlabelled images alone, by its name in `data.unlabeled`.
    """

    section: str | None = None
    archives: bool = False
    only_unlabeled: bool = False


@dataclass(frozen=True)
class Loss(Entry):
    """A supervised loss. `build(**options)` returns a callable of `(labels, embeddings)`.

    It is given `num_classes` and `dim`, the width of the embeddings, if it takes them.
    """


@dataclass(frozen=True)
class Method(Entry):
    """A training method. `build(student, **settings)` returns a `StudentTeacherModel`.

    Args:
        reads: For each argument of `build`, the key of the recipe that sets it, such as "loss.sigma". "run.NAME" stands
            for what only the run knows: `steps_per_epoch` and, for methods that learn from labels, `supervised_loss`.
        options: Further, constant arguments of `build`.
        student: Builds the student from the keys of the recipe's `model` section.
        student_reads: Like `reads`, for further arguments of `student`.
        student_options: Further, constant arguments of `student`.
        also_reads: Keys or whole sections that are read elsewhere in a run, or that a recipe may hold for another
            method that it can be switched to.
        logs: By TensorBoard group, the names of what a training step logs beside "loss" and "gradient_norm".
        learns_from: "images", all of them and no labels; "labels", labelled images alone; or "both", labelled images
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
        """Return whether another value than the default makes sense for a key such as "loss.sigma"."""
        section = key.partition(".")[0]
        return any(key in keys for keys in (self.reads.values(), self.student_reads.values(), self.also_reads)) or (
            section in self.also_reads
        )


@dataclass(frozen=True)
class Optimizer(Entry):
    """An optimizer. `build(learning_rate=..., weight_decay=..., **options)` returns a `keras.optimizers.Optimizer`."""
