"""Which part of a backbone learns: all of it, its last blocks, small matrices beside its own (LoRA), or none.

What is frozen has no dropout to draw and no statistics to move, so student and teacher share it, and a step computes it
once for both. Hu et al.: LoRA, ICLR 2022, arXiv 2106.09685.
"""

import re
from typing import Any

import keras
from keras import layers

from stml_tf.errors import UserError

FROZEN = "frozen"
FROZEN_FEATURES = "frozen_features"

# How the layers of a block begin, by family; of ours, then of keras.applications.
_BLOCKS = tuple(
    re.compile(pattern)
    for pattern in (
        r"blocks\.\d+(?=\.)",
        r"layer\d\.\d+(?=\.)",
        r"inception_\d[a-e]",
        r".*stage_\d+_block_\d+",
        r"conv\d_block\d+",
        r"block\d+[a-z](?=_)",
        r"block_\d+(?=_)",
        r"mixed\d+$",
        r"block\d+(?=_)",
        r"(?:conv|norm|relu|pool)(\d)$",  # the four layers of a block of conv4 share a number alone
    )
)


def block_ends(backbone: keras.Model) -> list[str]:
    """The last layer of every block or stage of a backbone, from the first to the last.

    Raises:
        UserError: If the names of its layers do not tell.
    """
    for pattern in _BLOCKS:
        ends: dict[str, str] = {}
        for layer in backbone.layers:
            if found := pattern.match(layer.name):
                ends[found[found.lastindex or 0]] = layer.name
        if len(ends) > 1:
            return list(ends.values())
    raise UserError(
        f"{backbone.name} has no blocks that are known by their names: train all of it, or the heads alone."
    )


def split_backbone(backbone: keras.Model, num_blocks: int) -> tuple[keras.Model, keras.Model]:
    """Cut a backbone in front of its last blocks.

    Args:
        backbone: What `build_backbone` returns.
        num_blocks: Blocks behind the cut, at least 1 and fewer than there are.

    Returns:
        From images to the features at the cut, and from there to the backbone's output. They share its weights.

    Raises:
        UserError: If there are not that many blocks, or features go round the cut.
    """
    ends = block_ends(backbone)
    if not 1 <= num_blocks < len(ends):
        raise UserError(
            f"model.trainable: {num_blocks} given; allowed for {backbone.name}: 1 to {len(ends) - 1} blocks, "
            '"all" or "heads".'
        )
    cut = backbone.get_layer(ends[-num_blocks - 1]).output
    try:
        last = keras.Model(cut, backbone.output, name=f"{backbone.name}_last_{num_blocks}")
    except ValueError as error:
        raise UserError(
            f"{backbone.name} cannot be cut in front of its last {num_blocks} blocks, as features go round the cut: "
            "train another number of them."
        ) from error
    return keras.Model(backbone.input, cut, name=FROZEN), last


def freeze(model: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
    """Apply a part that does not learn, in inference mode, and mark where it ends."""
    frozen = keras.Model(model.inputs, model.outputs[0], name=FROZEN)
    frozen.trainable = False
    return layers.Identity(name=FROZEN_FEATURES)(frozen(images, training=False))


def frozen_part(student: keras.Model) -> keras.Model | None:
    """The part of a student that does not learn: from images to frozen features; None if all of it does."""
    return next((layer for layer in student.layers if layer.name == FROZEN), None)


def learning_input(student: keras.Model) -> keras.KerasTensor:
    """Where the part that learns begins: the frozen features, or the images."""
    return student.inputs[0] if frozen_part(student) is None else student.get_layer(FROZEN_FEATURES).output


def learning_part(student: keras.Model) -> keras.Model:
    """The part of a student that learns, from `learning_input` to `(f, g)`. Shares the student's weights."""
    if frozen_part(student) is None:
        return student
    return keras.Model(learning_input(student), student.outputs, name="learning")


def add_lora(backbone: keras.Model, rank: int) -> None:
    """Freeze a backbone, and give each dense layer within its blocks a trainable product of two thin matrices.

    Raises:
        UserError: If it has no dense layers, as convolutional networks.
    """
    dense = [layer for layer in backbone.layers if isinstance(layer, layers.Dense)]
    if not dense:
        raise UserError(
            f'model.trainable: lora given; allowed for {backbone.name}, which has no dense layers: "all", "heads" or a '
            "number of blocks."
        )
    for layer in backbone.layers:
        for variable in layer.weights:
            variable.trainable = False
    for layer in dense:
        layer.enable_lora(rank)


def merge_lora(model: keras.Model) -> keras.Model:
    """A copy of a model whose dense layers hold their LoRA's product in the kernel; the model itself without any."""
    if not any(_has_lora(layer) for layer in _leaves(model)):
        return model

    def plain(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        if _has_lora(layer):
            config = {key: value for key, value in config.items() if key not in ("lora_rank", "lora_alpha")}
        return type(layer).from_config(config)

    merged = keras.models.clone_model(model, clone_function=plain, recursive=True)
    for ours, theirs in zip(_leaves(merged), _leaves(model), strict=True):
        if _has_lora(theirs):
            ours.set_weights([value for value in (theirs.kernel, theirs.bias) if value is not None])
        else:
            ours.set_weights(theirs.get_weights())
    return merged


def learning_rate_scales(student: keras.Model, decay: float) -> dict[int, float]:
    """How the learning rate of each variable falls with its depth below the heads.

    Clark et al.: ELECTRA, ICLR 2020, arXiv 2003.10555: `decay` to the power of the blocks between a variable and the
    heads, its own included; what lies in front of all blocks is one deeper than the first.

    Args:
        student: What `build_student` returns.
        decay: In (0, 1].

    Returns:
        The id of each trainable variable of the trunk -> its factor. The heads' stays 1.
    """
    scales: dict[int, float] = {}
    if decay == 1.0:
        return scales
    for trunk in (layer for layer in student.layers if isinstance(layer, keras.Model) and layer.trainable_variables):
        # Of a trunk that was cut to one block there are no names of several.
        ends = block_ends(trunk) if len(trunk.layers) > 1 and _has_blocks(trunk) else []
        names = [layer.name for layer in trunk.layers]
        places = [names.index(end) for end in ends]
        for index, layer in enumerate(trunk.layers):
            # Layers behind the last block, such as a final norm, belong to it.
            behind = max(1, sum(place >= index for place in places))
            first = _is_in_front(layer, trunk, places, index)
            for variable in layer.trainable_variables:
                scales[id(variable)] = decay ** (behind + first)
    return scales


def _is_in_front(layer: layers.Layer, trunk: keras.Model, places: list[int], index: int) -> bool:
    return bool(places) and index <= places[0] and not any(pattern.match(layer.name) for pattern in _BLOCKS)


def _has_blocks(trunk: keras.Model) -> bool:
    try:
        return bool(block_ends(trunk))
    except UserError:
        return False


def _has_lora(layer: Any) -> bool:
    return bool(getattr(layer, "lora_enabled", False))


def _leaves(model: keras.Model) -> list[layers.Layer]:
    return [leaf for layer in model.layers for leaf in (_leaves(layer) if isinstance(layer, keras.Model) else [layer])]
