"""A vision transformer token by token in float64, under the names of the DINOv2 repository, and made weights for it."""

import zlib

import numpy as np
from scipy.special import erf

from stml_tf.models.backbones.vit import bicubic_matrix


def made_state(config):
    d = config.dim
    shapes = {
        "cls_token": (1, 1, d),
        "pos_embed": (1, 1 + config.grid**2, d),
        "patch_embed.proj.weight": (d, 3, config.patch_size, config.patch_size),
        "patch_embed.proj.bias": (d,),
        "norm.weight": (d,),
        "norm.bias": (d,),
    }
    if config.num_registers:
        shapes["register_tokens"] = (1, config.num_registers, d)
    for index in range(config.depth):
        of_block = {"attn.qkv": (3 * d, d), "attn.proj": (d, d), "mlp.fc1": (4 * d, d), "mlp.fc2": (d, 4 * d)}
        for name, shape in {**of_block, "norm1": (d,), "norm2": (d,)}.items():
            shapes[f"blocks.{index}.{name}.weight"] = shape
            shapes[f"blocks.{index}.{name}.bias"] = shape[:1]
        if config.layer_scale:
            shapes |= {f"blocks.{index}.{scale}.gamma": (d,) for scale in ("ls1", "ls2")}
    return {name: _made(name, shape) for name, shape in shapes.items()}


def vit_tokens(state, config, images):
    state = {name: array.astype(np.float64) for name, array in state.items()}
    return np.stack([_image_tokens(state, config, image.astype(np.float64)) for image in images])


def _image_tokens(state, config, image):
    size, grid = config.patch_size, config.grid
    height, width = image.shape[0] // size, image.shape[1] // size
    table = state["pos_embed"][0, 1:].reshape(grid, grid, -1)
    rows, columns = (np.asarray(bicubic_matrix(grid, n, antialias=config.antialias)) for n in (height, width))
    resized = np.einsum("hr,rcd,wc->hwd", rows, table, columns) if (height, width) != (grid, grid) else table
    tokens = [state["cls_token"][0, 0] + state["pos_embed"][0, 0]]
    tokens += list(state["register_tokens"][0]) if config.num_registers else []
    for row in range(height):
        for column in range(width):
            patch = image[row * size : (row + 1) * size, column * size : (column + 1) * size].transpose(2, 0, 1)
            weight = state["patch_embed.proj.weight"].reshape(config.dim, -1)
            tokens.append(weight @ patch.ravel() + state["patch_embed.proj.bias"] + resized[row, column])
    x = np.stack(tokens)
    for index in range(config.depth):
        block = {name.removeprefix(f"blocks.{index}."): array for name, array in state.items()}
        x = x + block.get("ls1.gamma", 1.0) * _attention(_norm(x, block, "norm1"), block, config.num_heads)
        hidden = _dense(_norm(x, block, "norm2"), block, "mlp.fc1")
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        x = x + block.get("ls2.gamma", 1.0) * _dense(hidden, block, "mlp.fc2")
    return _norm(x, state, "norm")


def _attention(x, block, num_heads):
    dim = x.shape[1]
    query, key, value = (_dense(x, block, "attn.qkv")[:, part * dim : (part + 1) * dim] for part in range(3))
    heads = []
    for head in range(num_heads):
        here = slice(head * dim // num_heads, (head + 1) * dim // num_heads)
        logits = query[:, here] @ key[:, here].T / np.sqrt(dim // num_heads)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        heads.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, here])
    return _dense(np.concatenate(heads, axis=1), block, "attn.proj")


def _dense(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _norm(x, state, name):
    centered = x - x.mean(axis=1, keepdims=True)
    return centered / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6) * state[f"{name}.weight"] + state[f"{name}.bias"]


def _made(name, shape):
    made = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape) * 0.3
    is_scale = name.endswith("gamma") or (len(shape) == 1 and name.endswith("weight"))
    return (made + is_scale).astype(np.float32)
