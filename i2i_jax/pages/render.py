"""Templates to pages that open from disk: no server, no network."""

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
    """Writes the page that `template` makes of `content`, whole or not at all; all text is escaped. Raises OSError."""
    page = _TEMPLATES.get_template(template).render(content)
    atomic_write(path, page.encode("utf-8", "backslashreplace"))  # file names may hold bytes that are no text


def address(path: str | os.PathLike, page: Path) -> str:
    """The address of a file, relative to the page that shows it."""
    return quote(os.fsencode(os.path.relpath(path, page.parent).replace(os.sep, "/")))


def cell(value: Any) -> str:
    """A value as tables show it."""
    if isinstance(value, float):
        return short(value).strip()
    return f"{value:,}" if isinstance(value, int) else str(value)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names to the scalars of nested objects; lists are left out."""
    if isinstance(value, Mapping):
        return {name: leaf for key, inner in value.items() for name, leaf in flat(inner, f"{prefix}.{key}").items()}
    return {} if isinstance(value, list) or not prefix else {prefix[1:]: value}


def number(value: Any) -> float:
    """NaN where `value` is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


_TEMPLATES.filters["cell"] = cell
