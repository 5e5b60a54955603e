"""`stml-tf recipes`: the recipes that come with stml-tf, as wide as the terminal."""

import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator

import click

from stml_tf.cli.errors import errors_as_messages
from stml_tf.cli.terminal import tell
from stml_tf.errors import UserError, did_you_mean

_NARROWEST = 34  # columns for text beside the names; with fewer, it stands below them
_INDENT = 4


def _complete_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from stml_tf.recipe.load import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_complete_names)
def recipes(names: tuple[str, ...]) -> None:
    """List the recipes that come with stml-tf, grouped by their data; or say all about those of the given NAMEs."""
    with errors_as_messages(False):
        from stml_tf.recipe.load import shipped_recipes

        shipped = shipped_recipes()
        for name in names:
            if name not in shipped:
                raise UserError(
                    f'"{name}" given; allowed: the name of a shipped recipe, see stml-tf recipes'
                    f"{did_you_mean(name, shipped)}"
                )
        width = shutil.get_terminal_size().columns
        if names:
            for name in names:
                tell("\n".join([name, *_wrapped(shipped[name], width, indent=_INDENT)]))
            return
        column = max(map(len, shipped)) + 2
        groups = (
            [line for name in group for line in _entry(name, shipped[name], width, column)]
            for group in _groups(shipped)
        )
        tell("\n\n".join("\n".join(group) for group in groups))
        tell("\n" + "\n".join(_wrapped("stml-tf recipes NAME says more of one, stml-tf train NAME trains it.", width)))


def _groups(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield names with the same first word together; before them, those that share theirs with no other."""
    names = sorted(names)
    words = Counter(map(_first_word, names))
    yield [name for name in names if words[_first_word(name)] == 1]
    for word, count in words.items():
        if count > 1:
            yield [name for name in names if _first_word(name) == word]


def _first_word(name: str) -> str:
    return name.partition("_")[0]


def _entry(name: str, about: str, width: int, column: int) -> list[str]:
    """Format a name and what it is for in a few words: beside it or, in a narrow terminal, below."""
    text = _in_short(about)
    if width - column < _NARROWEST:
        return [name, *_wrapped(text, width, indent=_INDENT)]
    lines = _wrapped(text, width, indent=column)
    return [f"{name:<{column}}{lines[0].lstrip()}", *lines[1:]] if lines else [name]


def _in_short(about: str) -> str:
    """Return the beginning of a description, up to the end of its first sentence, or its first remark in brackets."""
    return re.split(r"\.(?:\s|$)| \(", about, maxsplit=1)[0]


def _wrapped(text: str, width: int, *, indent: int = 0) -> list[str]:
    margin = " " * min(indent, max(0, width - 20))
    return textwrap.wrap(text, max(width, 20), initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)
