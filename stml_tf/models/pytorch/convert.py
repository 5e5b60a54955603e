"""Writes a PyTorch checkpoint as a Keras weights file."""

from pathlib import Path
from typing import Any

from stml_tf.errors import UserError
from stml_tf.models.backbones.by_name import build_backbone, require_own_network
from stml_tf.models.pytorch.names import HEADS, load_pytorch_weights
from stml_tf.models.pytorch.read import read_pytorch_checkpoint
from stml_tf.models.student import build_student


def convert_pytorch_weights(source: Any, backbone: str, out: Path, *, heads: bool = True) -> dict[str, Any]:
    """Write a PyTorch checkpoint as the Keras weights file that a recipe's `model.weights` names.

    Args:
        source: What `read_pytorch_checkpoint` takes.
        backbone: Name of a network of our own.
        out: The file to write; ends in `.weights.h5`.
        heads: Whether a checkpoint with both heads, of the authors' training code, becomes a whole student; otherwise
            the backbone alone is written.

    Returns:
        What belongs into the `model` section of a recipe that begins with these weights.

    Raises:
        UserError: If a name is not one of the allowed, or the checkpoint is not of this network.
    """
    require_own_network(backbone)
    if not str(out).endswith(".weights.h5"):
        raise UserError(f"{out}: the name of a Keras weights file ends in .weights.h5")
    arrays = read_pytorch_checkpoint(source)
    section = {"backbone": backbone, "weights": str(out)}
    embedding, auxiliary = (arrays.get(f"{head}.weight") for head in HEADS.values())
    if heads and embedding is not None and auxiliary is not None:
        widths = {"embedding_dim": len(embedding), "teacher_dim": len(auxiliary)}
        model = build_student(backbone, **widths)
        section |= widths
    else:
        model = build_backbone(backbone)
    load_pytorch_weights(model, arrays)
    out.parent.mkdir(parents=True, exist_ok=True)
    model.save_weights(out)
    return section
