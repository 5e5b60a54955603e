"""Vision transformers: those of DINOv2, with and without registers, and the plain ones of DINO, DeiT and MAE.

Dosovitskiy et al.: An Image is Worth 16x16 Words, ICLR 2021, arXiv 2010.11929; Oquab et al.: DINOv2, TMLR 2024,
arXiv 2304.07193; Darcet et al.: Vision Transformers Need Registers, ICLR 2024, arXiv 2309.16588.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from stml_tf.errors import UserError
from stml_tf.models.backbones.resnet import preprocess_resnet
from stml_tf.tensor import Tensor

FEATURES = ("cls_and_patch_mean", "cls", "patch_mean")


class ViTConfig(NamedTuple):
    """The shape of a vision transformer.

    Args:
        dim: Width of a token.
        num_heads: Number of attention heads, a divisor of `dim`.
        patch_size: Side of a patch in pixels.
        grid: Side, in patches, of the grid of positions that it was trained with.
        depth: Number of blocks.
        num_registers: Number of register tokens.
        layer_scale: Whether each block scales its channels; see `LayerScale`.
        antialias: Whether its authors smooth positions when they resize them to a smaller grid.
    """

    dim: int
    num_heads: int
    patch_size: int
    grid: int
    depth: int = 12
    num_registers: int = 0
    layer_scale: bool = False
    antialias: bool = False


_DINOV2 = {"patch_size": 14, "grid": 37, "layer_scale": True}
_REGISTERS = {**_DINOV2, "num_registers": 4, "antialias": True}
_PLAIN = {"patch_size": 16, "grid": 14}
VIT_CONFIGS = {
    "vit_small_14_dinov2": ViTConfig(384, 6, **_DINOV2),
    "vit_base_14_dinov2": ViTConfig(768, 12, **_DINOV2),
    "vit_small_14_dinov2_reg": ViTConfig(384, 6, **_REGISTERS),
    "vit_base_14_dinov2_reg": ViTConfig(768, 12, **_REGISTERS),
    "vit_small_16": ViTConfig(384, 6, **_PLAIN),
    "vit_base_16": ViTConfig(768, 12, **_PLAIN),
}


def build_vit(config: ViTConfig, *, features: str = "cls_and_patch_mean", name: str = "vit") -> keras.Model:
    """Build a vision transformer.

    Layers have the names of the modules in the DINOv2 repository; see `load_pytorch_weights`.

    Args:
        config: The shape of the network.
        features: "cls" for the class token and "patch_mean" for the mean of the patch tokens, each `[batch, dim]`;
            "cls_and_patch_mean" for the concatenation of both, each L2-normalised, `[batch, 2 * dim]`.
        name: Name of the model.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]`, of any height and width of at least a patch, to
        float32 features. Pixels at the right and bottom that do not fill a patch are ignored.

    Raises:
        UserError: If `features` is not one of the three.
    """
    if features not in FEATURES:
        raise UserError(f"features={features!r} must be one of {', '.join(FEATURES)}.")
    images = keras.Input((None, None, 3), name="images")
    patches = layers.Conv2D(config.dim, config.patch_size, config.patch_size, name="patch_embed.proj")(images)
    x = TokenEmbedding(config.grid, config.num_registers, config.antialias, name="tokens")(patches)
    for index in range(config.depth):
        x = _block(x, config, f"blocks.{index}")
    x = _norm("norm")(x)
    x = TokenFeatures(features, config.num_registers, dtype="float32", name="features")(x)
    return keras.Model(images, x, name=name)


def build_named_vit(name: str, *, features: str = "cls_and_patch_mean") -> keras.Model:
    """Build a vision transformer by its name.

    Args:
        name: A key of `VIT_CONFIGS`.
        features: See `build_vit`.

    Returns:
        What `build_vit` returns.
    """
    return build_vit(VIT_CONFIGS[name], features=features, name=name)


def preprocess_vit(images: Tensor) -> Tensor:
    """Standardise images by ImageNet's channel means and deviations.

    Args:
        images: `[..., height, width, 3]` float32, RGB, 0 to 255.

    Returns:
        The same shape, about -2.1 to 2.6.
    """
    return preprocess_resnet(images)


def _block(x: Tensor, config: ViTConfig, name: str) -> Tensor:
    y = _norm(f"{name}.norm1")(x)
    y = layers.Dense(3 * config.dim, kernel_initializer=_initializer(), name=f"{name}.attn.qkv")(y)
    y = SelfAttention(config.num_heads, name=f"{name}.attn")(y)
    y = layers.Dense(config.dim, kernel_initializer=_initializer(), name=f"{name}.attn.proj")(y)
    if config.layer_scale:
        y = LayerScale(name=f"{name}.ls1")(y)
    x = layers.Add(name=f"{name}.add1")([x, y])
    y = _norm(f"{name}.norm2")(x)
    y = layers.Dense(4 * config.dim, kernel_initializer=_initializer(), name=f"{name}.mlp.fc1")(y)
    # The error function is computed in float32 anyway; converting once halves its time on CPUs.
    y = layers.Activation("gelu", dtype="float32", name=f"{name}.mlp.act")(y)
    y = layers.Dense(config.dim, kernel_initializer=_initializer(), name=f"{name}.mlp.fc2")(y)
    if config.layer_scale:
        y = LayerScale(name=f"{name}.ls2")(y)
    return layers.Add(name=f"{name}.add2")([x, y])


def _norm(name: str) -> layers.LayerNormalization:
    # Statistics in float32: in half precision the variance of 384 numbers loses most of its digits.
    return layers.LayerNormalization(epsilon=1e-6, dtype="float32", name=name)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=0.02)


@keras.saving.register_keras_serializable("stml_tf")
class TokenEmbedding(layers.Layer):
    """A layer that adds positions to patches, and prepends a class token and registers.

    It maps `[batch, height, width, dim]` to `[batch, 1 + num_registers + height * width, dim]`. The positions are
    stored as they were trained and resized to the grid of patches at each call, so a network takes images of any size.

    Args:
        grid: Side of the square grid of trained positions.
        num_registers: Number of register tokens, which have no position.
        antialias: Whether positions are smoothed when they are resized to a smaller grid.
    """

    def __init__(self, grid: int, num_registers: int = 0, antialias: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid = grid
        self.num_registers = num_registers
        self.antialias = antialias

    def build(self, patches_shape: tuple[int | None, ...]) -> None:
        dim = patches_shape[-1]
        shapes = {
            "cls_token": (1, 1, dim),
            "pos_embed": (1, 1 + self.grid**2, dim),
            "register_tokens": (1, self.num_registers, dim),
        }
        self.cls_token, self.pos_embed, self.register_tokens = (
            self.add_weight(shape=shape, initializer=_initializer(), name=name) if shape[1] else None
            for name, shape in shapes.items()
        )

    def call(self, patches: Tensor) -> Tensor:
        batch, height, width, dim = ops.shape(patches)
        positions = resize_positions(
            ops.reshape(self.pos_embed[0, 1:], (self.grid, self.grid, dim)), height, width, antialias=self.antialias
        )
        patches = ops.reshape(patches + ops.cast(positions, patches.dtype), (batch, height * width, dim))
        tokens = [self.cls_token + self.pos_embed[:, :1]]
        if self.num_registers:
            tokens.append(self.register_tokens)
        first = ops.cast(ops.concatenate(tokens, axis=1), patches.dtype)
        return ops.concatenate([ops.broadcast_to(first, (batch, 1 + self.num_registers, dim)), patches], axis=1)

    def compute_output_shape(self, patches_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, dim = patches_shape
        tokens = None if height is None or width is None else 1 + self.num_registers + height * width
        return (batch, tokens, dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "grid": self.grid,
            "num_registers": self.num_registers,
            "antialias": self.antialias,
        }


@keras.saving.register_keras_serializable("stml_tf")
class SelfAttention(layers.Layer):
    """Multi-head self-attention.

    It maps concatenated queries, keys and values, `[batch, tokens, 3 * dim]`, to `[batch, tokens, dim]`.

    Args:
        num_heads: Number of heads, a divisor of `dim`.
    """

    def __init__(self, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def call(self, qkv: Tensor) -> Tensor:
        batch, tokens, width = ops.shape(qkv)
        head_dim = width // 3 // self.num_heads
        qkv = ops.reshape(qkv, (batch, tokens, 3, self.num_heads, head_dim))
        query, key, value = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3)
        logits = ops.matmul(query * head_dim**-0.5, ops.swapaxes(key, -1, -2))
        weights = ops.softmax(ops.cast(logits, "float32"), axis=-1)
        mixed = ops.matmul(ops.cast(weights, value.dtype), value)
        return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (batch, tokens, width // 3))

    def compute_output_shape(self, qkv_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*qkv_shape[:-1], qkv_shape[-1] // 3)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable("stml_tf")
class LayerScale(layers.Layer):
    """A layer that multiplies each channel by a learned factor (Touvron et al., arXiv 2103.17239)."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones", name="gamma")

    def call(self, x: Tensor) -> Tensor:
        return x * self.gamma

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape


@keras.saving.register_keras_serializable("stml_tf")
class TokenFeatures(layers.Layer):
    """A layer that pools tokens `[batch, tokens, dim]` into features, `[batch, dim]` or `[batch, 2 * dim]`.

    Args:
        features: One of `FEATURES`; see `build_vit`.
        num_registers: Number of register tokens, which are ignored.
    """

    def __init__(self, features: str, num_registers: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features
        self.num_registers = num_registers

    def call(self, tokens: Tensor) -> Tensor:
        found = {
            "cls": lambda: tokens[:, 0],
            "patch_mean": lambda: ops.mean(tokens[:, 1 + self.num_registers :], axis=1),
        }
        if self.features in found:
            return found[self.features]()
        return ops.concatenate([ops.normalize(part(), axis=1) for part in found.values()], axis=1)

    def compute_output_shape(self, tokens_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        parts = 2 if self.features == "cls_and_patch_mean" else 1
        return (tokens_shape[0], parts * tokens_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "features": self.features, "num_registers": self.num_registers}


def resize_positions(positions: Tensor, height: Any, width: Any, *, antialias: bool = False) -> Tensor:
    """Resize a grid of positions like PyTorch's bicubic interpolation without aligned corners.

    TensorFlow's bicubic resize has another kernel (a = -0.5 where PyTorch has -0.75), which changes features in the
    second digit.

    Args:
        positions: `[rows, columns, dim]` float.
        height: Number of rows of the result.
        width: Number of columns of the result.
        antialias: Whether the kernel widens if the grid becomes smaller, like PyTorch's `antialias=True`.

    Returns:
        `[height, width, dim]`, with the dtype of `positions`.
    """
    rows, columns, dim = positions.shape
    if isinstance(height, int) and isinstance(width, int) and (height, width) == (rows, columns):
        return positions
    to_rows = ops.cast(bicubic_matrix(rows, height, antialias=antialias), positions.dtype)
    to_columns = ops.cast(bicubic_matrix(columns, width, antialias=antialias), positions.dtype)
    resized = ops.matmul(to_rows, ops.reshape(positions, (rows, columns * dim)))
    return ops.matmul(to_columns, ops.reshape(resized, (height, columns, dim)))


def bicubic_matrix(size: int, new_size: Any, *, antialias: bool = False) -> Tensor:
    """Compute the weights with which the old places of an axis add up to the new ones.

    Args:
        size: Number of old places.
        new_size: Number of new places. For an int the result is a NumPy array, a constant in a graph; for a tensor it
            is computed in the graph.
        antialias: Whether the kernel widens if the axis becomes shorter.

    Returns:
        `[new_size, size]` float32.
    """
    xp = np if isinstance(new_size, int) else ops
    scale = size / (new_size if xp is np else ops.cast(new_size, "float32"))
    places = ((xp.arange(new_size, dtype="float32") + 0.5) * scale - 0.5)[:, None]
    if antialias:
        # Here PyTorch follows PIL: another kernel, as wide as the step, truncated at the border and normalised.
        weights = _cubic(xp.abs(places - np.arange(size, dtype=np.float32)) / xp.maximum(scale, 1.0), -0.5, xp)
        return weights / xp.sum(weights, axis=1, keepdims=True)
    # Beyond the border the outermost place repeats: its column collects the weights of two more on either side.
    weights = _cubic(xp.abs(places - np.arange(-2, size + 2, dtype=np.float32)), -0.75, xp)
    first, last = (xp.sum(part, axis=1, keepdims=True) for part in (weights[:, :3], weights[:, -3:]))
    return xp.concatenate([first, weights[:, 3:-3], last], axis=1)


def _cubic(distance: Tensor, a: float, xp: Any) -> Tensor:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return xp.where(distance <= 1, near, xp.where(distance < 2, far, 0.0))
