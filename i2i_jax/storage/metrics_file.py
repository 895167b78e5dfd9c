"""RUN/metrics.jsonl: one row of metrics for each reported step."""

import json
import math
from pathlib import Path
from typing import Any

from i2i_jax.config import current_name
from i2i_jax.storage.files import atomic_write

# What the devices did, where it is known: the share of the time in which they computed steps, TFLOP/s of one device during these, what
# share of its data sheet's peak this is, and gigabytes of its memory, now and at most.
SPEED = ("share_of_time_in_steps", "tflops_per_second", "share_of_peak", "device_memory_gb", "device_memory_peak_gb")
TIMING = ("time", "steps_per_second", *SPEED)  # the only fields that differ between two runs of the same config


def parse_row(line: bytes) -> dict[str, Any] | None:
    """Parses one line of metrics.jsonl, with old names replaced by current ones; None if the line is truncated or not a row."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not (isinstance(row, dict) and isinstance(row.get("step"), int)):
        return None
    return {current_name(name): value for name, value in row.items()}


def as_json(value: float) -> float | str:
    """Returns `value` as JSON can hold it: NaN and Inf become "NaN", "Infinity" and "-Infinity". `float` is the inverse."""
    return value if math.isfinite(value) else json.dumps(value).strip('"')


def keep_until(metrics: Path, step: int) -> dict[str, Any]:
    """Removes all rows after `step`, and invalid lines; returns the last row that is left, {} if there is none."""
    lines = metrics.read_bytes().splitlines() if metrics.exists() else []
    rows = [(line, row) for line in lines if (row := parse_row(line)) and row["step"] <= step]
    atomic_write(metrics, b"".join(line + b"\n" for line, _ in rows))
    return rows[-1][1] if rows else {}
