"""Renders templates to pages that open from disk, without a server or a network."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from i2i_jax.pages.formats import short
from i2i_jax.storage.files import atomic_write

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("i2i_jax.pages"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}


def write(path: Path, template: str, **content: Any) -> None:
    """Renders a template and writes the page atomically. All text is escaped.

    Args:
        path: the HTML file to write.
        template: name of the template in `templates/`.
        **content: values of the template's variables.

    Raises:
        OSError: if the page cannot be written.
    """
    page = _TEMPLATES.get_template(template).render(content)
    atomic_write(path, page.encode("utf-8", "backslashreplace"))  # file names may contain bytes that are not valid UTF-8


def address(path: str | os.PathLike, page: Path) -> str:
    """The URL of the file `path`, relative to the page that shows it."""
    return quote(os.fsencode(os.path.relpath(path, page.parent).replace(os.sep, "/")))


def cell(value: Any) -> str:
    """Formats a value for a table."""
    if isinstance(value, float):
        return short(value).strip()
    return f"{value:,}" if isinstance(value, int) else str(value)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings to {dotted name: scalar}; lists are left out."""
    if isinstance(value, Mapping):
        return {name: leaf for key, inner in value.items() for name, leaf in flat(inner, f"{prefix}.{key}").items()}
    return {} if isinstance(value, list) or not prefix else {prefix[1:]: value}


def number(value: Any) -> float:
    """Converts `value` to float; returns NaN if it is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


_TEMPLATES.filters["cell"] = cell
