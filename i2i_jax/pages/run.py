"""The page of a run, RUN/index.html: progress, loss curves, samples, evaluations, command and configuration."""

import json
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from PIL import Image

from i2i_jax.config import HIGHER_IS_BETTER
from i2i_jax.pages import meanings, render
from i2i_jax.pages.formats import hours, short
from i2i_jax.storage.metrics_file import parse_row

MAX_POINTS = 1000  # points of a curve; longer runs show every n-th row
COLOURS = 6  # colours of curves in style.css
MEASURED = "eval/"  # prefix of the metrics in a row of metrics.jsonl; the other values are losses

# Their names on the page, and their forms.
DEVICE_FIGURES = {
    "share_of_time_in_steps": ("time in steps", "{:.0%}"),
    "tflops_per_second": ("TFLOP/s of a device", "{:.3g}"),
    "share_of_peak": ("share of its peak", "{:.0%}"),
    "device_memory_gb": ("device memory", "{:.3g} GB"),
    "device_memory_peak_gb": ("device memory, at most", "{:.3g} GB"),
}

Row = dict[str, Any]


class Record(NamedTuple):
    """What the files in a run's folder tell.

    Attributes:
        name: the name of the folder.
        config: the options by their dotted names.
        rows: at most MAX_POINTS rows of metrics.jsonl, evenly spaced, and the last one.
        every: one of how many rows these are.
        evaluated: likewise, of the rows with metrics.
    """

    name: str
    config: dict[str, Any]
    rows: list[Row]
    every: int
    evaluated: list[Row]

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return self.rows[-1]["step"] if self.rows else 0


def read(workdir: Path) -> Record:
    """Reads the folder of a run; what is missing or cannot be read is left out."""
    lines = _lines(workdir / "metrics.jsonl")
    rows, every = _thinned(lines)
    evaluated, _ = _thinned([line for line in lines if MEASURED.encode() in line])
    return Record(workdir.resolve().name, render.flat(_read_json(workdir / "config.json")), rows, every, evaluated)


def write_run(workdir: str | os.PathLike) -> None:
    """Writes the page of a run from the files in its folder. Files that are missing or cannot be read are left out.

    Raises:
        OSError: if the page cannot be written.
    """
    workdir = Path(workdir)
    run = read(workdir)
    total = run.config.get("train.steps")
    finished = total is not None and run.step >= total
    percent = 100 * run.step / total if total else 0.0
    data = {"charts": _curves(run.rows), "figures": _figures(run.evaluated), "sheets": _sheets(workdir), "finished": finished}
    render.write(
        workdir / "index.html",
        "run.html",
        title=f"{percent:.0f} % · {run.name}",
        name=run.name,
        subtitle=[
            *(run.config[option] for option in ("objective", "data.name") if option in run.config),
            "finished" if finished else "training",
        ],
        percent=f"{percent:.2f}",
        progress=_progress(run.rows, total, run.config.get("data.batch_size")),
        not_finite=_not_finite(run.rows),
        every=run.every,
        evaluations=evaluation_table(evaluations(workdir)),
        command=_read_text(workdir / "command.txt"),
        parameters=_read_text(workdir / "parameters.txt"),
        config=run.config,
        data=data | {"written": time.time()},
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _read_text(path: Path) -> str:
    return path.read_text("utf-8", "replace").strip() if path.exists() else ""


def _lines(metrics: Path) -> list[bytes]:
    return metrics.read_bytes().splitlines() if metrics.exists() else []


def _thinned(lines: list[bytes]) -> tuple[list[Row], int]:
    """Parses at most MAX_POINTS rows: every n-th row and the last one. Returns the rows and n.

    100,000 rows take about 0.1 s, because only the chosen rows are parsed.
    """
    every = math.ceil(len(lines) / (MAX_POINTS - 1)) or 1
    chosen = [*lines[every - 1 :: every], *lines[-1:]]
    rows = {row["step"]: row for line in chosen if (row := parse_row(line))}
    return list(rows.values()), every


def _terms(row: Row) -> list[str]:
    return [name for name in row if "/" in name]


def losses(rows: list[Row]) -> list[str]:
    """The loss terms in the rows, as PLAYER/TERM."""
    return [name for name in dict.fromkeys(name for row in rows for name in _terms(row)) if not name.startswith(MEASURED)]


def figures(rows: list[Row]) -> list[str]:
    """The figures in the rows, without MEASURED."""
    return [name.removeprefix(MEASURED) for name in dict.fromkeys(name for row in rows for name in row) if name.startswith(MEASURED)]


def _curves(rows: list[Row]) -> list[dict[str, Any]]:
    """One chart for each player, with one curve for each of its loss terms."""
    names = losses(rows)
    colours = {term: i % COLOURS for i, term in enumerate(dict.fromkeys(name.partition("/")[2] for name in names))}
    charts: dict[str, list] = {}
    for name in names:
        player, _, term = name.partition("/")
        charts.setdefault(player, []).append(
            curve(rows, name) | {"name": term, "colour": colours[term], "meaning": meanings.TERMS.get(term, "")}
        )
    steps = [row["step"] for row in rows]
    return [{"name": player.capitalize(), "steps": steps, "terms": terms, "measured": False} for player, terms in charts.items()]


def _figures(rows: list[Row]) -> list[dict[str, Any]]:
    """One chart for each metric that was evaluated during training."""
    charts = []
    for figure in figures(rows):
        evaluated = [row for row in rows if MEASURED + figure in row]
        terms = [curve(evaluated, MEASURED + figure) | {"name": figure, "colour": 0}]
        charts.append(chart_of_figure(figure) | {"steps": [row["step"] for row in evaluated], "terms": terms})
    return charts


def chart_of_figure(figure: str) -> dict[str, Any]:
    """What the chart of a figure says beside its curves: its name and meaning, and whether higher is better."""
    return {"name": figure, "meaning": meanings.of_figure(figure), "measured": True, "higher": HIGHER_IS_BETTER.get(figure)}


def curve(rows: list[Row], name: str) -> dict[str, Any]:
    """The values of a curve; NaN and Inf become gaps."""
    values = [render.number(row.get(name)) for row in rows]
    return {"values": [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]}


def sample_grids(workdir: Path) -> dict[int, Path]:
    """The sample grids RUN/samples/{step}.png by step."""
    paths = [path for path in workdir.glob("samples/*.png") if path.stem.isdecimal()]
    return {int(path.stem): path for path in sorted(paths, key=lambda path: int(path.stem))}


def _sheets(workdir: Path) -> list[dict[str, Any]]:
    """The sheet of sample grids, with the (width, height) of the newest; none if there are no samples."""
    grids = sample_grids(workdir)
    samples = [{"step": step, "source": f"samples/{quote(path.name)}"} for step, path in grids.items()]
    return [{"samples": samples, "size": _size(list(grids.values())[-1])}] if grids else []


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def _progress(rows: list[Row], total: int | None, batch_size: int | None) -> dict[str, str]:
    """Step, speed over the last tenth of the rows, and times."""
    if not rows:
        return {"step": "none yet"}
    last, before = rows[-1], rows[-1 - max(1, len(rows) // 10)] if len(rows) > 1 else None
    progress = {"step": f"{last['step']:,}" + (f" of {total:,}" if total else "")}
    seconds = last.get("time", 0) - before.get("time", 0) if before else 0
    if before and seconds > 0:
        rate = (last["step"] - before["step"]) / seconds
        progress["steps per second"] = _speed(rate)
        if batch_size:
            progress["images per second"] = _speed(rate * batch_size)
        if total and total > last["step"]:
            progress["time left"] = hours((total - last["step"]) / rate)
    if "time" in last:
        progress["training time"] = hours(last["time"])
    if "learning_rate" in last:
        progress["learning rate"] = short(render.number(last["learning_rate"])).strip()
    return progress | _of_devices(rows)


def _of_devices(rows: list[Row]) -> dict[str, str]:
    """What the devices did over the last tenth of the rows, on average; memory as it was last."""
    recent = rows[-max(1, len(rows) // 10) :]
    found = {name: [value for row in recent if math.isfinite(value := render.number(row.get(name)))] for name in DEVICE_FIGURES}
    means = {name: values[-1] if "memory" in name else statistics.mean(values) for name, values in found.items() if values}
    return {DEVICE_FIGURES[name][0]: DEVICE_FIGURES[name][1].format(mean).replace("%", " %") for name, mean in means.items()}


def _speed(rate: float) -> str:
    return f"{rate:,.1f}" if rate >= 10 else f"{rate:.2g}"


def _not_finite(rows: list[Row]) -> tuple[int, list[str]] | None:
    """The first step with NaN or Inf in its losses or metrics, and their names."""
    for row in rows:
        if names := [name for name in _terms(row) if not math.isfinite(render.number(row[name]))]:
            return row["step"], names
    return None


class Evaluation(NamedTuple):
    """The scalars of RUN/evaluation/NAME.json, and the address of its page, if it has one."""

    name: str
    page: str | None
    scalars: dict[str, Any]


def evaluations(workdir: Path) -> list[Evaluation]:
    """The evaluations of a run, newest step first."""
    folder = workdir / "evaluation"
    found = [Evaluation(path.stem, _page(path.with_suffix(".html")), _scalars(_read_json(path))) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda evaluation: (render.number(evaluation.scalars.get("step", 0)), evaluation.name), reverse=True)


def evaluation_table(shown: list[Evaluation]) -> dict[str, Any] | None:
    """A table with one column for each evaluation and one row for each scalar in them; None if there are none."""
    names = dict.fromkeys(name for evaluation in shown for name in evaluation.scalars)
    rows = [
        {"name": name, "meaning": meanings.of_figure(name), "cells": [evaluation.scalars.get(name, "") for evaluation in shown]}
        for name in names
    ]
    return {"columns": [(evaluation.name, evaluation.page) for evaluation in shown], "rows": rows} if rows else None


def _scalars(evaluation: Any) -> dict[str, Any]:
    """The scalars of an evaluation's JSON file: its protocol, and its figures without the prefix `figures.`."""
    scalars = render.flat(evaluation)
    return {name.removeprefix("figures."): x for name, x in scalars.items() if "." not in name or name.startswith("figures.")}


def _page(path: Path) -> str | None:
    """The URL of an evaluation's page, if it exists."""
    return quote(f"{path.parent.name}/{path.name}") if path.exists() else None
