"""The command that tries settings of a recipe: parse, call, print."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stml_tf.cli.errors import Stopped, errors_as_messages, verbose_option
from stml_tf.cli.quiet import import_tensorflow
from stml_tf.cli.recipe_options import data_dir_option, import_option, import_plugins, recipe_argument, set_option
from stml_tf.cli.terminal import number, tell, visible

if TYPE_CHECKING:
    from rich.table import Table

    from stml_tf.runs.study import Outcome

_RECALL = {"heldout": "R@1 held out", "test": "R@1 test"}


@click.command()
@recipe_argument
@click.option(
    "--param",
    "parameters",
    multiple=True,
    metavar="KEY.PATH=VALUES",
    help="Values to try, such as loss.sigma=0.1,0.3,1, or a range, loss.sigma=0.1..1, or loss.sigma=0.1..1:log, which "
    "tries small values as often as large ones; may be repeated.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="Number of settings to try. The default is all combinations if there are at most 30, else 20 drawn by Optuna.",
)
@click.option(
    "--on",
    type=click.Choice(["score", "heldout", "test"]),
    default="score",
    show_default=True,
    help="The criterion. score: the health score, which needs no labels. heldout: R@1 on a quarter of the training "
    "classes, which are held out of training. test: R@1 on the test classes, which then no longer says what the "
    "network reaches on unseen classes.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the sweep; runs/NAME-sweep by default.")
@click.option("--resume", is_flag=True, help="Continue the sweep in the folder, also with more --trials.")
@set_option
@import_option
@data_dir_option
@verbose_option
def sweep(
    recipe: str,
    parameters: tuple[str, ...],
    trials: int | None,
    on: str,
    out: Path | None,
    resume: bool,
    overrides: tuple[str, ...],
    modules: tuple[str, ...],
    data_dir: Path | None,
    verbose: bool,
) -> None:
    """Train RECIPE with varied settings, and find the best ones without the test classes.

    Each trial is a run in the folder of the sweep, without an export. Trials that fall behind the others end early.
    """
    with errors_as_messages(verbose):
        from stml_tf.recipe.load import read_document
        from stml_tf.runs.search_space import parse_parameters, require_accepted
        from stml_tf.runs.study import require_optuna

        import_plugins(modules)
        # What can be refused is refused before TensorFlow loads.
        tried = parse_parameters(parameters)
        name, document = read_document(recipe, overrides)
        require_accepted(tried, document, name)
        require_optuna()
        import_tensorflow()
        from rich.console import Console

        from stml_tf.runs.sweep import sweep as run_sweep

        found = run_sweep(
            recipe,
            tried,
            overrides=overrides,
            on=on,
            trials=trials,
            data_dir=data_dir,
            folder=out,
            resume=resume,
        )
        Console().print(_table(found.outcomes, on=on))
        if found.best is None:
            raise Stopped(
                f"None of the {number(len(found.outcomes), 'trial')} came to its end: {_reason(found.outcomes)}"
            )
        tell(f"Best recipe: {visible(found.recipe_file)}")
        tell(f"Train it: {_command(recipe, overrides, found.best, modules, data_dir)}")
        if on == "test":
            tell("The test classes chose these settings: what is measured on them is no longer a fair result.")


def _table(outcomes: list[Outcome], *, on: str) -> Table:
    """Lay the outcomes of the trials out as a table, best first."""
    from rich.table import Table
    from rich.text import Text

    keys = list(outcomes[0].settings) if outcomes else []
    recall = [_RECALL[on]] if on in _RECALL else []
    table = Table(box=None)
    for name in ("trial", *keys):
        table.add_column(Text(name))
    for name in ("score", *recall, "epochs"):
        table.add_column(name, justify="right")
    table.add_column("ended")
    for outcome in outcomes:
        recalled = "" if outcome.recall is None else f"{100 * outcome.recall:.1f}"
        table.add_row(
            outcome.folder,
            *(Text(_short(outcome.settings[key])) for key in keys),
            "" if outcome.score is None else f"{outcome.score:.3f}",
            *([recalled] if recall else []),
            str(outcome.epochs),
            outcome.ended,
        )
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _reason(outcomes: list[Outcome]) -> str:
    return next((outcome.why for outcome in outcomes if outcome.why), "all were pruned")


def _command(
    recipe: str, overrides: tuple[str, ...], best: Mapping[str, Any], modules: tuple[str, ...], data_dir: Path | None
) -> str:
    """Return the command that trains the recipe with the best settings."""
    from stml_tf.runs.search_space import as_override

    words = ["stml-tf", "train", recipe]
    for override in (*overrides, *(as_override(key, value) for key, value in best.items())):
        words += ["--set", override]
    for module in modules:
        words += ["--import", module]
    return visible(shlex.join([*words, *(["--data-dir", str(data_dir)] if data_dir else [])]))
