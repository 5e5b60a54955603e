"""`history.json`: the course of a run, written anew after each epoch, so that one without an end has it too."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

import tensorflow as tf

from stml_tf import __version__
from stml_tf.fitting.health_callback import HealthCallback
from stml_tf.runs.prepare import Run

HISTORY = "history"


def write_history(
    run: Run,
    health: HealthCallback | None,
    epochs: Sequence[dict[str, float | None]],
    *,
    stopped: str | None = None,
) -> None:
    """Write what is known of a run so far.

    Args:
        run: The run.
        health: What watches its health, if anything does.
        epochs: What each complete epoch logged.
        stopped: Why it was stopped; None where it goes on.
    """
    content = {
        "before": asdict(health.before) if health else None,
        "pretrained": run.recipe.model.weights is not None,
        "epochs": list(epochs),
        "stopped": stopped,
        "training_images": len(run.data.images),
        "test_images": len(run.test) if run.test else 0,
        "steps_per_epoch": run.data.batches.steps_per_epoch,
        "made_with": _made_with(run),
    }
    run.folder.keep_json(HISTORY, content)


def _made_with(run: Run) -> dict[str, str]:
    """Versions and devices, by name."""

    def of_package(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "unknown"

    kinds = [device.device_type for device in tf.config.get_visible_devices()]
    devices = "GPU" if "GPU" in kinds else "CPU"
    packages = {name: of_package(name) for name in ("tensorflow", "keras", "numpy")}
    return {
        "stml-tf": __version__,
        **packages,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "devices": f"{run.strategy.num_replicas_in_sync} x {devices}",
    }
