"""Limits of the values in a recipe, whatever their keys, so that nothing else has to deal with extreme values."""

import json
import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 20
MAX_KEY = 200
MAX_TEXT = 4096  # the longest path
MAX_NUMBER = 2**63  # beyond it, other programs may not read JSON exactly
MAX_FLOAT = 3.4e38
MAX_FILE = 2**20


def not_plain(document: Any) -> Iterator[str]:
    """Yield a message for each value that no recipe can hold: the key, what was given, what is allowed.

    Args:
        document: Decoded JSON of any shape. It is traversed without recursion, as it may be nested deeply.
    """
    left: list[tuple[str, int, Any]] = [("", 0, document)]
    while left:
        path, depth, value = left.pop()
        if isinstance(value, dict | list):
            if depth == MAX_DEPTH:
                yield f"{path}: nested too deep; allowed: {MAX_DEPTH} objects and lists within each other"
                continue
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in items:
                if isinstance(key, str) and (len(key) > MAX_KEY or _unprintable(key)):
                    yield f"{path or 'recipe'}: the key {shorten(key)} given; allowed: keys of a recipe"
                    continue
                left.append((f"{path}.{key}" if path else str(key), depth + 1, inner))
        elif problem := _problem(value):
            yield f"{path}: {shorten(value)} given; allowed: {problem}"


def shorten(value: Any) -> str:
    """Return a value as JSON, truncated if it is long, with escapes for what cannot be printed."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (RecursionError, ValueError):
        text = f"a {type(value).__name__} too large to show"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _problem(value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "numbers, which NaN and Infinity are not"
    if isinstance(value, float) and abs(value) > MAX_FLOAT:
        return f"numbers up to {MAX_FLOAT:g}, the largest of float32"
    if isinstance(value, int) and not -MAX_NUMBER <= value < MAX_NUMBER:
        return "whole numbers from -2^63 to 2^63 - 1"
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"up to {MAX_TEXT:,} characters"
    if isinstance(value, str) and _unprintable(value):
        return "text without the zero character and without halves of characters (lone surrogates)"
    return None


def _unprintable(text: str) -> bool:
    return "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
