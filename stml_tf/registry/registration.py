"""Registration of entries from outside the package, which remember where they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal

from stml_tf.errors import UserError
from stml_tf.registry.builtin import STUDENTS, backbones, losses, methods, sources
from stml_tf.registry.entries import Backbone, Loss, Method, Source, Target

_NOTHING: Mapping[str, Any] = MappingProxyType({})

# The origin that `registering` sets for the duration of an import.
_origin: ContextVar[str | None] = ContextVar("origin", default=None)


@contextmanager
def registering(origin: str) -> Iterator[None]:
    """Record `origin` as the origin of everything that is registered within the block."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def _origin_of(build: Target) -> str:
    return _origin.get() or (build.partition(":")[0] if isinstance(build, str) else getattr(build, "__module__", "?"))


def register_backbone(name: str, build: Target, preprocess: Target | None = None) -> None:
    """Register a backbone of your own, so that recipes can name it.

    Args:
        name: Its name in recipes, as `model.backbone`.
        build: Called without arguments; returns a functional `keras.Model` from images `[batch, height, width, 3]` to
            feature maps `[batch, height', width', channels]` or to vectors `[batch, channels]`.
        preprocess: A function from RGB images `[..., height, width, 3]` float32, 0 to 255, to what the network takes;
            None leaves them as they are.

    Raises:
        UserError: If the package itself has a backbone of that name, or `build` is not callable.
    """
    backbones.add(Backbone(name, build, preprocess, origin=_origin_of(build)))


def register_loss(name: str, build: Target) -> None:
    """Register a supervised loss of your own, so that recipes can name it.

    Args:
        name: Its name in recipes, as `supervision.loss`.
        build: Called with the recipe's `supervision.options` as keyword arguments; returns a callable of labels
            `[batch]` and embeddings `[batch, dim]`, such as a `keras.losses.Loss`, that returns a scalar. If `build`
            takes `num_classes` or `dim`, it gets them, too. The trainable variables of a `keras.layers.Layer` are
            trained along with the network.

    Raises:
        UserError: If the package itself has a loss of that name, or `build` is not callable.
    """
    losses.add(Loss(name, build, origin=_origin_of(build)))


def register_source(name: str, load: Target) -> None:
    """Register a data set of your own, so that recipes can name it.

    Args:
        name: Its name in recipes, as `data.name`.
        load: Called with the other keys of the recipe's `data` section as keyword arguments, and with `data_dir` (a
            `Path` or None) and `download` if it takes them; returns a `stml_tf.data.catalog.Catalog`. Its signature
            defines which keys there are, and which have a default.

    Raises:
        UserError: If the package itself has a data set of that name, or `load` is not callable.
    """
    sources.add(Source(name, load, origin=_origin_of(load)))


def register_method(
    name: str,
    build: Target,
    *,
    reads: Mapping[str, str] = _NOTHING,
    student: str | Callable[..., Any] = "heads",
    logs: Mapping[str, tuple[str, ...]] = _NOTHING,
    learns_from: Literal["images", "labels", "both"] = "images",
) -> None:
    """Register a training method of your own, so that recipes can name it.

    Args:
        name: Its name in recipes, as `method`.
        build: Called with the student, the arguments of `reads`, and the recipe's `method_options` as keyword
            arguments; returns a model such as a subclass of `stml_tf.methods.StudentTeacherModel`.
        reads: For each argument of `build`, the key of the recipe that sets it, such as `{"sigma": "loss.sigma"}`, or
            "run.steps_per_epoch", or "run.supervised_loss" for methods that learn from labels.
        student: "heads" for the linear heads of `build_student`, "projection" for the MLP head of
            `build_projection_student`, or a function that takes the keys of the recipe's `model` section.
        logs: By TensorBoard group, the names of what a training step logs.
        learns_from: "images" for all images without labels; "labels" for labelled images only, in batches of a few
            classes each; or "both" for labelled and unlabelled images in each batch.

    Raises:
        UserError: If the package itself has a method of that name, `build` is not callable, or `student` is unknown.
    """
    if isinstance(student, str) and student not in STUDENTS:
        raise UserError(f'student="{student}" given; allowed: {", ".join(STUDENTS)}, or a function.')
    of_student = STUDENTS[student] if isinstance(student, str) else {"student": student}
    methods.add(
        Method(
            name,
            build,
            reads=reads,
            also_reads=(
                "sampling.coverage",
                *(("model.head", "model.rewhiten") if student == "heads" else ()),
                *(("supervision",) if learns_from != "images" else ()),
            ),
            logs=logs,
            learns_from=learns_from,
            origin=_origin_of(build),
            **of_student,
        )
    )
