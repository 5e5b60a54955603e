"""The part of a backbone that is trained: all of it, its last blocks, low-rank matrices added to it (LoRA), or none.

A frozen part has no dropout and no moving statistics, so student and teacher share it, and a step computes it once for
both. Hu et al.: LoRA, ICLR 2022, arXiv 2106.09685.
"""

import re
from typing import Any

import keras
from keras import layers

from stml_tf.errors import UserError

FROZEN = "frozen"
FROZEN_FEATURES = "frozen_features"

# How the names of a block's layers begin, by family: our own, then those of keras.applications.
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
        r"(?:conv|norm|relu|pool)(\d)$",  # the four layers of a block of conv4 only share a number
    )
)


def block_ends(backbone: keras.Model) -> list[str]:
    """Return the name of the last layer of every block of a backbone, in order.

    Args:
        backbone: What `build_backbone` returns.

    Raises:
        UserError: If the names of its layers do not tell its blocks.
    """
    for pattern in _BLOCKS:
        ends: dict[str, str] = {}
        for layer in backbone.layers:
            if found := pattern.match(layer.name):
                ends[found[found.lastindex or 0]] = layer.name
        if len(ends) > 1:
            return list(ends.values())
    raise UserError(f'The layers of {backbone.name} are not named by blocks: set model.trainable to "all" or "heads".')


def split_backbone(backbone: keras.Model, num_blocks: int) -> tuple[keras.Model, keras.Model]:
    """Cut a backbone in front of its last blocks.

    Args:
        backbone: What `build_backbone` returns.
        num_blocks: Number of blocks behind the cut, at least 1 and fewer than there are.

    Returns:
        A model from images to the features at the cut, and one from there to the backbone's output. They share its
        weights.

    Raises:
        UserError: If there are not that many blocks, or a connection bypasses the cut.
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
            f"{backbone.name} cannot be cut in front of its last {num_blocks} blocks, as a connection bypasses the "
            "cut: train another number of blocks."
        ) from error
    return keras.Model(backbone.input, cut, name=FROZEN), last


def freeze(model: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
    """Apply a model in inference mode as the frozen part of a student.

    Args:
        model: A model with one output; its layers are no longer trained.
        images: A symbolic tensor that fits its input, `[batch, height, width, channels]`.

    Returns:
        The symbolic output of the model, named `FROZEN_FEATURES`.
    """
    frozen = keras.Model(model.inputs, model.outputs[0], name=FROZEN)
    frozen.trainable = False
    return layers.Identity(name=FROZEN_FEATURES)(frozen(images, training=False))


def frozen_part(student: keras.Model) -> keras.Model | None:
    """Return the frozen part of a student.

    Args:
        student: A functional model from images to `(f, g)`.

    Returns:
        A model from images `[batch, height, width, channels]` to frozen features; None if all of it is trained.
    """
    return next((layer for layer in student.layers if layer.name == FROZEN), None)


def learning_input(student: keras.Model) -> keras.KerasTensor:
    """Return the input of the part of a student that is trained.

    Args:
        student: A functional model from images to `(f, g)`.

    Returns:
        The symbolic frozen features; the images if there is no frozen part.
    """
    return student.inputs[0] if frozen_part(student) is None else student.get_layer(FROZEN_FEATURES).output


def learning_part(student: keras.Model) -> keras.Model:
    """Return the part of a student that is trained, with shared weights.

    Args:
        student: A functional model from images to `(f, g)`.

    Returns:
        A model from `learning_input` to `(f, g)`; the student itself if there is no frozen part.
    """
    if frozen_part(student) is None:
        return student
    return keras.Model(learning_input(student), student.outputs, name="learning")


def add_lora(backbone: keras.Model, rank: int) -> None:
    """Freeze a backbone, and add a trainable low-rank product to each of its dense layers.

    Args:
        backbone: What `build_backbone` returns; it is changed in place.
        rank: Rank of the products.

    Raises:
        UserError: If it has no dense layers, like a convolutional network.
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
    """Add each low-rank product of a model to its kernel.

    Args:
        model: A functional model, such as a student whose backbone `add_lora` has changed.

    Returns:
        A copy with plain layers and the same outputs; the model itself if it has no such product.
    """
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
    """Compute the factor by which the learning rate of each variable falls with its depth below the heads.

    As in ELECTRA (Clark et al., ICLR 2020, arXiv 2003.10555), it is `decay` to the power of the number of blocks from a
    variable's own up to the heads. Layers in front of all blocks are one deeper than the first block.

    Args:
        student: What `build_student` returns.
        decay: In (0, 1].

    Returns:
        The factor of each trainable variable of the trunk, by the variable's id. For the heads it is 1.
    """
    scales: dict[int, float] = {}
    if decay == 1.0:
        return scales
    for trunk in (layer for layer in student.layers if isinstance(layer, keras.Model) and layer.trainable_variables):
        # A trunk that was cut down to one block has no names of several.
        ends = block_ends(trunk) if len(trunk.layers) > 1 and _has_blocks(trunk) else []
        names = [layer.name for layer in trunk.layers]
        places = [names.index(end) for end in ends]
        for index, layer in enumerate(trunk.layers):
            # Layers behind the last block, such as a final norm, count as part of it.
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
