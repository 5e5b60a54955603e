"""The commands that tell of runs that are over, or stopped: parse, call, print. Neither loads TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stml_tf.cli.errors import errors_as_messages, verbose_option
from stml_tf.cli.terminal import say, tell, visible

if TYPE_CHECKING:
    from rich.table import Table

    from stml_tf.pages.comparison import Line

runs_argument = click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
ANY_PATH = click.Path(path_type=Path)


@click.command()
@runs_argument
@click.option("-o", "--out", type=ANY_PATH, help="Write one page to this .html file, several runs side by side.")
@click.option("--overwrite", is_flag=True, help="Replace a page that stml-tf wrote to that file earlier.")
@verbose_option
def report(runs: tuple[Path, ...], out: Path | None, overwrite: bool, verbose: bool) -> None:
    """Write report.html again in each of the run folders RUNS, or a single page of all of them with -o."""
    with errors_as_messages(verbose):
        from stml_tf.pages.report import report_page
        from stml_tf.runs.folder import RunFolder
        from stml_tf.runs.record import read_run

        if out is not None:
            _refuse_existing(out, overwrite=overwrite)
        records = [read_run(run) for run in runs]
        if out is not None:
            _write(out, report_page(records))
            return
        for run, record in zip(runs, records, strict=True):
            folder = RunFolder(run)
            folder.write_report(report_page([record]))
            tell(f"Page written to {visible(folder.report)}")


@click.command()
@runs_argument
@click.option("--html", type=ANY_PATH, help="Also write the comparison as a page to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--overwrite", is_flag=True, help="Replace a page that stml-tf wrote to that file earlier.")
@verbose_option
def compare(runs: tuple[Path, ...], html: Path | None, as_json: bool, overwrite: bool, verbose: bool) -> None:
    """Compare RUNS, the folders of two runs or more: the settings that differ, metrics and health."""
    with errors_as_messages(verbose):
        from rich.console import Console

        from stml_tf.errors import UserError
        from stml_tf.pages import comparison
        from stml_tf.runs.record import read_run

        if len(runs) < 2:
            raise UserError("one run given, but a comparison needs two or more: name another, or see stml-tf report")
        if html is not None:
            _refuse_existing(html, overwrite=overwrite)
        records = [read_run(run) for run in runs]
        if as_json:
            tell(json.dumps(comparison.as_json(records), indent=2))
        else:
            compared, console = comparison.compare_runs(records), Console()
            console.print(_table("result", compared.names, compared.results))
            if compared.note:
                tell(compared.note)
            if compared.settings:
                console.print(_table("setting", compared.names, compared.settings))
            else:
                tell("The recipes are the same.")
        if html is not None:
            _write(html, comparison.comparison_page(records))


def _table(what: str, names: Sequence[str], lines: Sequence[Line]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column(what)
    for name in names:
        table.add_column(Text(visible(name)), overflow="fold")
    for line in lines:
        values = zip(line.values, line.best, strict=True)
        table.add_row(Text(line.name), *(Text(visible(value), style="bold" if best else "") for value, best in values))
    return table


def _refuse_existing(file: Path, *, overwrite: bool) -> None:
    from stml_tf.files import begins_with, refuse_existing
    from stml_tf.pages.template import START

    refuse_existing(
        file, suffixes=[".html", ".htm"], ours=lambda there: begins_with(there, START.encode()), overwrite=overwrite
    )


def _write(file: Path, page: str) -> None:
    from stml_tf.files import write_bytes

    write_bytes(file, page.encode())
    say(f"Page written to {file}")
