"""Pages that open from disk: the state of a run, and a translated folder. No server, no network."""

import html
import json
import math
import os
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple
from urllib.parse import quote

from PIL import Image

from i2i_jax.config import HIGHER_IS_BETTER
from i2i_jax.pages.formats import hours, short
from i2i_jax.storage.files import atomic_write
from i2i_jax.storage.metrics_file import parse_row

MAX_POINTS = 1000  # of a curve: longer runs show every n-th row
ROWS = 200  # of a translated folder, on a page
COLOURS = 6  # in style.css
MEASURED = "eval/"  # begins the names of figures among the losses of a row


def write_run(workdir: str | os.PathLike) -> None:
    """Writes RUN/index.html from what the run's folder holds. What is not there yet, or cannot be read, is left out."""
    workdir = Path(workdir)
    config = _flat(_read_json(workdir / "config.json"))
    lines = _lines(workdir / "metrics.jsonl")
    rows, every = _thinned(lines)
    measured, _ = _thinned([line for line in lines if MEASURED.encode() in line])
    total = config.get("train.steps")
    step = rows[-1]["step"] if rows else 0
    finished = total is not None and step >= total
    percent = 100 * step / total if total else 0.0
    state = "finished" if finished else "training"
    _write(
        workdir / "index.html",
        "run.html",
        title=html.escape(f"{percent:.0f} % · {workdir.resolve().name}"),
        name=html.escape(workdir.resolve().name),
        subtitle=html.escape(" · ".join([f"{config[n]}" for n in ("objective", "data.name") if n in config] + [state])),
        percent=f"{percent:.2f}",
        figures=_definitions(_progress(rows, total, config.get("data.batch_size"))),
        warning=_warning(rows),
        thinned="" if every == 1 else f"One row in {every} is shown.",
        evaluation=_evaluations(workdir / "evaluation"),
        command=_command(workdir / "command.txt"),
        parameters=_parameters(workdir / "parameters.txt"),
        config=_section_of_config(config),
        data=_embed(
            {"charts": _curves(rows), "figures": _figures(measured), **_samples(workdir), "finished": finished, "written": time.time()}
        ),
        script=_template("run.js"),
    )


def write_evaluation(path: Path, written: dict[str, Any], sheets: dict[str, Path], *, title: str) -> None:
    """Writes a page of what an evaluation's JSON holds, and of its sheets of pictures by their titles."""
    figures = {name: value for name, value in written["figures"].items() if not isinstance(value, list)}
    rows = "".join(_row_of_figure(name, value, written["standard_errors"].get(name)) for name, value in figures.items())
    protocol = {name: value for name, value in written.items() if not isinstance(value, (dict, list))}
    shown = (_sheet(html.escape(title), quote(os.path.relpath(sheet, path.parent))) for title, sheet in sheets.items())
    _write(
        path,
        "evaluation.html",
        title=html.escape(f"Evaluation · {title}"),
        protocol=_definitions(protocol),
        rows=rows,
        notes="".join(f'<p class="warning">{html.escape(note)}</p>' for note in written["notes"]),
        sheets="\n".join(shown),
        weights=_definitions(written["weights"] | written["versions"]),
    )


def _sheet(title: str, source: str) -> str:
    return f'<section><h2>{title}</h2><figure class="sheet"><a href="{source}"><img src="{source}" alt="{title}"></a></figure></section>'


def _row_of_figure(name: str, value: Any, error: float | None) -> str:
    better = {True: "↑", False: "↓", None: ""}[HIGHER_IS_BETTER.get(name)]
    cells = (_cell(value), "" if error is None else f"± {_cell(error)}", better)
    return f'<tr><th scope="row">{html.escape(name)}</th>{"".join(f"<td>{html.escape(cell)}</td>" for cell in cells)}</tr>'


class Translated(NamedTuple):
    """The image files of one translation, each as a path from the working directory."""

    input: str | os.PathLike
    outputs: Sequence[str | os.PathLike]
    style: str | os.PathLike | None = None


def write_translation(output_dir: str | os.PathLike, rows: Sequence[Translated], *, title: str) -> None:
    """Writes pages that show each input beside its style and outputs, from `output_dir`/index.html on. The images stay where they are."""
    parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    names = ["index.html", *(f"page_{number:04d}.html" for number in range(2, len(parts) + 1))]
    count = f"{len(rows):,} {'image' if len(rows) == 1 else 'images'}"
    for name, part in zip(names, parts, strict=True):
        shown = "\n".join(_translated(Path(output_dir), row) for row in part)
        _write(Path(output_dir) / name, "translation.html", title=html.escape(title), count=count, rows=shown, pages=_links(names, name))


def _links(names: Sequence[str], here: str) -> str:
    if len(names) == 1:
        return ""
    marks = {here: ' aria-current="page"'}
    links = (f'<a href="{name}"{marks.get(name, "")}>{number}</a>' for number, name in enumerate(names, 1))
    return f'<nav class="pages" aria-label="Pages">{"".join(links)}</nav>'


def _translated(output_dir: Path, row: Translated) -> str:
    style = [] if row.style is None else [("style", row.style)]
    given = "".join(_figure(output_dir, label, path, "given") for label, path in [("input", row.input), *style])
    numbered = [(str(i) if len(row.outputs) > 1 else "output", path) for i, path in enumerate(row.outputs, 1)]
    outputs = "".join(_figure(output_dir, label, path, "output") for label, path in numbered)
    name = html.escape(Path(row.input).name)
    return f'<section class="translated"><h2>{name}</h2><div class="images" tabindex="0">{given}{outputs}</div></section>'


def _figure(output_dir: Path, label: str, path: str | os.PathLike, kind: str) -> str:
    source = quote(os.fsencode(os.path.relpath(path, output_dir).replace(os.sep, "/")))
    name = html.escape(Path(path).name)
    image = f'<img src="{source}" alt="{name}" title="{name}" loading="lazy">'
    return f'<figure class="{kind}"><a href="{source}">{image}</a><figcaption>{html.escape(label)}</figcaption></figure>'


def _write(path: Path, template: str, *, title: str, **parts: str) -> None:
    body = Template(_template(template)).substitute(parts, title=title)
    page = Template(_template("page.html")).substitute(title=title, style=_template("style.css"), body=body)
    atomic_write(path, page.encode("utf-8", "backslashreplace"))  # file names may hold bytes that are no text


def _template(name: str) -> str:
    return resources.files("i2i_jax").joinpath("templates", name).read_text("utf-8")


def _embed(value: Any) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names to the scalars of nested objects; lists are left out."""
    if isinstance(value, dict):
        return {name: leaf for key, inner in value.items() for name, leaf in _flat(inner, f"{prefix}.{key}").items()}
    return {} if isinstance(value, list) or not prefix else {prefix[1:]: value}


def _lines(metrics: Path) -> list[bytes]:
    return metrics.read_bytes().splitlines() if metrics.exists() else []


def _thinned(lines: list[bytes]) -> tuple[list[dict[str, Any]], int]:
    """At most MAX_POINTS rows, one in `every` and always the last; 100,000 rows take about a tenth of a second."""
    every = math.ceil(len(lines) / (MAX_POINTS - 1)) or 1
    chosen = [*lines[every - 1 :: every], *lines[-1:]]
    rows = {row["step"]: row for line in chosen if (row := parse_row(line))}
    return list(rows.values()), every


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _terms(row: dict[str, Any]) -> list[str]:
    return [name for name in row if "/" in name]


def _curves(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chart for each player, a curve for each of its terms."""
    names = [name for name in dict.fromkeys(name for row in rows for name in _terms(row)) if not name.startswith(MEASURED)]
    colours = {term: i % COLOURS for i, term in enumerate(dict.fromkeys(name.partition("/")[2] for name in names))}
    charts: dict[str, list] = {}
    for name in names:
        player, _, term = name.partition("/")
        charts.setdefault(player, []).append(_term(rows, name) | {"name": term, "colour": colours[term]})
    steps = [row["step"] for row in rows]
    return [{"name": player.capitalize(), "steps": steps, "terms": terms, "measured": False} for player, terms in charts.items()]


def _figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chart for each figure that was measured while training, and whether a higher one is better."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name.startswith(MEASURED)]
    charts = []
    for name in names:
        figure, has = name.removeprefix(MEASURED), [row for row in rows if name in row]
        term = _term(has, name) | {"name": figure, "colour": 0}
        steps = [row["step"] for row in has]
        charts.append({"name": figure, "steps": steps, "terms": [term], "measured": True, "higher": HIGHER_IS_BETTER.get(figure)})
    return charts


def _term(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The values of a curve; a number that is not finite is a gap."""
    values = [_number(row.get(name)) for row in rows]
    return {"values": [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]}


def _samples(workdir: Path) -> dict[str, Any]:
    """The grids RUN/samples/{step}.png in order, and the (width, height) of the newest."""
    paths = sorted((p for p in workdir.glob("samples/*.png") if p.stem.isdecimal()), key=lambda p: int(p.stem))
    samples = [{"step": int(p.stem), "source": f"samples/{quote(p.name)}"} for p in paths]
    return {"samples": samples, "sample_size": _size(paths[-1]) if paths else None}


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def _progress(rows: list[dict[str, Any]], total: int | None, batch_size: int | None) -> dict[str, str]:
    if not rows:
        return {"step": "none yet"}
    last, before = rows[-1], rows[-1 - max(1, len(rows) // 10)] if len(rows) > 1 else None
    shown = {"step": f"{last['step']:,}" + (f" of {total:,}" if total else "")}
    seconds = last.get("time", 0) - before.get("time", 0) if before else 0
    if before and seconds > 0:
        rate = (last["step"] - before["step"]) / seconds
        shown["steps per second"] = _speed(rate)
        if batch_size:
            shown["images per second"] = _speed(rate * batch_size)
        if total and total > last["step"]:
            shown["time left"] = hours((total - last["step"]) / rate)
    if "time" in last:
        shown["time trained"] = hours(last["time"])
    if "learning_rate" in last:
        shown["learning rate"] = short(_number(last["learning_rate"])).strip()
    return shown


def _speed(rate: float) -> str:
    return f"{rate:,.1f}" if rate >= 10 else f"{rate:.2g}"


def _warning(rows: list[dict[str, Any]]) -> str:
    for row in rows:
        if bad := [name for name in _terms(row) if not math.isfinite(_number(row[name]))]:
            return f'<p class="warning">Not finite at step {row["step"]:,}: {html.escape(", ".join(bad))}</p>'
    return ""


def _definitions(values: dict[str, Any]) -> str:
    return "".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>" for name, value in values.items())


def _evaluations(folder: Path) -> str:
    """A table with a row for each RUN/evaluation/*.json, the newest step first, and a column for each scalar and figure in them."""
    found = {path.stem: _scalars(_read_json(path)) for path in sorted(folder.glob("*.json"))}
    order = sorted(found, key=lambda name: (_number(found[name].get("step", 0)), name), reverse=True)
    columns = list(dict.fromkeys(column for name in order for column in found[name]))
    if not columns:
        return ""
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in ["", *columns])
    body = "".join(f"<tr><td>{_link(folder / f'{name}.html')}</td>{_cells(found[name], columns)}</tr>" for name in order)
    return f'<section><h2>Evaluation</h2><div class="scroll" tabindex="0"><table><tr>{head}</tr>{body}</table></div></section>'


def _scalars(evaluation: Any) -> dict[str, Any]:
    """What was measured and how; the figures by their own names."""
    flat = _flat(evaluation)
    return {name.removeprefix("figures."): x for name, x in flat.items() if "." not in name or name.startswith("figures.")}


def _link(path: Path) -> str:
    """To an evaluation's page, where there is one."""
    name = html.escape(path.stem)
    return f'<a href="{quote(f"{path.parent.name}/{path.name}")}">{name}</a>' if path.exists() else name


def _cells(values: dict[str, Any], columns: list[str]) -> str:
    return "".join(f"<td>{html.escape(_cell(values.get(column, '')))}</td>" for column in columns)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return short(value).strip()
    return f"{value:,}" if isinstance(value, int) else str(value)


def _command(path: Path) -> str:
    text = _read_text(path)
    return f"<section><h2>Command</h2><pre>{text}</pre></section>" if text else ""


def _parameters(path: Path) -> str:
    text = _read_text(path)
    return f'<section><details><summary><h2>Parameters</h2></summary><pre class="table">{text}</pre></details></section>' if text else ""


def _read_text(path: Path) -> str:
    return html.escape(path.read_text("utf-8", "replace").strip()) if path.exists() else ""


def _section_of_config(config: dict[str, Any]) -> str:
    if not config:
        return ""
    values = f'<dl class="config">{_definitions(config)}</dl>'
    return f'<section><details id="config"><summary><h2>Configuration</h2></summary>{values}</details></section>'
