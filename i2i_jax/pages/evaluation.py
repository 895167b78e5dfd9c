"""The page of one evaluation: its figures, its protocol and sheets of pictures."""

from pathlib import Path
from typing import Any

from i2i_jax.config import HIGHER_IS_BETTER
from i2i_jax.pages import render


def write_evaluation(path: Path, written: dict[str, Any], sheets: dict[str, Path], *, title: str) -> None:
    """Writes the page of what an evaluation's JSON holds, and of its contact sheets by their titles. Raises OSError."""
    errors = written["standard_errors"]
    rows = [
        {"name": name, "value": value, "error": errors.get(name), "higher_is_better": HIGHER_IS_BETTER.get(name)}
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
