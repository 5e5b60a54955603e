"""Each family's names, made from the DINOv2 repository's, lead to the same network."""

import numpy as np
import pytest

from stml_tf import registry
from stml_tf.errors import UserError
from stml_tf.models import build_backbone, load_pytorch_weights
from stml_tf.models.backbones.vit import ViTConfig, build_vit
from tests.models.pytorch.written_by_torch import Saved, torch_save
from tests.models.vit_slow_form import made_state

DINOV2 = ViTConfig(dim=12, num_heads=3, patch_size=4, grid=5, depth=2, layer_scale=True)
REGISTERS = DINOV2._replace(num_registers=2)
PLAIN = DINOV2._replace(layer_scale=False)


def renamed(state, *pairs):
    for old, new in pairs:
        state = {name.replace(old, new): array for name, array in state.items()}
    return state


def hugging_face(state):
    split = {}
    for name, array in state.items():
        if "attn.qkv" in name:
            for part, values in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                split[name.replace("attn.qkv", f"attention.attention.{part}")] = values
        else:
            split[name] = array
    split["mask_token"] = np.zeros((1, 12), np.float32)
    tokens = ("cls_token", "mask_token", "register_tokens")
    split = {f"embeddings.{name}" if name in tokens else name: array for name, array in split.items()}
    return renamed(
        split,
        ("pos_embed", "embeddings.position_embeddings"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("blocks.", "encoder.layer."),
        ("attn.proj", "attention.output.dense"),
        ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"),
    ) | {"layernorm.weight": split["norm.weight"], "layernorm.bias": split["norm.bias"]}


def without_norm(state):
    return {name: array for name, array in state.items() if not name.startswith("norm.")}


def hugging_face_vit(state):
    found = renamed(
        without_norm(hugging_face(state)),
        (".norm1.", ".layernorm_before."),
        (".norm2.", ".layernorm_after."),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    )
    extra = {"pooler.dense.weight": np.ones((12, 12)), "classifier.bias": np.ones(10)}
    return {f"vit.{name}": array for name, array in found.items()} | extra


def timm(state):
    found = {
        **state,
        "pos_embed": state["pos_embed"][:, 1:],
        "cls_token": state["cls_token"] + state["pos_embed"][:, :1],
    }
    return renamed(found, ("register_tokens", "reg_token")) | {
        "head.weight": np.ones((10, 12)),
        "head.bias": np.ones(10),
    }


def dino_training(state):
    student = {"backbone.cls_token": np.zeros((1, 1, 12), np.float32)}
    teacher = {f"backbone.{name}": array for name, array in state.items()}
    return {"student": student, "teacher": teacher | {"dino_head.mlp.weight": np.ones((3, 3), np.float32)}, "epoch": 3}


def mae(state):
    return {"model": state | {"decoder_embed.weight": np.ones((3, 12)), "mask_token": np.ones((1, 1, 3))}}


def chunked(state):
    """The names of large networks in the DINOv2 repository."""
    return renamed(state, ("blocks.0.", "blocks.0.0."), ("blocks.1.", "blocks.0.1."))


CASES = [
    (PLAIN, hugging_face_vit),
    (PLAIN, mae),
    (PLAIN, dino_training),
    (DINOV2, lambda state: without_norm(hugging_face(state))),
    (DINOV2, chunked),
    (REGISTERS, lambda state: without_norm(hugging_face(state))),
]


@pytest.mark.parametrize(("config", "family"), CASES, ids=range(len(CASES)))
def test_every_familys_names_are_known(config, family):
    networks = build_vit(config), build_vit(config)
    state = made_state(config)
    load_pytorch_weights(networks[0], state)
    load_pytorch_weights(networks[1], family(state))
    for a, b in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_array_equal(a, b)


def test_timm_adds_the_class_position_to_the_token(random):
    networks = build_vit(REGISTERS), build_vit(REGISTERS)
    state = made_state(REGISTERS)
    load_pytorch_weights(networks[0], state)
    load_pytorch_weights(networks[1], timm(state))
    images = random.normal(size=(2, 12, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(networks[0](images), networks[1](images), rtol=1e-5, atol=1e-6)


def test_a_backbone_takes_a_file_of_torch_hub(tmp_path):
    state = made_state(DINOV2)
    torch_save({name: Saved(array) for name, array in state.items()}, tmp_path / "dinov2.pth")
    with registry.backbones.holding(registry.Backbone("tiny", lambda: build_vit(DINOV2), reads_pytorch=True)):
        found = build_backbone("tiny", weights=str(tmp_path / "dinov2.pth"))
    expected = build_vit(DINOV2)
    load_pytorch_weights(expected, state)
    for a, b in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_projection_that_is_missing_is_named():
    state = hugging_face(made_state(DINOV2))
    del state["encoder.layer.1.attention.attention.key.bias"]
    with pytest.raises(UserError, match=r"holds blocks\.1\.attn\.query\.bias without blocks\.1\.attn\.key\.bias"):
        load_pytorch_weights(build_vit(DINOV2), without_norm(state))


def test_a_network_of_another_width_is_refused():
    with pytest.raises(UserError, match=r"not fit vit: patch_embed\.proj\.weight has the shape \[12, 3, 4, 4\]"):
        load_pytorch_weights(build_vit(DINOV2._replace(dim=24)), made_state(DINOV2))


def test_registers_are_not_left_out_silently():
    with pytest.raises(UserError, match="it also holds register_tokens"):
        load_pytorch_weights(build_vit(DINOV2), made_state(REGISTERS))
