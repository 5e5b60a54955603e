"""The record of a run, from which its page and comparisons with other runs are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

import numpy as np

from stml_tf.evaluation.health import Health
from stml_tf.pages.evidence import Evidence

_HEALTH = "health/"


@dataclass(frozen=True)
class Setting:
    """A value of a recipe.

    Attributes:
        key: Its path, such as `loss.sigma`.
        value: As JSON.
        default: As JSON; None where the key has none.
        about: What the key means.
    """

    key: str
    value: str
    default: str | None
    about: str = ""

    @property
    def differs(self) -> bool:
        return self.value != self.default


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A run, as its folder tells of it.

    Attributes:
        name: Its recipe's.
        path: Its folder.
        about: What its recipe is for.
        status: Whether it came to its end, was stopped, or neither yet.
        stopped: Why it was stopped.
        epochs_planned: How many it was to have; 0 where its method takes no steps.
        epochs: What each complete epoch logged, by name.
        before: Health before training; None where it was not measured.
        pretrained: Whether the network started from weights that others had trained.
        results: What was measured, by row and metric; of a run without an end, what was before training.
        reached: The row of what the run made.
        queries: By row, what each query found: `recall@1` and `map@r`, `[queries]`.
        settings: All of its recipe.
        facts: Versions, devices and counts, by name.
        evidence: What was seen of images; None where nobody looked.
        saved_model: Where the network is; None where there is none.
        normalized: Whether embeddings are measured L2-normalised.
    """

    name: str
    path: str
    about: str = ""
    status: Literal["finished", "stopped", "unfinished"] = "finished"
    stopped: str | None = None
    epochs_planned: int = 0
    epochs: Sequence[Mapping[str, float | None]] = ()
    before: Health | None = None
    pretrained: bool = False
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reached: str = "after_training"
    queries: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    settings: Sequence[Setting] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence | None = None
    saved_model: str | None = None
    normalized: bool = True

    @property
    def healths(self) -> list[Health]:
        """The health of each epoch that it was measured of, before training first."""
        after = [health for logs in self.epochs if (health := health_of(logs))]
        return [*([self.before] if self.before else []), *after]

    @property
    def free(self) -> dict[str, Mapping[str, float]]:
        """The results that can be had without training."""
        return {row: metrics for row, metrics in self.results.items() if row != self.reached}


def health_of(logs: Mapping[str, Any]) -> Health | None:
    """Read the health that an epoch logged; None where it was not measured."""
    values = {each.name: logs.get(f"{_HEALTH}{each.name}") for each in fields(Health)}
    known = all(values[each.name] is not None for each in fields(Health) if each.default is MISSING)
    return Health(**values) if known else None
