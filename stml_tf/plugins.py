"""Plug-ins: modules from outside the package that register backbones, data sets, losses and methods.

A run and a SavedModel record which names in their recipe were registered, and by what, so that whoever opens them is
told what to import. This module itself loads no TensorFlow.
"""

import inspect
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from stml_tf.errors import UserError, did_you_mean
from stml_tf.registry import REGISTERS, registering, resolve

Record = dict[str, str]  # kind, name, origin and, where there is one, the file


def import_plugin(module: str) -> None:
    """Import a module that registers something.

    Args:
        module: Name of a module, which may be in the current folder, or path of a `.py` file.

    Raises:
        UserError: If there is no such module, or it registers nothing new.
    """
    before = _registered()
    with registering(module):
        if module.endswith(".py"):
            _import_file(Path(module))
        else:
            _import_by_name(module)
    if not (_registered() - before or module in {origin for _, _, origin in before}):
        raise UserError(
            f"--import {module} registers nothing: let it call stml_tf.register_backbone, register_loss, "
            "register_source or register_method when it is imported."
        )


def records_of(names: Mapping[str, str]) -> list[Record]:
    """Record which of a recipe's names were registered from outside the package.

    Args:
        names: The names in the recipe, by kind.

    Returns:
        A record of each, with its kind, its name and what registered it.
    """
    entries = [(kind, REGISTERS[kind].get(name)) for kind, name in names.items()]
    return [
        {"kind": kind, "name": entry.name, "origin": entry.origin, **_file_of(entry.build)}
        for kind, entry in entries
        if entry is not None and entry.origin is not None
    ]


def require_registered(records: Iterable[Mapping[str, str]], owner: Any) -> None:
    """Refuse to open a run or a SavedModel if something that it was made with is not registered.

    Args:
        records: What `records_of` returned when it was made.
        owner: What is opened, for the message.

    Raises:
        UserError: Naming each import or object that is missing.
    """
    records = list(records)
    if unknown := {str(record.get("kind")) for record in records} - REGISTERS.keys():
        raise UserError(f"{owner} names parts that this version does not know: {', '.join(sorted(unknown))}.")
    missing = [record for record in records if record["name"] not in REGISTERS[record["kind"]]]
    if missing:
        raise UserError("\n".join([f"{owner} cannot be opened without what it was made with:", *map(_advice, missing)]))


def _advice(record: Mapping[str, str]) -> str:
    if record["name"] == "given":
        argument = {"data set": "images"}.get(record["kind"], record["kind"])
        return f"  {record['origin']}, which was passed to train(): pass it again, as {argument}=..."
    return (
        f'  the {record["kind"]} "{record["name"]}", which {record["origin"]} registers: add --import '
        f"{record['origin']}, or in Python, import it first"
    )


def _registered() -> set[tuple[str, str, str]]:
    return {
        (kind, entry.name, entry.origin)
        for kind, register in REGISTERS.items()
        for entry in register.values()
        if entry.origin is not None
    }


def _import_file(file: Path) -> None:
    if not file.is_file():
        raise UserError(f"--import {file}: no such file; give a .py file, or the name of a module.")
    spec = spec_from_file_location(file.stem, file)
    module = module_from_spec(spec)
    sys.modules[file.stem] = module  # where Keras looks for classes when it loads them
    spec.loader.exec_module(module)


def _import_by_name(name: str) -> None:
    if (here := str(Path.cwd())) not in sys.path:  # `python -m` puts it there, an installed command does not
        sys.path.insert(0, here)
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        files = [file.stem for file in Path.cwd().glob("*.py")]
        raise UserError(
            f"--import {name}: no such module, neither installed nor in {here}{did_you_mean(name, files)}"
        ) from error


def _file_of(build: Any) -> dict[str, str]:
    try:
        return {"file": str(Path(inspect.getfile(resolve(build))).resolve())}
    except (TypeError, OSError):  # an object without source, such as a model
        return {}
