"""Conversion of PyTorch checkpoints to Keras weights files."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import keras

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.models.backbones.by_name import build_backbone, require_own_network
from stml_tf.models.pytorch.names import HEADS, load_pytorch_weights
from stml_tf.models.pytorch.read import read_pytorch_checkpoint
from stml_tf.models.student import build_student


def convert_pytorch_weights(
    source: Any, backbone: str, out: Path, *, heads: bool = True, overwrite: bool = False
) -> dict[str, Any]:
    """Convert a PyTorch checkpoint to a Keras weights file for a recipe's `model.weights`.

    Args:
        source: What `read_pytorch_checkpoint` takes.
        backbone: Name of one of this package's own backbones.
        out: The file to write; its name ends in `.weights.h5`.
        heads: Whether a checkpoint with both heads, as the authors' training code writes it, becomes a whole student;
            otherwise only the backbone is written.
        overwrite: Whether to replace a file that this function wrote earlier; nothing else is ever replaced.

    Returns:
        The keys for the `model` section of a recipe that starts from these weights.

    Raises:
        UserError: If a name is not allowed, or the checkpoint does not fit the backbone.
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
    _write_weights(model, out.resolve())
    return section


def _write_weights(model: keras.Model, out: Path) -> None:
    """Write what `model.save_weights` writes, so that a full disk is an error like any other.

    HDF5 ends the process where the disk is full. In a `.keras` archive Keras writes the same weights file, which it
    makes in memory.
    """
    size = sum(variable.shape.num_elements() * 4 for variable in model.variables)
    files.require_room(out.parent, 2 * size)
    with files.work_folder(out) as work:
        model.save(work / "model.keras")
        with (
            zipfile.ZipFile(work / "model.keras") as archive,
            archive.open("model.weights.h5") as weights,
            files.write_file(out, sealed=True) as stream,
        ):
            shutil.copyfileobj(weights, stream)


def check_weights_output(out: Path, *, overwrite: bool = False) -> None:
    """Refuse to write to a name that is not a Keras weights file's, or over something else.

    Args:
        out: The file to write.
        overwrite: Whether a file that `convert_pytorch_weights` wrote may be replaced.

    Raises:
        UserError: If the file must not be written.
    """
    if not str(out).endswith(".weights.h5"):
        raise UserError(f"{out}: the name of a Keras weights file must end in .weights.h5")
    files.refuse_existing(out, suffixes=[".weights.h5"], ours=_is_ours, overwrite=overwrite)


def _is_ours(file: Path) -> bool:
    try:
        return files.is_sealed(file)
    except files.DamagedError:
        return True
