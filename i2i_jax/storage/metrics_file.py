"""RUN/metrics.jsonl: a row of figures for every step that is reported."""

import json
import math
from pathlib import Path
from typing import Any

from i2i_jax.config import current_name
from i2i_jax.storage.files import atomic_write

TIMING = ("time", "steps_per_second")  # the fields of a row in which two equal runs differ


def parse_row(line: bytes) -> dict[str, Any] | None:
    """One row of metrics.jsonl, under today's names; None for a line that is torn or no row."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not (isinstance(row, dict) and isinstance(row.get("step"), int)):
        return None
    return {current_name(name): value for name, value in row.items()}


def as_json(value: float) -> float | str:
    """`value` as JSON can hold it: "NaN", "Infinity" and "-Infinity" are strings. `float` is the inverse."""
    return value if math.isfinite(value) else json.dumps(value).strip('"')


def keep_until(metrics: Path, step: int) -> dict[str, Any]:
    """Leaves the whole rows up to `step`; returns the last one, {} where there is none."""
    lines = metrics.read_bytes().splitlines() if metrics.exists() else []
    kept = [(line, row) for line in lines if (row := parse_row(line)) and row["step"] <= step]
    atomic_write(metrics, b"".join(line + b"\n" for line, _ in kept))
    return kept[-1][1] if kept else {}
