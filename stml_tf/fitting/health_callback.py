"""Watches without labels whether an embedding learns, and stops a run whose embedding collapses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import keras
import numpy as np

from stml_tf.evaluation.health import Health, Verdict, measure_health, verdict
from stml_tf.fitting.callbacks import TrainingRuined

SCORE = "health"
_PREFIX = "health/"
_PATIENCE = 2


class HealthCallback(keras.callbacks.Callback):
    """Adds the health of the embedding to the logs of each epoch. Stands before the callbacks that read the logs.

    Args:
        embed_views: Returns embeddings `[2, images, dim]` of two views of the same images, as the network is now.
        start: What it returned before training.
        last: What it returned after the epoch before; None where that is not known.
        remember: Is called with the number of complete epochs and what `embed_views` returned then.
        pretrained: Whether the start is worth something, so that falling below it is a finding.

    Attributes:
        verdict: What the health of the last epoch says, beside all before.
        views: What `embed_views` returned last.
        before: The health before training.
        epochs_collapsing: For how many epochs the run has been collapsing.
    """

    def __init__(
        self,
        embed_views: Callable[[], np.ndarray],
        *,
        start: np.ndarray,
        last: np.ndarray | None = None,
        remember: Callable[[int, np.ndarray], None] = lambda epoch, views: None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.embed_views = embed_views
        self.start = start
        self.remember = remember
        self.pretrained = pretrained
        self.verdict = Verdict.HEALTHY
        self.epochs_collapsing = 0
        self.views = last
        self._history = [measure_health(start)]

    @property
    def before(self) -> Health:
        return self._history[0]

    @property
    def now(self) -> Health:
        """The health of the last epoch."""
        return self._history[-1]

    def go_on(self, history: Sequence[Mapping[str, float | None]]) -> None:
        """Take up what the complete epochs of a run logged, before it is resumed."""
        for logs in history:
            self._judge(Health(**{field.name: logs.get(f"{_PREFIX}{field.name}") for field in fields(Health)}))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if len(self._history) == 1:
            self.views = self.start

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        views = self.embed_views()
        health = measure_health(views, last=self.views, start=self.start)
        self.views = views
        self.remember(epoch + 1, views)
        self._judge(health)
        if logs is not None:
            logs[SCORE] = health.score
            logs.update({f"{_PREFIX}{name}": value for name, value in asdict(health).items() if value is not None})

    def _judge(self, health: Health) -> None:
        self._history.append(health)
        self.verdict = verdict(self._history, frozen=self._history[0] if self.pretrained else None)
        self.epochs_collapsing = self.epochs_collapsing + 1 if self.verdict is Verdict.COLLAPSING else 0


class StopWhenCollapsed(keras.callbacks.Callback):
    """Stops a run that has been collapsing for two epochs.

    Stands behind what shows and records an epoch, so that its last one is told, and before what keeps the network.

    Args:
        health: Watches the run.

    Raises:
        TrainingRuined: If the embedding collapses.
    """

    def __init__(self, health: HealthCallback) -> None:
        super().__init__()
        self.health = health

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.health.epochs_collapsing < _PATIENCE:
            return
        now = self.health.now
        raise TrainingRuined(
            f"Training stopped after epoch {epoch + 1}, as the embedding collapses: images look alike to the "
            f"network (mean cosine {now.cosine_mean:.2f}, effective rank {now.effective_rank:.1f}, "
            f"{self.health.before.effective_rank:.1f} before training; two views of an image find each other in "
            f"{now.view_agreement:.0%} of cases). Nothing was exported. Lower optimizer.learning_rate, raise "
            "loss.sigma, or set teacher.center; or continue regardless with training.stop_when_collapsed=false."
        )
