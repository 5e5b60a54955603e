"""Error messages about recipes: the file, the key, what was given, what is allowed, and the nearest name.

What is allowed comes from the recipe's JSON Schema, so that a message cannot disagree with the check.
"""

import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stml_tf.errors import UserError, did_you_mean
from stml_tf.recipe.plain import shorten

NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "object": "an object",
    "null": "null",
}
_LINE, _BEFORE = 120, 60  # characters of a bad line to show, and how many of them before the mistake
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


class RecipeError(UserError):
    """The error of a recipe that cannot be used; it says where, and what is allowed instead."""


def describe_bad_json(source: str, error: json.JSONDecodeError) -> str:
    """Describe where and why a text is not JSON, and show the line with its column marked."""
    line = error.doc.split("\n")[error.lineno - 1].rstrip().expandtabs(1)
    place = f"{source}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}"
    begin = max(0, error.colno - 1 - _BEFORE) if len(line) > _LINE else 0
    shown = line[begin : begin + _LINE].encode("utf-8", "backslashreplace").decode()
    return f"{place}\n  {shown}\n  {' ' * (error.colno - 1 - begin)}^"


def describe_problems(source: str, error: ValidationError, document: dict[str, Any], schema: dict[str, Any]) -> str:
    """Describe every problem that pydantic found in a recipe.

    Args:
        source: What to call the recipe.
        error: The error that pydantic raised.
        document: The recipe.
        schema: Its JSON Schema.

    Returns:
        The source, and below it a line for each problem.
    """
    errors = error.errors()
    # A wrong item makes its list wrong as well; the item says more.
    inner = [details for details in errors if not any(_holds(details["loc"], other["loc"]) for other in errors)]
    problems = [line for details in inner for line in _describe(details, document, schema)]
    return "\n  ".join([f"{source}:", *problems])


def _holds(outer: tuple[str | int, ...], inner: tuple[str | int, ...]) -> bool:
    return len(outer) < len(inner) and inner[: len(outer)] == outer


def _describe(details: ErrorDetails, document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    kind, given, path = details["type"], details["input"], details["loc"]
    if path[:1] == ("data",):
        path = ("data", *path[2:])  # pydantic names the chosen kind of data there; the document has no such level
    if kind.startswith("union_tag") and isinstance(given, dict):
        path = ("data", "name")
        kind = "missing" if kind == "union_tag_not_found" else "enum"
        given = given.get("name")
    where = ".".join(map(str, path))
    if kind == "extra_forbidden":
        return [f"{where}: unknown key; {_known_keys(path, document, schema)}"]
    expected = _at(path, document, schema)
    if kind == "missing":
        return [f"{where}: missing; allowed: {_allowed(expected, schema)}"]
    if kind == "value_error" and "properties" in expected:
        # Keys that do not fit together, a line each; it begins with the key in question, relative to this section.
        return [f"{where}.{line}" if where else line for line in str(details["ctx"]["error"]).splitlines()]
    if kind == "value_error":
        return [f"{where}: {shorten(given)} given; {details['ctx']['error']}"]
    nearest = did_you_mean(given, expected.get("enum", ())) if isinstance(given, str) else ""
    return [f"{where}: {shorten(given)} given; allowed: {_allowed(expected, schema)}{nearest}"]


def _known_keys(path: tuple[str | int, ...], document: dict[str, Any], schema: dict[str, Any]) -> str:
    """List the allowed keys in place of an unknown one, and the nearest: here, or of the same name elsewhere."""
    *parents, key = map(str, path)
    here = _at(path[:-1], document, schema)["properties"]
    nearest = did_you_mean(key, here)
    for section in () if nearest else schema["properties"]:
        if key in _at((section,), document, schema).get("properties", ()):
            nearest = f'; did you mean "{section}.{key}"?'
    return f"allowed in {'.'.join(parents) or 'the recipe'}: {', '.join(here)}{nearest}"


def _at(path: tuple[str | int, ...], document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the schema for `path`; the kind of data is that of the document."""
    part = schema
    for key in path:
        if isinstance(key, int):
            part = part["prefixItems"][key] if "prefixItems" in part else part["items"]
        else:
            properties = part.get("properties", {})
            # An object with free keys only describes its values.
            part = properties[key] if key in properties or "additionalProperties" not in part else _values_of(part)
        if "discriminator" in part:
            kinds = part["discriminator"]["mapping"]
            given = document.get(key)
            # "tfds:NAME" is short for a data set of that kind.
            name = str(given.get("name")).partition(":")[0] if isinstance(given, dict) else ""
            # For an unknown kind of data, all that can be said is which kinds there are.
            part = {"$ref": kinds[name]} if name in kinds else {"properties": {"name": {"enum": list(kinds)}}}
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].removeprefix("#/$defs/")]
    return part


def _values_of(part: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the schema for the values of an object with free keys."""
    values = part["additionalProperties"]
    return values if isinstance(values, dict) else {}


def _allowed(part: dict[str, Any], schema: dict[str, Any]) -> str:
    """Describe a part of the schema in words."""
    if "anyOf" in part:
        return " or ".join(_allowed(choice, schema) for choice in part["anyOf"])
    if "enum" in part or "const" in part:
        return ", ".join(part.get("enum", [part.get("const")]))
    if "properties" in part:
        return f"an object with {', '.join(part['properties'])}"
    if "prefixItems" in part:
        return f"a list of {len(part['prefixItems'])}, each {_allowed(part['prefixItems'][0], schema)}"
    if part["type"] == "array":
        items = _allowed(part["items"], schema)
        return f"a list with one or more items, each {items}" if part.get("minItems") else f"a list of {items}"
    if "pattern" in part:
        most = f", {part['maxLength']} at most" if "maxLength" in part else ""
        return f"text of letters, digits, dots, dashes and underscores that begins with a letter or digit{most}"
    bounds = [f"{sign} {_number(part[key])}" for key, sign in BOUNDS.items() if key in part]
    return " ".join([NOUNS[part["type"]], " and ".join(bounds)]).strip()


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
