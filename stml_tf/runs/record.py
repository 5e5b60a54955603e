"""A reader of run folders, finished or not, without TensorFlow."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from stml_tf.errors import UserError
from stml_tf.evaluation.health import Health
from stml_tf.evaluation.query_results import QueryResults
from stml_tf.files import read_any_json
from stml_tf.pages.evidence import Evidence
from stml_tf.pages.record import RunRecord, Setting
from stml_tf.recipe.load import load_recipe
from stml_tf.recipe.sections import Section
from stml_tf.runs.folder import RunFolder

BASELINES, QUERIES, EVIDENCE, HISTORY = "baselines", "queries", "evidence", "history"
_NO_SETTINGS = ("name", "about", "reasons")
Kind = TypeVar("Kind")


# What is read of a run's files. The recipe as it is written, since what it names may not be registered here.


class _Training(BaseModel):
    epochs: int = 0


class _Model(BaseModel):
    weights: str | None = None


class _Evaluation(BaseModel):
    normalize: bool = True


class _Recipe(BaseModel):
    name: str
    about: str = ""
    method: str = "self_taught"
    training: _Training = _Training()
    model: _Model = _Model()
    evaluation: _Evaluation = _Evaluation()


class _History(BaseModel):
    before: Health | None = None
    pretrained: bool | None = None
    epochs: list[dict[str, int | float | None]] | None = None
    stopped: str | None = None
    training_images: int | None = None
    test_images: int | None = None
    steps_per_epoch: int | None = None
    made_with: dict[str, str] = {}


class _Metrics(BaseModel):
    results: dict[str, dict[str, int | float]]
    epochs: list[dict[str, int | float | None]] = []
    saved_model: str | None = None


def _checked(kind: type[Kind], content: Mapping[str, Any], file: Path) -> Kind:
    """Read the content of a file that is intact, but may come from another version of this package."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{file} is not what this version of stml-tf writes ({'.'.join(map(str, first['loc']))}: {first['msg']}). "
            "Leave this run out, or read it with the version that made it."
        ) from None


def read_run(path: Path) -> RunRecord:
    """Read what a run left in its folder.

    Raises:
        UserError: If the folder holds no run, or a file of it is damaged.
    """
    folder = RunFolder(path)
    if not folder.recipe_file.exists():
        raise UserError(
            f"{path} is not a run folder: it lacks {folder.recipe_file.name}. Give the folder that `stml-tf train` "
            "named at its end, such as runs/quickstart."
        )
    document = read_any_json(folder.recipe_file)
    recipe = _checked(_Recipe, document, folder.recipe_file)
    history = _checked(_History, folder.kept_json(HISTORY) or {}, path / f"{HISTORY}.json")
    # What was measured before training is known of a run without an end too.
    metrics = folder.read_metrics() if folder.is_over() else folder.kept_json(BASELINES) or {}
    rows = {
        row: value
        for row, value in metrics.items()
        if isinstance(value, dict) and row != "best_epoch" and "map@r" in value
    }
    measured = _checked(_Metrics, {**metrics, "results": rows}, folder.metrics_file)
    evidence = folder.kept_json(EVIDENCE)
    stopped = None if folder.is_over() else history.stopped
    return RunRecord(
        name=recipe.name,
        path=str(path),
        about=recipe.about,
        status="finished" if folder.is_over() else "stopped" if stopped else "unfinished",
        stopped=stopped,
        epochs_planned=recipe.training.epochs if recipe.method != "whiten" else 0,
        epochs=measured.epochs if history.epochs is None else history.epochs,
        before=history.before,
        pretrained=recipe.model.weights is not None if history.pretrained is None else history.pretrained,
        results=measured.results,
        reached="as_exported" if "as_exported" in measured.results else "after_training",
        queries=_queries(folder),
        settings=[*_settings(folder, document)],
        facts=_facts(history),
        evidence=evidence and _checked(Evidence, evidence, path / f"{EVIDENCE}.json"),
        saved_model=measured.saved_model,
        normalized=recipe.evaluation.normalize,
    )


def keep_queries(folder: RunFolder, queries: Mapping[str, QueryResults]) -> None:
    """Keep what each query found, by row of the results, for intervals of the means."""
    arrays = {}
    for row, results in queries.items():
        arrays[f"{row}.recall@{results.recall_at[0]}"] = results.found[:, 0]
        arrays[f"{row}.map@r"] = results.average_precision.astype(np.float32)
    folder.keep_arrays(QUERIES, arrays)


def _queries(folder: RunFolder) -> dict[str, dict[str, np.ndarray]]:
    by_row: dict[str, dict[str, np.ndarray]] = {}
    for name, array in (folder.kept_arrays(QUERIES) or {}).items():
        if array.ndim != 1 or array.dtype.kind not in "bfiu":
            raise UserError(f"{folder.path / QUERIES}.npz is not what stml-tf writes: {name} is no list of numbers.")
        row, _, metric = name.partition(".")
        by_row.setdefault(row, {})[metric] = array
    return by_row


def _facts(history: _History) -> dict[str, str]:
    counts = {
        "training images": history.training_images,
        "test images": history.test_images,
        "steps an epoch": history.steps_per_epoch,
    }
    return {**{name: f"{count:,}" for name, count in counts.items() if count is not None}, **history.made_with}


def _settings(folder: RunFolder, document: Mapping[str, Any]) -> Iterator[Setting]:
    """Yield the recipe's values, including defaults if everything that it names is registered."""
    try:
        recipe = load_recipe(folder.recipe_file, check_files=False)
    except UserError:
        for key, value in _flat(document):
            yield Setting(key, json.dumps(value), None)
        return
    for name, section in recipe:
        if isinstance(section, Section):
            for key, info in type(section).model_fields.items():
                yield _setting(f"{name}.{key}", getattr(section, key), info)
        elif name not in _NO_SETTINGS:
            yield _setting(name, section, type(recipe).model_fields[name])


def _setting(key: str, value: Any, info: FieldInfo) -> Setting:
    default = None if info.is_required() else json.dumps(info.get_default(call_default_factory=True))
    return Setting(key, json.dumps(value), default, info.description or "")


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if not prefix and key in _NO_SETTINGS:
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
