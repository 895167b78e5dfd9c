"""The page that compares runs: what differs in their configs, their curves overlaid, their samples side by side."""

import base64
import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from i2i_jax.pages import meanings, render, run
from i2i_jax.pages.run import Record, Row

MOST = run.COLOURS  # runs on one page
GRIDS = 24  # sample grids of each run in the page
QUALITY = 90  # of the sample grids, which are compressed as WebP


def write_comparison(page: Path, runs: Sequence[Path]) -> None:
    """Writes one self-contained page about two or more runs, at most `MOST`. What cannot be read of a run is left out.

    Args:
        page: the HTML file to write.
        runs: the folders of the runs.

    Raises:
        OSError: if the page cannot be written.
    """
    names, records = _names(runs), [run.read(folder) for folder in runs]
    sheets = [{"name": name, "samples": samples} for name, folder in zip(names, runs, strict=True) if (samples := _samples(folder))]
    measured = [
        evaluation._replace(name=f"{name} · {evaluation.name}", page=None)
        for name, folder in zip(names, runs, strict=True)
        for evaluation in run.evaluations(folder)
    ]
    render.write(
        page,
        "comparison.html",
        title=" · ".join(names),
        runs=[(name, f"step {record.step:,}", i) for i, (name, record) in enumerate(zip(names, records, strict=True))],
        every=max(record.every for record in records),
        differences=differences(records),
        evaluations=run.evaluation_table(measured),
        data={"charts": _losses(names, records), "figures": _figures(names, records), "sheets": sheets, "written": time.time()},
    )


def differences(records: Sequence[Record]) -> list[tuple[str, list[Any]]]:
    """The options that are not equal in all runs, with the value in each; "" where a run has no such option."""
    options = dict.fromkeys(option for record in records for option in record.config)
    values = {option: [record.config.get(option, "") for record in records] for option in options}
    return [(option, found) for option, found in values.items() if any(value != found[0] for value in found)]


def _names(runs: Sequence[Path]) -> list[str]:
    """The names of the folders, or their paths from the folder that they share if two have the same name."""
    paths = [path.resolve() for path in runs]
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    shared = os.path.commonpath(paths)
    return [os.path.relpath(path, shared) for path in paths]


def _losses(names: list[str], records: list[Record]) -> list[dict[str, Any]]:
    """One chart for each loss term, with one curve for each run that has it."""
    charts = []
    for loss in dict.fromkeys(loss for record in records for loss in run.losses(record.rows)):
        player, _, term = loss.partition("/")
        chart = {"name": f"{player.capitalize()} {term}", "meaning": meanings.TERMS.get(term, ""), "measured": False}
        charts.append(chart | _overlaid(names, [record.rows for record in records], loss))
    return charts


def _figures(names: list[str], records: list[Record]) -> list[dict[str, Any]]:
    """One chart for each figure that was evaluated during training, with one curve for each run that has it."""
    found = dict.fromkeys(figure for record in records for figure in run.figures(record.evaluated))
    evaluated = [record.evaluated for record in records]
    return [run.chart_of_figure(figure) | _overlaid(names, evaluated, run.MEASURED + figure) for figure in found]


def _overlaid(names: list[str], rows_of_runs: list[list[Row]], key: str) -> dict[str, Any]:
    """The curves of one value in all runs that have it, each with its own steps, and all of these steps."""
    terms = []
    for colour, (name, rows) in enumerate(zip(names, rows_of_runs, strict=True)):
        if having := [row for row in rows if key in row]:
            terms.append(run.curve(having, key) | {"name": name, "colour": colour, "steps": [row["step"] for row in having]})
    return {"steps": sorted({step for term in terms for step in term["steps"]}), "terms": terms}


def _samples(folder: Path) -> list[dict[str, Any]]:
    """At most GRIDS sample grids, evenly spaced and with the newest, as data in the page."""
    grids = list(run.sample_grids(folder).items())
    chosen = sorted({round(i * (len(grids) - 1) / (GRIDS - 1)) for i in range(GRIDS)}) if len(grids) > GRIDS else range(len(grids))
    sources = {step: _embedded(path) for step, path in (grids[i] for i in chosen)}
    return [{"step": step, "source": source} for step, source in sources.items() if source]


def _embedded(path: Path) -> str | None:
    """The image as a data URL; None if it cannot be read."""
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.save(buffer, "WEBP", quality=QUALITY)
    except OSError:
        return None
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
