"""The page of one evaluation: its figures, protocol and contact sheets."""

from pathlib import Path
from typing import Any

from i2i_jax.config import HIGHER_IS_BETTER
from i2i_jax.pages import meanings, render


def write_evaluation(path: Path, written: dict[str, Any], sheets: dict[str, Path], *, title: str) -> None:
    """Writes the page atomically.

    Args:
        path: the HTML file to write.
        written: the content of the evaluation's JSON file.
        sheets: title of each contact sheet -> its image file.
        title: name of the run or folder that was evaluated.

    Raises:
        OSError: if the page cannot be written.
    """
    errors = written["standard_errors"]
    rows = [
        {
            "name": name,
            "meaning": meanings.of_figure(name),
            "value": value,
            "error": errors.get(name),
            "higher_is_better": HIGHER_IS_BETTER.get(name),
        }
        for name, value in written["figures"].items()
        if not isinstance(value, list)
    ]
    render.write(
        path,
        "evaluation.html",
        title=f"Evaluation · {title}",
        protocol={name: value for name, value in written.items() if not isinstance(value, (dict, list))},
        rows=rows,
        notes=written["notes"],
        sheets={title: render.address(sheet, path) for title, sheet in sheets.items()},
        versions=written["weights"] | written["versions"],
    )
