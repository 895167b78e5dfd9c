"""Helpers of the speed benchmarks: timing runs in turns, and writing results as JSON and Markdown."""

import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import tables

from i2i_jax.storage import files

RESULTS = Path(os.environ.get("I2I_RESULTS", Path(__file__).parent / "results"))

Run = Callable[[], Any]


def in_turns(makers: Mapping[str, Callable[[], Run]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round. Each run has its own process, and a warm-up before the first round.

    Runs take turns, so that other load on the machine affects them equally and they do not disturb each other. Exits if one fails.
    """
    context = multiprocessing.get_context("spawn")
    pipes = {name: context.Pipe() for name in makers}
    processes = [context.Process(target=_serve, args=(make, pipes[name][1]), daemon=True) for name, make in makers.items()]
    for process in processes:
        process.start()
    for _, other_end in pipes.values():
        other_end.close()  # so that a process that fails is noticed
    ends = {name: end for name, (end, _) in pipes.items()}
    for name, end in ends.items():
        _answer(name, end)
    rows = [{name: _ask(name, end) for name, end in ends.items()} for _ in range(rounds)]
    for process in processes:
        process.terminate()
    return {name: [row[name] for row in rows] for name in makers}


def alone(function: Callable[[], Any]) -> Any:
    """Calls the function in a new process and returns its result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function)


def _serve(make: Callable[[], Run], questions: Connection) -> None:
    run = make()
    run()
    questions.send("ready")
    while True:
        questions.recv()
        questions.send(seconds(run))


def _ask(name: str, end: Connection) -> float:
    end.send("again")
    return _answer(name, end)


def _answer(name: str, end: Connection) -> Any:
    """What the process of this run sends. Exits if it has failed, which it has said on stderr."""
    try:
        return end.recv()
    except EOFError:
        raise SystemExit(f"{name} failed") from None


def seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, lowest and highest value."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def ratios(values: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """The spread of value / baseline, round by round."""
    return spread([value / base for value, base in zip(values, baseline, strict=True)])


def shown(values: Mapping[str, float], *, unit: float = 1.0, digits: int = 3) -> str:
    """Formats a spread as `median (lowest to highest)`."""
    return "{} ({} to {})".format(*(f"{values[name] / unit:.{digits}g}" for name in ("median", "lowest", "highest")))


def write(name: str, results: Any, table: str, *packages: str) -> None:
    """Prints the table, and writes it to NAME.md and the results to NAME.json, in benchmarks/results or the folder $I2I_RESULTS."""
    stem = RESULTS / name
    files.atomic_write(
        stem.with_suffix(".json"), (json.dumps(tables.provenance(*packages) | {"results": results}, indent=1) + "\n").encode()
    )
    files.atomic_write(stem.with_suffix(".md"), (table + "\n").encode())
    print(table)
