"""The model card beside an export, filled in from the template that `saved_models/README.md` shows and explains."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

# Installed with the package, or at the top of a checkout.
_TEMPLATES = (
    Path(__file__).parents[1] / "shipped_model_card" / "README.md",
    Path(__file__).parents[2] / "saved_models" / "README.md",
)
_NOT_RECORDED = "Not recorded."


def render_model_card(metadata: Mapping[str, Any]) -> str:
    """Fill in the template.

    Args:
        metadata: What the export knows (`embedding_dim`, `size`, `resize`, `normalize`, `dtype`, `batch_size`,
            `version`, `exported`, `software`) and what it was told: `name`, `about`, `data` (text), `recipe`, `metrics`
            (tables), `quantization` and `unfinished`. What is not there is said to be not recorded.

    Returns:
        The card, Markdown.
    """
    path = next(path for path in _TEMPLATES if path.is_file())
    (template,) = re.findall(r"^````markdown\n(.*?)^````$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return Template(template).substitute(
        name=metadata.get("name", "Embedding network"),
        about=metadata.get("about") or _NOT_RECORDED,
        data=metadata.get("data") or _NOT_RECORDED,
        metrics=_unfinished(metadata) + _table(metadata.get("metrics", {})),
        recipe=_code(metadata["recipe"]) if "recipe" in metadata else _NOT_RECORDED,
        embedding_dim=metadata["embedding_dim"],
        dtype=metadata["dtype"],
        batch_size=metadata["batch_size"],
        weights=describe_weights(metadata),
        normalized="L2-normalised" if metadata["normalize"] else "not normalised",
        size=metadata["size"],
        resize=metadata["resize"],
        version=metadata["version"],
        exported=metadata["exported"],
        software=", ".join(f"{name} {version}" for name, version in metadata["software"].items()),
    )


def _unfinished(metadata: Mapping[str, Any]) -> str:
    """Write a warning before the metrics of a run that is not over."""
    if "unfinished" not in metadata:
        return ""
    return (
        f"The run is not over: these are the weights of its last checkpoint, after {metadata['unfinished']}, and what "
        "was measured of them.\n\n"
    )


def describe_weights(metadata: Mapping[str, Any]) -> str:
    """Say what the weights are, and what 8-bit ones cost."""
    cost = metadata.get("quantization")
    if cost is None:
        return "Weights are kept as they were trained."
    sentence = (
        f"Weights are 8-bit integers with a scale for each channel: on {cost['images']:,} images the cosine to the "
        f"embedding by the original weights is at least {cost['least_cosine']:.4f}"
    )
    if "recall@1_int8" not in cost:
        return f"{sentence}; there were no test images to measure R@1 on."
    return (
        f"{sentence}, and R@1 is {cost['recall@1_int8']:.4f} in place of {cost['recall@1_float32']:.4f}. Other results "
        "are those of the original weights."
    )


def _table(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return _NOT_RECORDED
    rows = [f"| {name} | {f'{value:.4f}' if isinstance(value, float) else value} |" for name, value in metrics.items()]
    return "\n".join(["| metric | value |", "|---|---|", *rows])


def _code(recipe: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(recipe, indent=2, ensure_ascii=False)}\n```"
