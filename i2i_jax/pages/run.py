"""The page of a run, RUN/index.html: progress, loss curves, samples, evaluations, command and configuration."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from i2i_jax.config import HIGHER_IS_BETTER
from i2i_jax.pages import render
from i2i_jax.pages.formats import hours, short
from i2i_jax.storage.metrics_file import parse_row

MAX_POINTS = 1000  # points of a curve; longer runs show every n-th row
COLOURS = 6  # colours of curves in style.css
MEASURED = "eval/"  # prefix of the metrics in a row of metrics.jsonl; the other values are losses

Row = dict[str, Any]


def write_run(workdir: str | os.PathLike) -> None:
    """Writes the page of a run from the files in its folder. Files that are missing or cannot be read are left out.

    Raises:
        OSError: if the page cannot be written.
    """
    workdir = Path(workdir)
    config = render.flat(_read_json(workdir / "config.json"))
    lines = _lines(workdir / "metrics.jsonl")
    rows, every = _thinned(lines)
    evaluated, _ = _thinned([line for line in lines if MEASURED.encode() in line])
    total, name = config.get("train.steps"), workdir.resolve().name
    step = rows[-1]["step"] if rows else 0
    finished = total is not None and step >= total
    percent = 100 * step / total if total else 0.0
    data = {"charts": _curves(rows), "figures": _figures(evaluated), **_samples(workdir), "finished": finished, "written": time.time()}
    render.write(
        workdir / "index.html",
        "run.html",
        title=f"{percent:.0f} % · {name}",
        name=name,
        subtitle=[*(config[option] for option in ("objective", "data.name") if option in config), "finished" if finished else "training"],
        percent=f"{percent:.2f}",
        progress=_progress(rows, total, config.get("data.batch_size")),
        not_finite=_not_finite(rows),
        every=every,
        evaluations=_evaluations(workdir / "evaluation"),
        command=_read_text(workdir / "command.txt"),
        parameters=_read_text(workdir / "parameters.txt"),
        config=config,
        data=data,
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


def _curves(rows: list[Row]) -> list[dict[str, Any]]:
    """One chart for each player, with one curve for each of its loss terms."""
    names = [name for name in dict.fromkeys(name for row in rows for name in _terms(row)) if not name.startswith(MEASURED)]
    colours = {term: i % COLOURS for i, term in enumerate(dict.fromkeys(name.partition("/")[2] for name in names))}
    charts: dict[str, list] = {}
    for name in names:
        player, _, term = name.partition("/")
        charts.setdefault(player, []).append(_curve(rows, name) | {"name": term, "colour": colours[term]})
    steps = [row["step"] for row in rows]
    return [{"name": player.capitalize(), "steps": steps, "terms": terms, "measured": False} for player, terms in charts.items()]


def _figures(rows: list[Row]) -> list[dict[str, Any]]:
    """One chart for each metric that was evaluated during training, with the information whether higher is better."""
    charts = []
    for name in dict.fromkeys(name for row in rows for name in row if name.startswith(MEASURED)):
        figure, evaluated = name.removeprefix(MEASURED), [row for row in rows if name in row]
        curve = _curve(evaluated, name) | {"name": figure, "colour": 0}
        steps = [row["step"] for row in evaluated]
        charts.append({"name": figure, "steps": steps, "terms": [curve], "measured": True, "higher": HIGHER_IS_BETTER.get(figure)})
    return charts


def _curve(rows: list[Row], name: str) -> dict[str, Any]:
    """The values of a curve; NaN and Inf become gaps."""
    values = [render.number(row.get(name)) for row in rows]
    return {"values": [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]}


def _samples(workdir: Path) -> dict[str, Any]:
    """The sample grids RUN/samples/{step}.png by step, and the (width, height) of the newest."""
    paths = sorted((path for path in workdir.glob("samples/*.png") if path.stem.isdecimal()), key=lambda path: int(path.stem))
    samples = [{"step": int(path.stem), "source": f"samples/{quote(path.name)}"} for path in paths]
    return {"samples": samples, "sample_size": _size(paths[-1]) if paths else None}


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
    return progress


def _speed(rate: float) -> str:
    return f"{rate:,.1f}" if rate >= 10 else f"{rate:.2g}"


def _not_finite(rows: list[Row]) -> tuple[int, list[str]] | None:
    """The first step with NaN or Inf in its losses or metrics, and their names."""
    for row in rows:
        if names := [name for name in _terms(row) if not math.isfinite(render.number(row[name]))]:
            return row["step"], names
    return None


def _evaluations(folder: Path) -> dict[str, Any]:
    """A table with one row for each RUN/evaluation/*.json, newest step first, and one column for each scalar in them."""
    evaluations = {path.stem: _scalars(_read_json(path)) for path in sorted(folder.glob("*.json"))}
    order = sorted(evaluations, key=lambda name: (render.number(evaluations[name].get("step", 0)), name), reverse=True)
    columns = list(dict.fromkeys(column for name in order for column in evaluations[name]))
    rows = [
        {"name": name, "page": _page(folder / f"{name}.html"), "cells": [evaluations[name].get(column, "") for column in columns]}
        for name in order
    ]
    return {"columns": columns, "rows": rows}


def _scalars(evaluation: Any) -> dict[str, Any]:
    """The scalars of an evaluation's JSON file: its protocol, and its figures without the prefix `figures.`."""
    scalars = render.flat(evaluation)
    return {name.removeprefix("figures."): x for name, x in scalars.items() if "." not in name or name.startswith("figures.")}


def _page(path: Path) -> str | None:
    """The URL of an evaluation's page, if it exists."""
    return quote(f"{path.parent.name}/{path.name}") if path.exists() else None
