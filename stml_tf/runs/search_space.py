"""The settings that a sweep tries, as `--param` defines them."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stml_tf.errors import UserError
from stml_tf.recipe.errors import RecipeError
from stml_tf.recipe.load import load_recipe

if TYPE_CHECKING:
    import optuna

Settings = dict[str, Any]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|.', re.DOTALL)  # text in quotes, or a single character
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log)?")
_ALLOWED = (
    "allowed: KEY.PATH=VALUE,VALUE,... such as loss.sigma=0.1,0.3,1, or a range such as loss.sigma=0.1..1, or "
    "loss.sigma=0.1..1:log, which tries small values as often as large ones"
)
_MOST_TRIED = 50  # combinations that are tried before a value is called impossible


@dataclass(frozen=True)
class Choices:
    """A key of the recipe and the values to try."""

    key: str
    values: tuple[Any, ...]

    @property
    def examples(self) -> tuple[Any, ...]:
        """Values that the recipe has to take, each at least together with some of the other parameters."""
        return self.values

    def suggest(self, trial: optuna.Trial) -> Any:
        """Return the value for a trial."""
        return self.loaded(trial.suggest_categorical(self.key, [self.stored(value) for value in self.values]))

    def stored(self, value: Any) -> str:
        """Encode a value for Optuna, which has no lists."""
        return json.dumps(value)

    def loaded(self, stored: str) -> Any:
        """Decode a value that was stored."""
        return json.loads(stored)


@dataclass(frozen=True)
class Range:
    """A key of the recipe and the numbers between which to search; whole ones, if both ends are."""

    key: str
    low: float
    high: float
    log: bool = False

    @property
    def examples(self) -> tuple[Any, ...]:
        """Both ends."""
        return self.low, self.high

    def suggest(self, trial: optuna.Trial) -> Any:
        """Return the value for a trial."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        suggest = trial.suggest_int if whole else trial.suggest_float
        return suggest(self.key, self.low, self.high, log=self.log)

    def stored(self, value: float) -> float:
        """Encode a value for Optuna."""
        return value

    def loaded(self, stored: float) -> float:
        """Decode a value that was stored."""
        return stored


Parameter = Choices | Range


def parse_parameters(texts: Sequence[str]) -> list[Parameter]:
    """Read parameters as the command line has them, such as `loss.sigma=0.1,0.3,1` or `loss.sigma=0.1..1:log`.

    Args:
        texts: One each. A value that is not JSON is taken as text, as for `--set`.

    Raises:
        UserError: If there are none, one is malformed, or two have the same key.
    """
    if not texts:
        raise UserError(f"No --param was given, so there is nothing to try; {_ALLOWED}")
    parameters = [_parse(text) for text in texts]
    keys = [parameter.key for parameter in parameters]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"--param {key} was given {keys.count(key)} times; allowed: once, with all of its values")
        below = [other for other in keys if other.startswith(f"{key}.")]
        if below:
            raise UserError(
                f"--param {key} was given together with {below[0]}, which is a part of it; give one of them"
            )
    return parameters


def grid(parameters: Sequence[Parameter]) -> Iterator[Settings] | None:
    """Every combination of values, the last parameter changing first; None if a parameter is a range."""
    if any(isinstance(parameter, Range) for parameter in parameters):
        return None
    return _combinations(parameters)


def grid_size(parameters: Sequence[Parameter]) -> float:
    """Return the number of combinations of values; infinite if a parameter is a range."""
    return math.prod(len(each.values) if isinstance(each, Choices) else math.inf for each in parameters)


def require_accepted(parameters: Sequence[Parameter], recipe: Mapping[str, Any], name: str) -> None:
    """Refuse values, and ends of ranges, that the recipe takes in no combination with the other parameters.

    Args:
        parameters: The parameters.
        recipe: The recipe's document, without them.
        name: What to call the recipe.

    Raises:
        UserError: With what the recipe says of it.
    """
    for parameter in parameters:
        others = [other for other in parameters if other is not parameter]
        for value in parameter.examples:
            problems = []
            for settings in itertools.islice(_combinations(others), _MOST_TRIED):
                problems.append(_problems(recipe, {**settings, parameter.key: value}))
                if not problems[-1]:
                    break
            else:
                if _problems(recipe, {}) == problems[0]:
                    raise UserError(f"{name}:\n{problems[0]}")  # whatever is tried
                raise UserError(f"--param {as_override(parameter.key, value)} does not fit {name}:\n{problems[0]}")


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as the overrides that `load_recipe` takes."""
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def as_override(key: str, value: Any) -> str:
    """Format a setting for `--set`: text without quotes, unless it would be taken for something else."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except json.JSONDecodeError:
            return f"{key}={value}"
    return f"{key}={json.dumps(value)}"


def _parse(text: str) -> Parameter:
    key, equals, values = text.partition("=")
    if not (equals and all(key.split(".")) and values):
        raise UserError(f"--param {text} was given; {_ALLOWED}")
    if found := _RANGE.fullmatch(values.strip()):
        return _range(text, key, *found.groups())
    listed = tuple(_value(part.strip()) for part in _split(values))
    if len({json.dumps(value) for value in listed}) < len(listed) or "" in listed:
        raise UserError(f"--param {text} was given, with a value that is empty or there twice; {_ALLOWED}")
    if len(listed) < 2:
        raise UserError(f"--param {text} was given, which is a single value; {_ALLOWED}. A single one goes to --set")
    return Choices(key, listed)


def _range(text: str, key: str, low: str, high: str, log: str | None) -> Range:
    ends = _value(low), _value(high)
    if not all(isinstance(end, int | float) and math.isfinite(end) for end in ends) or ends[0] >= ends[1]:
        raise UserError(f"--param {text} was given; allowed: a range from a smaller number to a larger one")
    if log and ends[0] <= 0:
        raise UserError(f"--param {text} was given; allowed with :log: a range of numbers above 0")
    return Range(key, *ends, log=bool(log))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return float(text) if re.fullmatch(_NUMBER, text) else text  # a number such as .5 is not JSON


def _split(text: str) -> list[str]:
    """Split at commas that are in no brackets, braces or quotes."""
    parts, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token in "[{") - (token in "]}")
        if token == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    return parts


def _problems(recipe: Mapping[str, Any], settings: Settings) -> str:
    """Return what a recipe with these settings is refused for; empty if it is not."""
    try:
        load_recipe(recipe, overrides_of(settings))
    except RecipeError as error:
        return str(error).partition("\n")[2] or f"  {error}"
    return ""


def _combinations(parameters: Sequence[Parameter]) -> Iterator[Settings]:
    keys = [parameter.key for parameter in parameters]
    for values in itertools.product(*(parameter.examples for parameter in parameters)):
        yield dict(zip(keys, values, strict=True))
