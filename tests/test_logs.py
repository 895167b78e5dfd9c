import json
import math
import os
import stat
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2i_jax.pages import formats, grids
from i2i_jax.storage import files, metrics_file
from i2i_jax.training.log import RunLog

VALUES = {"generator/gan": 0.5, "generator/l1": 12.25, "discriminator/gan": 0.25, "learning_rate": 2e-4}


def write(workdir: Path, steps: range, *, start: int = 0, **values: float) -> None:
    with RunLog(workdir, total_steps=100, start_step=start, batch_size=2) as log:
        for step in steps:
            log.write(step, VALUES | values | {"generator/gan": step / 8})


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def untimed(workdir: Path) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in metrics_file.TIMING} for row in rows(workdir)]


def test_a_row_holds_step_values_and_timing(tmp_path):
    write(tmp_path, range(10, 31, 10))
    assert untimed(tmp_path) == [{"step": step, **VALUES, "generator/gan": step / 8} for step in (10, 20, 30)]
    assert all(row["time"] >= 0 and row["steps_per_second"] > 0 for row in rows(tmp_path))


@pytest.mark.parametrize("torn", [b"", b'{"step": 50, "gen', b'{"step": 20, "time"', b"\x00\x00\xff\n"])
def test_a_resumed_run_has_the_rows_of_an_uninterrupted_one(tmp_path, torn):
    write(tmp_path / "whole", range(10, 61, 10))
    write(tmp_path / "killed", range(10, 51, 10))
    with (tmp_path / "killed/metrics.jsonl").open("ab") as file:
        file.write(torn)
    write(tmp_path / "killed", range(40, 61, 10), start=30)
    assert untimed(tmp_path / "killed") == untimed(tmp_path / "whole")
    times = [row["time"] for row in rows(tmp_path / "killed")]
    assert times == sorted(times)


def test_a_complete_last_row_without_newline_is_kept(tmp_path):
    write(tmp_path, range(10, 31, 10))
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().rstrip(b"\n"))
    write(tmp_path, range(40, 41), start=30)
    assert [row["step"] for row in rows(tmp_path)] == [10, 20, 30, 40]


def test_a_row_is_on_disk_as_soon_as_it_is_written(tmp_path):
    with RunLog(tmp_path, total_steps=10, start_step=0) as log:
        log.write(1, VALUES)
        assert [row["step"] for row in rows(tmp_path)] == [1]


def test_nan_and_inf_are_valid_json_and_read_back(tmp_path):
    found = {"generator/gan": math.nan, "generator/l1": math.inf, "discriminator/gan": -math.inf}
    with RunLog(tmp_path, total_steps=10, start_step=0) as log:
        log.write(1, found)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    np.testing.assert_equal({name: float(row[name]) for name in found}, found)


def scalars(workdir: Path) -> list[tuple[str, int, float]]:
    """(tag, step, value) of every event file, oldest first; a session start is ("start", step, nan)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((workdir / "tensorboard").iterdir(), key=lambda path: int(path.name.rpartition("_")[2])):
        content = path.read_bytes()
        while content:  # TFRecord: length, its checksum, the event, its checksum
            (size,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
            if event.HasField("session_log"):
                found.append(("start", event.step, math.nan))
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found


def test_tensorboard_hides_events_that_a_resumed_run_repeats(tmp_path):
    write(tmp_path, range(10, 41, 10))
    write(tmp_path, range(30, 41, 10), start=20)
    found = scalars(tmp_path)
    assert [(step, value) for tag, step, value in found if tag == "generator/gan"] == [(s, s / 8) for s in (10, 20, 30, 40, 30, 40)]
    assert [step for tag, step, _ in found if tag == "start"] == [1, 21]
    assert {tag for tag, _, _ in found} == {"start", "steps_per_second", *VALUES}


def test_console_lines_are_aligned_and_show_progress(tmp_path, capsys, monkeypatch):
    clock = iter([100.0, 110.0, 112.0, 114.0])  # the first ten steps compile for eight seconds
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    with RunLog(tmp_path, total_steps=3630, start_step=0, batch_size=2) as log:
        for step, l1 in [(10, 123.456), (20, math.nan), (30, 1.5e-6)]:
            log.write(step, VALUES | {"generator/l1": l1})
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len({line.index("discriminator") for line in lines}) == 1
    assert lines[2].startswith("  30/3630   0.8%   5.0000 steps/s  10.000 images/s   0:12:00 left | generator gan  0.5000  l1  1.5e-6")
    assert " l1     nan" in lines[1]
    assert "1:00:20 left" in lines[0]
    assert [row["time"] for row in rows(tmp_path)] == [10.0, 12.0, 14.0]


def test_console_lines_tell_what_is_known_of_the_devices(tmp_path, capsys):
    with RunLog(tmp_path, total_steps=20, start_step=0) as log:
        log.write(10, VALUES | {"share_of_time_in_steps": 0.934, "tflops_per_second": 0.01, "device_memory_gb": 3.0})
        log.write(20, VALUES | {"share_of_time_in_steps": 0.934, "tflops_per_second": 412.34, "share_of_peak": 0.417})
    unknown, known = capsys.readouterr().out.splitlines()
    assert "steps/s   93% in steps  " in unknown and not any(word in unknown for word in ("FLOP", "peak", "memory"))
    assert "steps/s    412.3 TFLOP/s  42% of peak   93% in steps  " in known
    assert [row["tflops_per_second"] for row in rows(tmp_path)] == [0.01, 412.34]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (0.01234, "0.0123"), (-9.87654, "-9.8765"), (12.345678, "12.346"), (99_998.4, "99998"), (1.234e-5, "1.2e-5"),
     (-5e12, "-5.0e12"), (math.inf, "inf"), (math.nan, "nan")],
)  # fmt: skip
def test_short_numbers_are_seven_characters(value, text):
    assert formats.short(value) == text.rjust(7)


def test_hours():
    assert [formats.hours(seconds) for seconds in (0.0, 59.6, 3661.0, 360_000.0)] == ["0:00:00", "0:01:00", "1:01:01", "100:00:00"]


def test_atomic_write_syncs_the_file_and_its_folder(tmp_path, monkeypatch):
    """First the file, before it is renamed, then its folder."""
    done = []
    sync, replace = os.fsync, os.replace

    def syncing(number):
        done.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        sync(number)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", lambda *of: done.append("name") or replace(*of))
    files.atomic_write(tmp_path / "file", b"content")
    assert (done, (tmp_path / "file").read_bytes()) == (["file", "name", "folder"], b"content")


def test_atomic_write_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "folder/file"
    files.atomic_write(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        files.atomic_write(path, b"new")
    assert [p.read_bytes() for p in path.parent.iterdir()] == [b"old"]


@pytest.mark.parametrize(("channels", "expected"), [(1, [7, 7, 7]), (2, [7, 8, 0]), (3, [7, 8, 9]), (5, [7, 8, 9])])
@pytest.mark.parametrize(("dtype", "unit"), [(np.uint8, 1), (np.uint16, 257)])
def test_any_channels_and_depth_become_rgb8(channels, expected, dtype, unit):
    image = (np.arange(7, 7 + channels) * unit * np.ones((4, 6, 1))).astype(dtype)
    found = grids.to_rgb8(image)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.broadcast_to(expected, (4, 6, 3)))


def test_sixteen_bits_round_to_the_nearest_of_eight():
    image = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(grids.to_rgb8(image)[..., 0], np.round(image / 257).astype(np.uint8))


def test_floats_are_refused():
    with pytest.raises(TypeError, match="float32: must be uint8 or uint16"):
        grids.to_rgb8(np.zeros((2, 2, 3), np.float32))


def test_a_grid_holds_each_image_in_its_cell(tmp_path):
    random = np.random.default_rng(0)
    images = [[random.integers(0, 256, (100, 120, channels), np.uint8) for channels in (1, 3, 4)] for _ in range(2)]
    grids.save_grid(tmp_path / "samples/00000010.png", images, labels=["input", "truth", "random 1"])
    sheet = np.asarray(Image.open(tmp_path / "samples/00000010.png"))
    assert sheet.shape == (grids.LABEL_HEIGHT + 2 * (100 + grids.GAP), grids.GAP + 3 * (120 + grids.GAP), 3)
    for i, row in enumerate(images):
        for j, image in enumerate(row):
            y, x = grids.LABEL_HEIGHT + i * (100 + grids.GAP), grids.GAP + j * (120 + grids.GAP)
            np.testing.assert_array_equal(sheet[y : y + 100, x : x + 120], grids.to_rgb8(image))
    labels = sheet[: grids.LABEL_HEIGHT]
    assert all((labels[:, grids.GAP + j * 124 : grids.GAP + j * 124 + 120] != labels[0, 0]).any() for j in range(3))


def test_small_images_are_magnified_by_a_whole_factor_and_large_ones_shrunk():
    small = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    sheet = grids.grid([[small]], labels=["input"])
    inside = sheet[grids.LABEL_HEIGHT : -grids.GAP, grids.GAP : -grids.GAP]
    np.testing.assert_array_equal(inside, np.kron(small, np.ones((3, 3, 1), np.uint8)))
    assert grids.grid([[np.zeros((300, 2000), np.uint8)]], labels=["input"]).shape[1] == 512 + 2 * grids.GAP


def test_a_row_needs_an_image_for_each_label():
    with pytest.raises(ValueError, match=r"rows of \[1\] images under 2 labels"):
        grids.grid([[np.zeros((8, 8), np.uint8)]], labels=["input", "truth"])
