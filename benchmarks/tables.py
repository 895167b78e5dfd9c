"""Writes the figures of several systems, each trained with several seeds, as Markdown, JSON and plots (extra `plots`)."""

import importlib.metadata
import itertools
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from i2i_jax.config import HIGHER_IS_BETTER
from i2i_jax.storage import files, metrics_file
from i2i_jax.storage.metrics_file import as_json

Measured = Mapping[tuple[str, int], Mapping[str, float | list[float]]]  # (system, seed) -> figures
Runs = Mapping[tuple[str, int], Path]

LABELS = {
    "modes": "modes recovered, of 6",
    "valid": "valid share",
    "total_variation": "total variation",
    "l1": "L1 to the target",
    "l1_encoded": "L1, target's own latent",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "fid": "FID",
    "kid": "KID",
    "kernel_squeezenet_caffe": "kernel distance",
    "fjd_squeezenet_caffe": "Fréchet joint distance",
    "diversity_squeezenet_caffe": "diversity",
    "iou": "IoU",
    "pixel_accuracy": "pixel accuracy",
    "class_accuracy": "class accuracy",
}
ARROWS = {True: " ↑", False: " ↓", None: ""}

SHEET, INK, AXIS = "#fbfbf9", "#2b2f36", "#a0a29f"  # an opaque background, for light and dark pages
COLORS = ("#5b5f66", "#2787bd", "#009e73", "#b0508a", "#d55e00", "#0072b2", "#a87b00")  # Okabe and Ito's, dark enough for text
STYLE = {
    "figure.dpi": 200, "figure.facecolor": SHEET, "axes.facecolor": SHEET, "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.1, "figure.constrained_layout.w_pad": 0.1,
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.titlecolor": INK,
    "axes.edgecolor": AXIS, "xtick.color": AXIS, "ytick.color": AXIS, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e4e4e0",
    "font.size": 10, "xtick.labelsize": 9, "ytick.labelsize": 9, "axes.titlesize": 10, "axes.titlelocation": "left",
}  # fmt: skip


class Table(NamedTuple):
    """A table's rows and columns. `plane`: figures of diversity and realism to plot against each other; None plots the first figure."""

    title: str
    systems: Sequence[str]
    figures: Sequence[str]
    plane: tuple[str, str] | None = None


def write(stem: Path, table: Table, measured: Measured, runs: Runs) -> str:
    """Writes the Markdown to STEM.md, all figures to STEM.json, and then the plots STEM.png and STEM_steps.png. Returns the Markdown."""
    systems = [system for system in table.systems if any(name == system for name, _ in measured)]
    shown = {run: figures for run, figures in measured.items() if run[0] in systems}
    text = (
        f"### {table.title}\n\n{markdown(systems, table.figures, shown)}\n\nMean over seeds (lowest to highest); the best mean in bold.\n"
    )
    files.atomic_write(stem.with_suffix(".json"), (json.dumps(record(shown, runs), indent=1) + "\n").encode())
    files.atomic_write(stem.with_suffix(".md"), text.encode())
    if not table.plane:
        plot_dots(stem.with_suffix(".png"), systems, shown, table.figures[0])
        return text
    plot_plane(stem.with_suffix(".png"), systems, shown, *table.plane)
    followed = [figure for figure in table.plane if any(len(curve(system, runs, figure)[0]) for system in systems)]
    if followed:
        plot_curves(stem.with_name(f"{stem.name}_steps.png"), systems, runs, followed)
    return text


def markdown(systems: Sequence[str], figures: Sequence[str], measured: Measured) -> str:
    """A row for each measured system: the number of seeds, and `mean (lowest to highest)` of each figure."""
    seeds = {system: n for system in systems if (n := sum(name == system for name, _ in measured))}
    columns = [_column([_values(measured, system, figure)[:, 0] for system in seeds], HIGHER_IS_BETTER.get(figure)) for figure in figures]
    heads = [_label(figure) + ARROWS[HIGHER_IS_BETTER.get(figure)] for figure in figures]
    rows = [[system, str(seeds[system]), *cells] for system, *cells in zip(seeds, *columns, strict=True)]
    return lines(["system", "seeds", *heads], rows)


def lines(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows))


def _label(figure: str) -> str:
    return LABELS.get(figure, figure)


def _values(measured: Measured, system: str, *figures: str) -> np.ndarray:
    """An array [seeds, figures] for the seeds that have all the figures."""
    seeds = [[row[figure] for figure in figures] for (name, _), row in measured.items() if name == system and set(figures) <= row.keys()]
    return np.array(seeds, float).reshape(-1, len(figures))


def _column(by_system: list[np.ndarray], higher: bool | None) -> list[str]:
    """The cells of a column, with so many decimals that the largest mean has three significant digits."""
    means = [values.mean() for values in by_system if len(values) and np.isfinite(values).all()]
    decimals = max(0, 2 - math.floor(math.log10(max(map(abs, means), default=0) or 1)))
    best = None if higher is None or len(means) < 2 else f"{max(means) if higher else min(means):.{decimals}f}"
    return [_cell(values, decimals, best) for values in by_system]


def _cell(values: np.ndarray, decimals: int, best: str | None) -> str:
    if not len(values):
        return "–"
    if broken := np.sum(~np.isfinite(values)):
        return f"not finite in {broken} of {len(values)}"
    mean, low, high = (f"{value:.{decimals}f}" for value in (values.mean(), values.min(), values.max()))
    return (f"**{mean}**" if mean == best else mean) + (f" ({low} to {high})" if len(values) > 1 else "")


def record(measured: Measured, runs: Runs) -> dict[str, Any]:
    """All figures, after and during training, with the command, the machine and the versions, as strict JSON values."""
    results = []
    for (system, seed), figures in measured.items():
        rows = _rows(runs[system, seed])
        spent = {"steps": rows[-1]["step"], "seconds": rows[-1].get("time")} if rows else {}
        evaluated = [{name: x for name, x in row.items() if name == "step" or name.startswith("eval/")} for row in rows]
        figures = {name: [as_json(x) for x in value] if isinstance(value, list) else as_json(value) for name, value in figures.items()}
        results.append(
            {"system": system, "seed": seed, **spent, "figures": figures, "while_training": [row for row in evaluated if len(row) > 1]}
        )
    return provenance() | {"results": results}


def provenance(*packages: str) -> dict[str, Any]:
    """The command, the machine and the versions, including those of `packages`."""
    import jax  # not at the top: the importer may still restrict the cores that JAX uses

    named = ("jax", "jaxlib", "flax", "numpy", *packages)
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {len(jax.devices())} x {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version()} | {x: importlib.metadata.version(x) for x in named},
    }


def _rows(run: Path) -> list[dict[str, Any]]:
    metrics = run / "metrics.jsonl"
    return [row for line in metrics.read_bytes().splitlines() if (row := metrics_file.parse_row(line))] if metrics.exists() else []


def curve(system: str, runs: Runs, figure: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [k] at which all seeds that were evaluated during training have the figure, and its values [seeds, k]."""
    name, found = f"eval/{figure}", []
    for run in (run for (name_of_run, _), run in runs.items() if name_of_run == system):
        by_step = {row["step"]: value for row in _rows(run) if math.isfinite(value := float(row.get(name, "nan")))}
        found += [by_step] if by_step else []
    steps = sorted(set.intersection(*map(set, found))) if found else []
    return np.array(steps), np.array([[by_step[step] for step in steps] for by_step in found])


def plot_plane(path: Path, systems: Sequence[str], measured: Measured, diversity: str, realism: str) -> None:
    """A plot like figure 6 of Zhu 2017, better towards the upper right: a small mark for each seed, a large one for their mean."""

    def draw(axes: Any) -> None:
        means = {}
        for system, color in _colors(systems).items():
            seeds = _finite(_values(measured, system, diversity, realism))
            if len(seeds):
                means[system] = seeds.mean(0)
                _mark(axes, seeds, color)
        axes.margins(0.08)
        for figure, letter in ((diversity, "x"), (realism, "y")):
            axes.set(**{f"{letter}label": f"{_label(figure)}  (better →)", f"{letter}inverted": not HIGHER_IS_BETTER[figure]})
        _label_points(axes, means, _colors(systems))

    _save(path, draw, size=(6.4, 4.2))


def plot_curves(path: Path, systems: Sequence[str], runs: Runs, figures: Sequence[str]) -> None:
    """One panel per figure, against steps: each system's mean over seeds in a band from lowest to highest."""

    def draw(*panels: Any) -> None:
        for axes, figure in zip(panels, figures, strict=True):
            ends = {}
            for system, color in _colors(systems).items():
                steps, seeds = curve(system, runs, figure)
                if len(steps):
                    axes.fill_between(steps, seeds.min(0), seeds.max(0), color=color, alpha=0.13, linewidth=0)
                    axes.plot(steps, seeds.mean(0), color=color, linewidth=1.8, solid_capstyle="round")
                    ends[system] = steps[-1], seeds[:, -1].mean()
            axes.set(xlabel="steps", title=_label(figure) + ARROWS[HIGHER_IS_BETTER.get(figure)])
            axes.margins(x=0)
            _label_points(axes, ends, _colors(systems))

    _save(path, draw, size=(4.2 * len(figures), 3.3), panels=len(figures))


def plot_dots(path: Path, systems: Sequence[str], measured: Measured, figure: str) -> None:
    """One line per system: a small mark for each seed, a large one for their mean."""
    higher = HIGHER_IS_BETTER.get(figure)

    def draw(axes: Any) -> None:
        for row, system in enumerate(systems):
            seeds = _finite(_values(measured, system, figure))
            if len(seeds):
                _mark(axes, np.insert(seeds, 1, row, axis=1), COLORS[5])
        axes.set(xlabel={True: f"{_label(figure)}  (better →)", False: f"(← better)  {_label(figure)}", None: _label(figure)}[higher])
        axes.set_yticks(range(len(systems)), systems)
        axes.set_ylim(len(systems) - 0.5, -0.5)
        axes.grid(False, axis="y")

    _save(path, draw, size=(6.4, 0.7 + 0.34 * len(systems)))


def _save(path: Path, draw: Callable[..., None], *, size: tuple[float, float], panels: int = 1) -> None:
    """Saves what `draw(*axes)` draws as a PNG of `size` in inches, to be shown at 100 pixels per inch."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(size)
        canvas = FigureCanvasAgg(figure)
        draw(*figure.subplots(1, panels, squeeze=False)[0])
        canvas.draw()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _colors(systems: Sequence[str]) -> dict[str, str]:
    return dict(zip(systems, itertools.cycle(COLORS), strict=False))


def _finite(seeds: np.ndarray) -> np.ndarray:
    return seeds[np.isfinite(seeds).all(1)]


def _mark(axes: Any, seeds: np.ndarray, color: str) -> None:
    """Marks seeds [n, xy], each connected to their mean."""
    mean = seeds.mean(0)
    for seed in seeds:
        axes.plot(*np.stack([mean, seed], 1), color=color, alpha=0.4, linewidth=1.2)
    axes.scatter(*mean, s=110, color=color, alpha=0.5, linewidths=0, zorder=3)
    axes.scatter(*seeds.T, s=20, color=color, edgecolors=SHEET, linewidths=0.7, zorder=4)


def _label_points(axes: Any, points: Mapping[str, Sequence[float]], colors: Mapping[str, str]) -> None:
    """Writes each name to the right of its point, moved up or down so that names do not overlap."""
    from matplotlib.patheffects import withStroke

    axes.figure.draw_without_rendering()
    heights = {name: axes.transData.transform(point)[1] * 72 / axes.figure.dpi for name, point in points.items()}
    for name, height in apart(heights, 12).items():
        tie = {"arrowstyle": "-", "color": colors[name], "alpha": 0.5, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            name, points[name], (10, height - heights[name]), textcoords="offset points", va="center", color=colors[name], size=9,
            weight="bold", path_effects=[withStroke(linewidth=2, foreground=SHEET)], zorder=4,
            arrowprops=tie if abs(height - heights[name]) > 4 else None,
        )  # fmt: skip


def apart(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Returns the heights in the same order, moved just far enough for a gap of about `gap` between neighbours."""
    order, moved = sorted(heights, key=lambda name: heights[name]), dict(heights)
    for _ in range(200):
        for low, high in itertools.pairwise(order):
            shift = max(0.0, gap - (moved[high] - moved[low])) / 2
            moved[low], moved[high] = moved[low] - shift, moved[high] + shift
    return moved
