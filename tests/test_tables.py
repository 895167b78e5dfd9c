"""The benchmarks' tables, records and plots."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SPEC = importlib.util.spec_from_file_location("tables", Path(__file__).parents[1] / "benchmarks" / "tables.py")
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)

MEASURED = {
    ("one", 0): {"modes": 5.5, "l1": 0.125, "kl_by_dimension": [1.0, 0.0]},
    ("one", 1): {"modes": 6.0, "l1": 0.375, "kl_by_dimension": [0.5, 0.5]},
    ("two", 0): {"modes": 2.0, "l1": 0.0625},
}


def run(folder: Path, *rows: dict) -> Path:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def runs(tmp_path) -> dict:
    evaluated = {"step": 2, "time": 1.0, "eval/modes": 1.0, "eval/l1": 0.5}
    return {
        ("one", 0): run(tmp_path / "0", {"step": 1, "time": 0.5, "generator/l1": 3.0}, evaluated, {**evaluated, "step": 4, "time": 2.0}),
        ("one", 1): run(tmp_path / "1", {**evaluated, "eval/modes": 3.0}, {"step": 4, "eval/modes": "NaN"}, {"step": 6, "eval/modes": 9.0}),
        ("one", 2): run(tmp_path / "2", {"step": 1, "time": 0.5}),
        ("two", 0): tmp_path / "absent",
    }


def test_markdown():
    assert tables.markdown(["one", "two", "never run"], ["modes", "l1"], MEASURED).splitlines() == [
        "| system | seeds | modes recovered, of 6 ↑ | L1 to the target ↓ |",
        "| --- | --- | --- | --- |",
        "| one | 2 | **5.75** (5.50 to 6.00) | 0.250 (0.125 to 0.375) |",
        "| two | 1 | 2.00 | **0.062** |",
    ]


@pytest.mark.parametrize(
    ("by_system", "higher", "cells"),
    [
        ([[104.2], [99.6, 101.6]], False, ["104", "**101** (100 to 102)"]),
        ([[0.01234], []], True, ["0.0123", "–"]),  # a single system is not marked as the best
        ([[0.5], [np.nan, 0.4]], True, ["0.500", "not finite in 1 of 2"]),
        ([[2.001], [2.0]], True, ["**2.00**", "**2.00**"]),  # equal after rounding: both are best
        ([[1.0], [3.0]], None, ["1.00", "3.00"]),
        ([[0.0], [0.0]], False, ["**0.00**", "**0.00**"]),
    ],
)
def test_column(by_system, higher, cells):
    assert tables._column([np.array(values, float) for values in by_system], higher) == cells


def test_curve_has_steps_that_all_evaluated_seeds_share(runs):
    steps, seeds = tables.curve("one", runs, "modes")
    assert steps.tolist() == [2]
    assert seeds.tolist() == [[1.0], [3.0]]
    assert tables.curve("two", runs, "modes")[0].size == 0


def test_record_is_strict_json(runs):
    measured = MEASURED | {("two", 0): {"modes": float("nan")}}
    results = json.loads(json.dumps(tables.record(measured, runs), allow_nan=False))["results"]
    assert [(each["system"], each["seed"]) for each in results] == list(MEASURED)
    assert results[0]["steps"] == 4 and results[0]["figures"]["kl_by_dimension"] == [1.0, 0.0]
    assert [row["step"] for row in results[0]["while_training"]] == [2, 4]
    assert results[2] == {"system": "two", "seed": 0, "figures": {"modes": "NaN"}, "while_training": []}


def test_apart():
    moved = tables.apart({"high": 1.0, "low": 0.0, "far": 50.0}, 10)
    assert moved["high"] - moved["low"] == pytest.approx(10)
    assert moved["high"] + moved["low"] == pytest.approx(1)
    assert moved["far"] == 50


def test_write(runs, tmp_path):
    pytest.importorskip("matplotlib")
    stem = tmp_path / "results" / "plane"
    text = tables.write(stem, tables.Table("Plane", ["one", "two", "never run"], ["modes"], plane=("modes", "l1")), MEASURED, runs)
    assert stem.with_suffix(".md").read_text() == text
    assert text.startswith("### Plane\n\n| system |")
    tables.write(stem.with_name("dots"), tables.Table("Dots", ["one", "two"], ["l1", "modes"]), MEASURED, runs)
    plots = {"plane.png", "plane_steps.png", "dots.png"}
    assert {path.name for path in stem.parent.iterdir()} == {"plane.md", "plane.json", "dots.md", "dots.json"} | plots
    for plot in stem.parent.glob("*.png"):
        assert plot.stat().st_size < 150_000
        assert len(np.unique(np.asarray(Image.open(plot)))) > 10  # something is drawn
