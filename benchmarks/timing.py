"""What the benchmarks of speed share: runs that take turns, the machine they ran on, and results as JSON and Markdown."""

import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from i2i_jax import logs


def in_turns(runs: Mapping[str, Callable[[], None]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round: what disturbs the machine disturbs them alike. Each runs once before it is timed."""
    for run in runs.values():
        run()
    rows = [{name: seconds(run) for name, run in runs.items()} for _ in range(rounds)]
    return {name: [row[name] for row in rows] for name in runs}


def seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(values: Sequence[float]) -> dict[str, float]:
    """Their median, and the lowest and highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def ratios(values: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """The spread of value / baseline, round by round."""
    return spread([value / base for value, base in zip(values, baseline, strict=True)])


def shown(of: Mapping[str, float], *, unit: float = 1.0, digits: int = 3) -> str:
    """`median (lowest to highest)` of a spread."""
    return "{} ({} to {})".format(*(f"{of[name] / unit:.{digits}g}" for name in ("median", "lowest", "highest")))


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def about(*packages: str) -> dict[str, Any]:
    """The command, the machine and the versions, as they stand beside figures."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {len(jax.devices())} x {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version()} | {x: importlib.metadata.version(x) for x in ("jax", "flax", "numpy", *packages)},
    }


def write(name: str, results: Any, table: str, *packages: str) -> None:
    """Prints the table and writes it to benchmarks/results/NAME.md, the results to NAME.json."""
    stem = Path(__file__).parent / "results" / name
    logs.atomic_write(stem.with_suffix(".json"), (json.dumps(about(*packages) | {"results": results}, indent=1) + "\n").encode())
    logs.atomic_write(stem.with_suffix(".md"), (table + "\n").encode())
    print(table)
