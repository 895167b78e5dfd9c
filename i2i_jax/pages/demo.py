"""The page of the demo: grids of inputs and translations."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from i2i_jax.pages import render


class Section(NamedTuple):
    """A grid of images under a title. Image files are paths relative to the working directory.

    Attributes:
        title: its heading.
        text: what the images show.
        columns: the label of each column; none for a single image.
        rows: the image files of each row; None leaves a cell empty.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | os.PathLike | None]]


def write_demo(
    output_dir: Path, sections: Sequence[Section], *, title: str, introduction: str, next_steps: Sequence[tuple[str, str]]
) -> Path:
    """Writes `output_dir`/index.html. Images are linked, not copied.

    Args:
        output_dir: the folder of the page.
        sections: the grids of images.
        title: title of the page.
        introduction: what the images are.
        next_steps: what to do next and the command that does it.

    Returns:
        The page.

    Raises:
        OSError: if the page cannot be written.
    """
    page = output_dir / "index.html"
    grids = [section._replace(rows=[[file and render.address(file, page) for file in row] for row in section.rows]) for section in sections]
    render.write(page, "demo.html", title=title, introduction=introduction, sections=grids, next_steps=next_steps)
    return page
