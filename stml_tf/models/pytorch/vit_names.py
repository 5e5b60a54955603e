"""Weight names of vision transformers from Hugging Face, timm and the DINO, DeiT and MAE repositories.

All become those of the DINOv2 repository, such as `blocks.0.attn.qkv.weight`, which our layers have.
"""

import re
from collections.abc import Mapping

import numpy as np

from stml_tf.errors import UserError

# Heads for classification and pretraining, and the token of masked patches.
_NOT_IN_TRUNK = re.compile(r"(head|fc_norm|pre_logits|pooler|classifier|decoder|mask_token|dino_|ibot_)")
_WRAPPERS = re.compile(r"^((backbone|base_model|vit|dinov2|dinov2_with_registers)\.)+")
_EMBEDDINGS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.mask_token": "mask_token",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
    "reg_token": "register_tokens",
}
_IN_BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_PROJECTIONS = ("query", "key", "value")


def dinov2_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename the weights of a vision transformer's trunk as in the DINOv2 repository.

    Hugging Face's separate queries, keys and values are concatenated. In networks with registers, timm adds the
    position of the class token to the token itself; that position becomes zeros.

    Args:
        arrays: What `read_pytorch_checkpoint` returns.

    Returns:
        The arrays of the trunk by their new names.

    Raises:
        UserError: If one of the three projections is missing.
    """
    named = {_plain(name): array for name, array in arrays.items()}
    named = {name: array for name, array in named.items() if not _NOT_IN_TRUNK.match(name)}
    for name in [name for name in named if name.endswith(("attn.query.weight", "attn.query.bias"))]:
        parts = [name.replace("query", projection) for projection in _PROJECTIONS]
        if missing := [part for part in parts if part not in named]:
            raise UserError(f"The checkpoint holds {name} without {', '.join(missing)}: save the whole network.")
        named[name.replace("query", "qkv")] = np.concatenate([named.pop(part) for part in parts])
    positions = named.get("pos_embed")
    if positions is not None and positions.ndim == 3 and int(positions.shape[1] ** 0.5) ** 2 == positions.shape[1]:
        named["pos_embed"] = np.pad(positions, [(0, 0), (1, 0), (0, 0)])
    return named


def _plain(name: str) -> str:
    name = _WRAPPERS.sub("", name)
    for theirs, ours in _EMBEDDINGS.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    block = re.match(r"(?:encoder\.layer|blocks(?:\.\d+)?)\.(\d+)\.(.+)", name)
    if not block:
        return name
    index, rest = block.groups()
    for theirs, ours in _IN_BLOCK.items():
        if rest.startswith(theirs):
            rest = ours + rest.removeprefix(theirs)
    rest = rest.replace("attention.attention.", "attn.")
    return f"blocks.{index}.{rest}"
