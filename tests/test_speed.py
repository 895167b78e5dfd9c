"""The speed of a run: timed without waiting, counted without compiling twice, absent where it is not known."""

import json
import logging
import threading
from types import SimpleNamespace

import jax
import pytest

import runs
from i2i_jax.config import override
from i2i_jax.devices import data_sheets, parallel
from i2i_jax.storage import metrics_file
from i2i_jax.training import operations, speed
from i2i_jax.training.pieces import Pieces
from tiny import SIDE

CPU = jax.devices()[:1]


class Result:
    """Losses that arrive when the test says so; waiting for them sets the clock of the thread that waits."""

    def __init__(self, end: float, clock: "Clock | None" = None):
        self.end, self.clock, self.awaited, self.arrived = end, clock, threading.Event(), threading.Event()

    def block_until_ready(self):
        self.awaited.set()
        assert self.arrived.wait(10)
        if self.clock:
            self.clock.watched = self.end


class Clock:
    """A clock that the test sets for training, and results for the thread that waits for them."""

    training = watched = 0.0

    def __call__(self) -> float:
        return self.training if threading.current_thread() is threading.main_thread() else self.watched


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(speed.time, "perf_counter", clock)
    return clock


@pytest.fixture
def a_gigaflop(monkeypatch):
    """Every step takes 1 GFLOP on a device with a peak of 4 GFLOP/s."""
    monkeypatch.setattr(operations, "of_compiled", lambda *_: 1e9)
    monkeypatch.setitem(data_sheets.PEAKS, ("cpu", "float32"), 4e9)


def take(timed: speed.Speed, clock: Clock, calls: list[float], ends: list[float]) -> None:
    """Calls a step at these times, before any has ended; then they end."""
    for called, result in zip(calls, results := [Result(end, clock) for end in ends], strict=True):
        clock.training = called
        assert timed(None, result, None) == (None, result)
    for result in results:
        result.arrived.set()


def fake(state, losses, key):
    return state, losses


@pytest.fixture
def timed(clock, a_gigaflop, monkeypatch):
    for name in ("__init__", "__call__"):  # not of the types that are checked
        monkeypatch.setattr(speed.Speed, name, getattr(speed.Speed, name).__wrapped__)
    with speed.Speed(fake, runs.get_config("pix2pix"), parallel.make_mesh(CPU)) as timed:
        yield timed


def test_a_step_takes_from_its_call_or_the_end_of_the_one_before(timed, clock):
    take(timed, clock, [0.0, 0.1, 5.0], [2.0, 4.0, 7.0])  # two in a row, then a pause of a second
    clock.training = 8.0
    assert timed.figures() == {"share_of_time_in_steps": 0.75, "tflops_per_second": 0.0005, "share_of_peak": 0.125}
    take(timed, clock, [10.0], [11.0])
    clock.training = 12.0
    assert timed.figures() == {"share_of_time_in_steps": 0.25, "tflops_per_second": 0.001, "share_of_peak": 0.25}
    assert timed.figures() == {}


def test_losses_that_never_come_are_not_waited_for_long_after_an_error(timed, monkeypatch):
    monkeypatch.setattr(speed, "PATIENCE", 0.0)
    result = Result(1.0)
    timed(None, result, None)
    assert result.awaited.wait(10)
    timed.__exit__(ValueError, None, None)  # returns
    assert timed._thread.is_alive() and not result.arrived.is_set()
    result.arrived.set()


def test_a_step_that_fails_is_not_raised_in_the_thread(timed, clock):
    take(timed, clock, [0.0], [1.0])
    failing = SimpleNamespace(block_until_ready=lambda: 1 / 0)
    timed(None, failing, None)
    timed(None, failing, None)
    clock.training = 2.0
    timed.figures()
    assert timed._thread.is_alive()


def test_memory_is_that_of_the_device_that_needs_most():
    devices = [SimpleNamespace(memory_stats=lambda i=i: {"bytes_in_use": i * 10**9, "peak_bytes_in_use": 5 * 10**9}) for i in (1, 3, 2)]
    assert speed._memory(devices) == {"device_memory_gb": 3.0, "device_memory_peak_gb": 5.0}
    assert speed._memory([SimpleNamespace(memory_stats=lambda: None)]) == {}
    assert speed._memory([SimpleNamespace(memory_stats=lambda: {"bytes_in_use": 10**9})]) == {"device_memory_gb": 1.0}


@pytest.mark.parametrize(
    ("kind", "platform", "dtype", "peak"),
    [("NVIDIA H200", "gpu", "bfloat16", 989e12), ("NVIDIA H200", "gpu", "float32", 495e12), ("TPU v5 lite", "tpu", "float32", 197e12),
     ("cpu", "cpu", "float32", None), ("NVIDIA T4", "gpu", "bfloat16", None)],
)  # fmt: skip
def test_the_peak_of_a_chip(kind, platform, dtype, peak):
    device = SimpleNamespace(device_kind=kind, platform=platform)
    assert data_sheets.peak(device, dtype) == peak
    with jax.default_matmul_precision("highest"):
        assert data_sheets.peak(device, dtype) == (peak if dtype == "bfloat16" else None)


def counted(config, devices: int, batch_size: int, options=None) -> tuple[float | None, float]:
    """The operations of a device as a run counts them, and as they are counted where jax does not count those of the platform."""
    config = override(config, {"data.batch_size": batch_size, **(options or {})})
    mesh = parallel.make_mesh(jax.devices()[:devices])
    images = [jax.ShapeDtypeStruct((batch_size, SIDE, SIDE, 3), "uint8")] * 2
    raw = operations.RawBatch(*images, jax.ShapeDtypeStruct((batch_size,), "int32"))
    lowered = operations.traced(config, mesh, raw).lower()
    return lowered.cost_analysis()["flops"], operations.of_device(config, raw, mesh)


@pytest.mark.slow
def test_operations_are_those_of_one_device(shallow, shapes_dir):
    config = shallow("pix2pix", shapes_dir)
    direct, elsewhere = counted(config, 1, 2)
    assert direct == elsewhere > 1e6
    of_two, half = counted(config, 2, 4)
    assert half == direct
    assert of_two == pytest.approx(direct, rel=0.02)  # the means over devices are few
    in_parts, whole = counted(config, 1, 4, {"train.microbatches": 2})
    assert in_parts < 0.8 * whole  # a loop's body is counted once
    assert whole > 1.5 * direct


@pytest.mark.slow
def test_a_run_compiles_its_step_once_and_tells_its_speed(shallow, shapes_dir, tmp_path, caplog, capsys):
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        runs.train(shallow("pix2pix", shapes_dir), tmp_path)
    assert sum(record.getMessage().startswith("Compiling jit(step)") for record in caplog.records) == 1
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert {name for name in row if name in metrics_file.SPEED} == {"share_of_time_in_steps", "tflops_per_second"}
        assert 0 < row["share_of_time_in_steps"] <= 1 and row["tflops_per_second"] > 0
    assert "% in steps" in capsys.readouterr().out
    page = (tmp_path / "index.html").read_text()
    assert "time in steps" in page and "TFLOP/s of a device" in page and "share of its peak" not in page


@pytest.mark.slow
def test_a_batch_is_on_the_devices_before_its_step_and_only_reports_wait(shallow, shapes_dir, tmp_path, monkeypatch):
    events, steps = [], iter(range(1, 9))
    batches, call = Pieces.batches, speed.Speed.__call__

    def recorded_batches(pieces, start):
        for number, batch in enumerate(batches(pieces, start), start + 1):
            assert isinstance(batch.input, jax.Array)
            events.append(f"batch {number}")
            yield batch

    def recorded_call(timed, *arguments):
        result = call(timed, *arguments)
        events.append(f"step {next(steps)}")
        return result

    def waiting(function):
        def recorded(tree):
            if threading.current_thread() is threading.main_thread():
                events.append("wait")
            return function(tree)

        return recorded

    monkeypatch.setattr(Pieces, "batches", recorded_batches)
    monkeypatch.setattr(speed.Speed, "__call__", recorded_call)
    for name in ("device_get", "block_until_ready"):
        monkeypatch.setattr(jax, name, waiting(getattr(jax, name)))
    never = {f"train.{name}_every": 100 for name in ("sample", "checkpoint", "eval")}
    runs.train(shallow("pix2pix", shapes_dir, {"train.steps": 6, "train.log_every": 3} | never), tmp_path)
    events = events[events.index("batch 1") :]
    once = [event for event, before in zip(events, [None, *events], strict=False) if event != before]
    assert once == [
        "batch 1", "step 1", "batch 2", "step 2", "batch 3", "step 3", "batch 4", "wait",
        "step 4", "batch 5", "step 5", "batch 6", "step 6", "wait",
    ]  # fmt: skip
