"""The templates that all pages share: one layout, one stylesheet, one script, and no external request."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# How every page begins, so that a command can tell its own output.
START = "<!doctype html>\n<!-- written by stml-tf -->\n"


def render(template: str, **data: Any) -> str:
    """Fill in a template.

    Args:
        template: Its name in `templates/`, such as `search.html`.
        **data: What it shows. All text is escaped.

    Returns:
        The page, HTML.
    """
    return START + _environment().get_template(template).render(**data)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("stml_tf.pages"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        finalize=_as_unicode,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _as_unicode(value: Any) -> Any:
    """Replace the bytes of a name on disk that a page cannot hold."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return value.encode("utf-8", "replace").decode()
    return value
