"""The page to draw on whose pictures are computed in the visitor's browser."""

import shutil
from pathlib import Path
from typing import Any

from i2i_jax.pages import render

TEMPLATES = Path(__file__).parent / "templates"
FILES = [TEMPLATES / "style.css", *sorted(file for file in (TEMPLATES / "painter").iterdir() if file.suffix in (".css", ".js"))]


def write_painter(folder: Path, *, title: str, instruction: str, settings: dict[str, Any]) -> None:
    """Writes index.html, its styles and scripts, which load model.onnx, model.encoder.onnx, example_1.png ... and onnxruntime/ beside them.

    Args:
        folder: an existing folder.
        title: title of the page.
        instruction: one sentence that says what to draw.
        settings: what the scripts must know of the model, as JSON values; templates/painter/page.js names each.

    Raises:
        OSError: if a file cannot be written.
    """
    for file in FILES:
        shutil.copyfile(file, folder / file.name)
    scripts = [file.name for file in FILES if file.suffix == ".js" and file.name != "networks.js"]  # which the worker loads
    render.write(folder / "index.html", "painter/index.html", title=title, instruction=instruction, settings=settings, scripts=scripts)
