"""What a run tells while it trains: console lines, metrics.jsonl, TensorBoard, and grids of samples."""

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, SupportsFloat, runtime_checkable

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps
from tqdm import tqdm

from i2i_jax.files import atomic_write, writing
from i2i_jax.tensorboard import TensorBoard

TIMING = ("time", "steps_per_second")  # the fields of a row in which two equal runs differ

CELL_WIDTHS = (96, 512)  # pixels; smaller images are magnified by a whole factor so that labels fit, larger ones are shrunk
LABEL_HEIGHT, GAP, FONT_SIZE = 22, 4, 13
SHEET, INK = (232, 232, 230), (60, 64, 70)  # a white image keeps its edge


def parse_row(line: bytes) -> dict[str, Any] | None:
    """One row of metrics.jsonl; None for a line that is torn or no row."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def as_json(value: float) -> float | str:
    """`value` as JSON can hold it: "NaN", "Infinity" and "-Infinity" are strings. `float` is the inverse."""
    return value if math.isfinite(value) else json.dumps(value).strip('"')


@runtime_checkable
class Writer(Protocol):
    """Where the numbers of a run go."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class RunLog(AbstractContextManager["RunLog"]):
    """The figures of a run, written at rising steps to the console, RUN/metrics.jsonl and RUN/tensorboard.

    A row of metrics.jsonl is {"step", "time", the values, "steps_per_second"}: `time` is seconds of training, over all
    resumptions; a value that is not finite is a string (see `as_json`). Rows after `start_step`, and what a kill tore, are
    dropped first: a resumed run leaves the rows of an undisturbed one, apart from `TIMING`.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        total_steps: int,
        start_step: int,
        batch_size: int | None = None,
        also: Sequence[Writer] = (),
    ):
        """`batch_size`, of all devices together, adds images per second to the console line. `also` get the numbers too."""
        self._total_steps, self._batch_size = total_steps, batch_size
        self._path = Path(workdir) / "metrics.jsonl"
        last_row = _forget_after(self._path, start_step)
        self._metrics = self._path.open("a", encoding="utf-8")
        self._writers = [TensorBoard(Path(workdir) / "tensorboard", start_step=start_step), *also]
        now = time.perf_counter()
        self._origin = now - last_row.get("time", 0.0)
        self._previous, self._warm = (start_step, now), None

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close)
            with writing(self._path):
                self._metrics.close()

    def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Tells of the training after `step` steps; names are "player/term" or a plain word."""
        now = time.perf_counter()
        rate = _rate(self._previous, (step, now))
        terms = {name: float(value) for name, value in values.items()}
        numbers = {"time": round(now - self._origin, 3), **terms, "steps_per_second": float(f"{rate:.5g}")}
        row = json.dumps({"step": step} | {name: as_json(value) for name, value in numbers.items()}) + "\n"
        with writing(self._path):
            self._metrics.write(row)
            self._metrics.flush()  # into the operating system's hands before any checkpoint of this step
        for writer in self._writers:
            writer.write(step, {name: value for name, value in numbers.items() if name != "time"})
        with tqdm.external_write_mode():
            print(self._line(step, terms, rate, _rate(self._warm or self._previous, (step, now))), flush=True)
        self._previous = (step, now)
        self._warm = self._warm or (step, now)  # compilation took most of the first interval: time left is judged without it

    def _line(self, step: int, values: Mapping[str, float], rate: float, mean_rate: float) -> str:
        total = str(self._total_steps)
        images = "" if self._batch_size is None else f" {short(rate * self._batch_size)} images/s"
        left = hours((self._total_steps - step) / mean_rate) if mean_rate else "?"
        head = f"{step:{len(total)}}/{total} {100 * step / self._total_steps:5.1f}%  {short(rate)} steps/s{images}  {left:>8} left"
        groups: dict[str, list[str]] = {}
        for name, value in values.items():
            player, _, term = name.rpartition("/")
            groups.setdefault(player, []).append(f"{term} {short(value)}")
        return " | ".join([head, *(f"{player} {'  '.join(terms)}".lstrip() for player, terms in groups.items())])


def _rate(start: tuple[int, float], end: tuple[int, float]) -> float:
    """Steps per second between two (step, seconds); 0 where no time or no step went by."""
    steps, seconds = end[0] - start[0], end[1] - start[1]
    return steps / seconds if seconds > 0 else 0.0


def _forget_after(metrics: Path, step: int) -> dict[str, Any]:
    """Leaves the whole rows up to `step`; returns the last one, {} where there is none."""
    lines = metrics.read_bytes().splitlines() if metrics.exists() else []
    kept = [(line, row) for line in lines if (row := parse_row(line)) and row["step"] <= step]
    atomic_write(metrics, b"".join(line + b"\n" for line, _ in kept))
    return kept[-1][1] if kept else {}


def short(value: float) -> str:
    """Seven characters, three to five digits: 0.0123, 12.345, 1234.5, 1.2e-5."""
    if not math.isfinite(value):
        return f"{value:7}"
    if value == 0 or 1e-3 <= abs(value) < 99_999:
        decimals = 4 - min(4, int(math.log10(max(abs(value), 1.0))))
        return f"{value:7.{decimals}f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}".rjust(7)


def hours(seconds: float) -> str:
    """`h:mm:ss`"""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def to_8_bits(image: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """uint8 as it is and uint16 rounded. Raises TypeError."""
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise TypeError(f"image of {image.dtype}: must be uint8 or uint16")
    return image


def to_rgb8(image: Shaped[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of any uint8 or uint16 image: grey as grey, two channels as red and green, of more than three the first three."""
    image = np.atleast_3d(to_8_bits(image))
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return np.pad(image[..., :3], ((0, 0), (0, 0), (0, max(0, 3 - image.shape[2]))))


def fitted(image: Shaped[np.ndarray, "h w *c"], size: tuple[int, int]) -> UInt8[np.ndarray, "_h _w 3"]:
    """A picture of the whole image, scaled to fit into this width and height, in the middle of a sheet of that size."""
    picture = Image.fromarray(to_rgb8(image))
    return np.asarray(picture if picture.size == size else ImageOps.pad(picture, size, color=SHEET))


def grid(rows: Sequence[Sequence[np.ndarray]], *, labels: Sequence[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of images ([h, w], or [h, w, c]; uint8 or uint16) under column labels, in cells of the size of the first image.

    Raises ValueError for a row that has not one image for each label.
    """
    if not rows or any(len(row) != len(labels) for row in rows):
        raise ValueError(f"rows of {[len(row) for row in rows]} images under {len(labels)} labels: must be as many")
    width, height = _cell_size(*rows[0][0].shape[:2])
    columns, below = width + GAP, height + GAP
    sheet = Image.new("RGB", (GAP + columns * len(labels), LABEL_HEIGHT + below * len(rows)), SHEET)
    for column, label in enumerate(labels):
        sheet.paste(_label(label, width), (GAP + column * columns, 0))
        for line, row in enumerate(rows):
            picture = Image.fromarray(to_rgb8(row[column]))
            magnified = picture.width <= width
            picture = picture.resize((width, height), Image.Resampling.NEAREST if magnified else Image.Resampling.LANCZOS)
            sheet.paste(picture, (GAP + column * columns, LABEL_HEIGHT + line * below))
    return np.asarray(sheet)


def _cell_size(height: int, width: int) -> tuple[int, int]:
    """The (width, height) at which images of this size are shown."""
    narrowest, widest = CELL_WIDTHS
    factor = widest / width if width > widest else math.ceil(narrowest / width)
    return round(width * factor), max(1, round(height * factor))


def _label(text: str, width: int) -> Image.Image:
    strip = Image.new("RGB", (width, LABEL_HEIGHT), SHEET)
    ImageDraw.Draw(strip).text((1, LABEL_HEIGHT // 2), text, fill=INK, font=ImageFont.load_default(FONT_SIZE), anchor="lm")
    return strip


def save_grid(path: str | os.PathLike, rows: Sequence[Sequence[np.ndarray]], *, labels: Sequence[str]) -> None:
    """Writes `grid(rows)` as PNG, whole or not at all. The run's page shows RUN/samples/{step:08d}.png."""
    buffer = io.BytesIO()
    Image.fromarray(grid(rows, labels=labels)).save(buffer, "PNG")
    atomic_write(Path(path), buffer.getvalue())
