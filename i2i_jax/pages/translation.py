"""The pages of a folder of translations: each input beside its style and outputs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from i2i_jax.pages import render

ROWS = 200  # inputs per page


class Translated(NamedTuple):
    """The image files of one input; paths are relative to the working directory.

    Attributes:
        input: the input as it was translated.
        outputs: its translations.
        style: the image that the latent was taken from, if any.
    """

    input: str | os.PathLike
    outputs: Sequence[str | os.PathLike]
    style: str | os.PathLike | None = None


def write_translation(output_dir: str | os.PathLike, rows: Sequence[Translated], *, title: str) -> None:
    """Writes `output_dir`/index.html, and further pages if there are more than `ROWS` inputs. Images are linked, not copied.

    Args:
        output_dir: the folder of the pages.
        rows: the files of each input.
        title: title of the pages.

    Raises:
        OSError: if a page cannot be written.
    """
    first_page = Path(output_dir) / "index.html"
    chunks = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    names = [first_page.name, *(f"page_{number:04d}.html" for number in range(2, len(chunks) + 1))]
    count = f"{len(rows):,} {'image' if len(rows) == 1 else 'images'}"
    for name, chunk in zip(names, chunks, strict=True):
        page = first_page.with_name(name)
        figures = [(Path(row.input).name, _figures(page, row)) for row in chunk]
        render.write(page, "translation.html", title=title, count=count, rows=figures, pages=names if len(names) > 1 else [], current=name)


def _figures(page: Path, row: Translated) -> list[dict[str, Any]]:
    style = [] if row.style is None else [("style", row.style, "given")]
    outputs = [(str(i) if len(row.outputs) > 1 else "output", path, "output") for i, path in enumerate(row.outputs, 1)]
    labelled = [("input", row.input, "given"), *style, *outputs]
    return [{"label": label, "source": render.address(path, page), "name": Path(path).name, "kind": kind} for label, path, kind in labelled]
