"""Text for the screen: a file's name may hold characters that would move the cursor, recolour or retitle a terminal."""

import re

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROLS_BUT_LINES = re.compile(r"(?!\n)[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def visible(name: object) -> str:
    r"""Escape the control characters of a name, including line breaks, like \x1b."""
    return _CONTROLS.sub(_escape, str(name))


def visible_lines(text: str) -> str:
    """Escape the control characters of a message except line breaks; see `visible`."""
    return _CONTROLS_BUT_LINES.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    # A byte of a name that is not Unicode comes as a surrogate.
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"
