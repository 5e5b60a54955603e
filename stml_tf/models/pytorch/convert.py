"""Writes a PyTorch checkpoint as a Keras weights file."""

from pathlib import Path
from typing import Any

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.models.backbones.by_name import build_backbone, require_own_network
from stml_tf.models.pytorch.names import HEADS, load_pytorch_weights
from stml_tf.models.pytorch.read import read_pytorch_checkpoint
from stml_tf.models.student import build_student


def convert_pytorch_weights(
    source: Any, backbone: str, out: Path, *, heads: bool = True, overwrite: bool = False
) -> dict[str, Any]:
    """Write a PyTorch checkpoint as the Keras weights file that a recipe's `model.weights` names.

    Args:
        source: What `read_pytorch_checkpoint` takes.
        backbone: Name of a network of our own.
        out: The file to write; ends in `.weights.h5`.
        heads: Whether a checkpoint with both heads, of the authors' training code, becomes a whole student; otherwise
            the backbone alone is written.
        overwrite: Replace a file that this function wrote; nothing else is replaced.

    Returns:
        What belongs into the `model` section of a recipe that begins with these weights.

    Raises:
        UserError: If a name is not one of the allowed, or the checkpoint is not of this network.
    """
    require_own_network(backbone)
    check_weights_output(out, overwrite=overwrite)
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
    check_weights_output(out, overwrite=overwrite)
    size = sum(4 * variable.shape.num_elements() for variable in model.variables)
    # HDF5 ends the process where the disk is full.
    files.require_room(out.parent, size + size // 10 + 1_000_000)
    with files.whole_file(out) as partial:
        model.save_weights(partial)
        files.seal(partial)
    return section


def check_weights_output(out: Path, *, overwrite: bool = False) -> None:
    """Refuse an output that is no name of a Keras weights file, or that would replace something else.

    Raises:
        UserError: If it is so.
    """
    if not str(out).endswith(".weights.h5"):
        raise UserError(f"{out}: the name of a Keras weights file ends in .weights.h5")
    files.refuse_existing(out, suffixes=[".weights.h5"], ours=_is_ours, overwrite=overwrite)


def _is_ours(file: Path) -> bool:
    try:
        return files.is_sealed(file)
    except files.DamagedError:
        return True
