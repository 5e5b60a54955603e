"""A reader of run folders, finished or not, without TensorFlow."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
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
    history = folder.kept_json(HISTORY) or {}
    # What was measured before training is known of a run without an end too.
    metrics = folder.read_metrics() if folder.is_over() else folder.kept_json(BASELINES) or {}
    evidence = folder.kept_json(EVIDENCE)
    results = {
        row: value
        for row, value in metrics.items()
        if isinstance(value, dict) and row != "best_epoch" and "map@r" in value
    }
    stopped = None if folder.is_over() else history.get("stopped")
    reached = "as_exported" if "as_exported" in results else "after_training"
    return RunRecord(
        name=document["name"],
        path=str(path),
        about=document.get("about", ""),
        status="finished" if folder.is_over() else "stopped" if stopped else "unfinished",
        stopped=stopped,
        epochs_planned=document.get("training", {}).get("epochs", 0) if document.get("method") != "whiten" else 0,
        epochs=history.get("epochs", metrics.get("epochs", ())),
        before=Health(**history["before"]) if history.get("before") else None,
        pretrained=history.get("pretrained", document.get("model", {}).get("weights") is not None),
        results=results,
        reached=reached,
        queries=_queries(folder),
        settings=[*_settings(folder, document)],
        facts=_facts(history),
        evidence=evidence and Evidence.from_json(evidence),
        saved_model=metrics.get("saved_model"),
        normalized=document.get("evaluation", {}).get("normalize", True),
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
        row, _, metric = name.partition(".")
        by_row.setdefault(row, {})[metric] = array
    return by_row


def _facts(history: Mapping[str, Any]) -> dict[str, str]:
    counts = {
        "training images": history.get("training_images"),
        "test images": history.get("test_images"),
        "steps an epoch": history.get("steps_per_epoch"),
    }
    return {
        **{name: f"{count:,}" for name, count in counts.items() if count is not None},
        **history.get("made_with", {}),
    }


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
