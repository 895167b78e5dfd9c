"""Full, read-only and shared disks, and checkpoints that differ from what was saved."""

import contextlib
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
from i2i_jax.config import ConfigError
from i2i_jax.data import shapes
from i2i_jax.pages import grids
from i2i_jax.pages.run import write_run
from i2i_jax.storage import checkpoints, files, metrics_file
from i2i_jax.storage.checkpoints import CheckpointError, Checkpoints, restore_for_inference
from i2i_jax.training import run_folder
from i2i_jax.training.log import RunLog

ROOM = 100_000  # bytes


@contextlib.contextmanager
def tmpfs(folder: Path):
    """Mounts a file system of ROOM bytes; yields the message of the system when it is full."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("only root may mount")
    try:
        yield "No space left on device"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def size_limit(folder: Path):
    """Limits the size of each file to ROOM bytes; yields the message of the system when a file exceeds it."""
    folder.mkdir(exist_ok=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield "File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(params=[tmpfs, size_limit], ids=lambda disk: disk.__name__)
def full_disk(request, tmp_path):
    """A folder with little space, and the message of the system when it is full."""
    with request.param(tmp_path / "disk") as reason:
        yield tmp_path / "disk", reason


def test_metrics_on_a_full_disk(full_disk, capsys):
    """The row that does not fit raises at once; the rows before it stay, and a resumed run continues after them."""
    workdir, reason = full_disk
    with pytest.raises(OSError, match=f"^{workdir}/(metrics.jsonl|tensorboard/events.*): cannot be written .{reason}.$"):
        with contextlib.suppress(OSError), RunLog(workdir, total_steps=10**6, start_step=0) as log:
            for step in range(1, 10**6):
                last = step
                try:
                    log.write(step, {f"generator/term_{i}": 1.0 for i in range(20)})
                except OSError as error:
                    failure = error
                    raise
        raise failure
    kept = [metrics_file.parse_row(line) for line in (workdir / "metrics.jsonl").read_bytes().splitlines()]
    steps = [row["step"] for row in kept if row]
    assert last > 20 and steps in (list(range(1, last)), list(range(1, last + 1)))


@pytest.mark.parametrize("name", ["index.html", "samples/00000001.png"])
def test_a_page_and_a_picture_on_a_full_disk(full_disk, name):
    workdir, reason = full_disk
    files.atomic_write(workdir / name, b"old")
    with contextlib.suppress(OSError), (workdir / "filler").open("wb", buffering=0) as filler:
        filler.write(bytes(ROOM))
    with pytest.raises(OSError, match=f"^{workdir / name}: cannot be written .{reason}.$"):
        if name == "index.html":
            (workdir / "command.txt").write_bytes(b"") if reason != "File too large" else (workdir / "command.txt").write_bytes(bytes(ROOM))
            write_run(workdir)
        else:
            noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
            grids.save_grid(workdir / name, [[noise]], labels=["x"])
    assert (workdir / name).read_bytes() == b"old"
    assert not list(workdir.rglob("*.tmp"))


def test_a_dataset_on_a_full_disk(full_disk, monkeypatch):
    disk, reason = full_disk
    monkeypatch.setattr(shapes, "SPLITS", dict.fromkeys(shapes.SPLITS, 300))
    with pytest.raises((OSError, shapes.prepared.SetError)) as error:
        shapes.pairs("train", disk)
    assert "\n" not in str(error.value)
    assert reason in str(error.value)
    assert not [path for path in disk.rglob("*") if path.is_file() or "1.0.0" in path.name]


def test_a_run_folder_that_is_read_only(unprivileged, shapes_dir):
    root, nobody = unprivileged
    data = shutil.copytree(shapes_dir, root / "data")
    (root / "runs").mkdir(mode=0o555)
    subprocess.run(["chmod", "-R", "a+rX", data], check=True)
    config = runs.tiny("pix2pix", data)
    with pytest.raises(OSError, match=f"^{root}/runs/one/.lock: cannot be written .Permission denied.$"), nobody():
        runs.train(config, root / "runs" / "one")
    assert not list((root / "runs").iterdir())


HOLD = """
import sys
from pathlib import Path
from i2i_jax.storage import files
with files.lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_on_one_run_is_refused(tmp_path, shapes_dir):
    workdir = tmp_path / "run"
    config = runs.tiny("pix2pix", shapes_dir)
    command = [sys.executable, "-c", HOLD, str(workdir / ".lock")]
    with subprocess.Popen(command, cwd=runs.CONFIGS.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout and owner.stdout.readline() == "locked\n"
        with pytest.raises(
            ConfigError, match=f"^{workdir} is being trained by process {owner.pid} on .*: wait for it, or name another --workdir$"
        ):
            runs.train(config, workdir)
        assert [path.name for path in workdir.iterdir()] == [".lock"]
        owner.kill()
    (workdir / "samples").mkdir()
    (workdir / "samples" / ".00000004.png.123.tmp").write_text("left by a process that was killed")
    with run_folder.claim(workdir, config, ""):
        assert (workdir / "config.json").exists()
        assert not list((workdir / "samples").iterdir())


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    with files.lock(tmp_path / "a" / "lock"):
        assert (tmp_path / "a" / "lock").read_text().startswith("process ")


def test_a_clock_that_goes_backwards(tmp_path, monkeypatch):
    """Rows, checkpoints and pages are ordered by step, not by time."""
    clock = iter(range(10**9, 0, -3600))
    for start in (0, 2):
        monkeypatch.setattr("time.time", lambda: next(clock))
        with RunLog(tmp_path, total_steps=4, start_step=start) as log:
            for step in (start + 1, start + 2):
                log.write(step, {"generator/l1": step})
        kept = Checkpoints(tmp_path / "checkpoints", keep=2)
        kept.save(start + 2, {"params": jnp.full(3, start)})
        kept.close()
        write_run(tmp_path)
        monkeypatch.undo()
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in written] == [1, 2, 3, 4]
    assert [row["time"] for row in written] == sorted(row["time"] for row in written)
    assert np.array_equal(restore_for_inference(tmp_path / "checkpoints", TEMPLATE)["params"], np.full(3, 2))


TEMPLATE = {"params": jax.ShapeDtypeStruct((3,), jnp.int32)}


def saved(directory: Path, *steps: int) -> Checkpoints:
    kept = Checkpoints(directory, keep=9)
    for step in steps:
        kept.save(step, {"params": jnp.full(3, step)})
    kept.wait()
    return kept


def test_no_bit_can_flip_unseen(tmp_path):
    """Whatever file of a checkpoint it is in: what is restored is what was saved, or the step before it."""
    numbers = np.random.default_rng(0).normal(size=(2, 64, 48)).astype(np.float32)
    kept = Checkpoints(tmp_path / "whole", keep=2)
    for step, values in enumerate(numbers, 1):
        kept.save(step, {"params": jnp.asarray(values)})
    kept.close()
    template = {"params": jax.ShapeDtypeStruct((64, 48), jnp.float32)}
    step = tmp_path / "whole" / "2"
    content = {path: path.read_bytes() for path in sorted((step / "state").rglob("*")) if path.is_file()}
    bits = [(path, offset) for path, whole in content.items() for offset in np.linspace(0, len(whole) - 1, 8, dtype=int)]
    fell_back = 0
    for path, offset in bits:
        path.write_bytes(content[path][:offset] + bytes([content[path][offset] ^ 1]) + content[path][offset + 1 :])
        restored = np.asarray(restore_for_inference(tmp_path / "whole", template)["params"])
        fell_back += np.array_equal(restored, numbers[0])
        assert np.array_equal(restored, numbers[0]) or np.array_equal(restored, numbers[1]), (path, offset)
        path.write_bytes(content[path])
    assert len(bits) > 30 and fell_back > len(bits) / 3


def test_a_checkpoint_of_another_model_is_passed_over(tmp_path, caplog):
    """So is a copy of another step. Training continues from the newest step that fits, and can save those steps again."""
    saved(tmp_path / "other", 7).close()
    kept = Checkpoints(tmp_path / "run", keep=9)
    kept.save(1, {"params": jnp.full(4, 1)})
    kept.close()
    shutil.copytree(tmp_path / "other" / "7", tmp_path / "run" / "7")
    shutil.copytree(tmp_path / "run" / "1", tmp_path / "run" / "8")
    kept = Checkpoints(tmp_path / "run", keep=9)
    template = {"params": jax.ShapeDtypeStruct((4,), jnp.int32)}
    caplog.clear()
    assert np.array_equal(kept.restore(template)["params"], np.full(4, 1))
    assert caplog.messages == [
        f"{tmp_path / 'run'}: step 8 is a copy of step 1: step 1 is used",
        f"{tmp_path / 'run'}: step 7: params is int32[3], the model's is int32[4]: step 1 is used",
    ]
    kept.save(7, {"params": jnp.full(4, 7)})
    kept.close()
    assert np.array_equal(restore_for_inference(tmp_path / "run", template)["params"], np.full(4, 7))


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_text("{"), lambda file: file.write_text("{}")])
def test_checksums_that_are_gone_or_torn(tmp_path, damage):
    """Without checksums a checkpoint is restored, since older versions wrote none; with damaged ones it is not."""
    saved(tmp_path, 1, 2).close()
    file = tmp_path / "2" / checkpoints.CHECKSUMS / "metadata"
    damage(file)
    restored = restore_for_inference(tmp_path, TEMPLATE)["params"]
    assert np.array_equal(restored, np.full(3, 1 if file.exists() else 2))


def test_nothing_but_foreign_ones(tmp_path):
    saved(tmp_path, 1, 2).close()
    with pytest.raises(CheckpointError, match=r"step 2: params is int32\[3\], the model's is int32\[4\]$"):
        restore_for_inference(tmp_path, {"params": jax.ShapeDtypeStruct((4,), jnp.int32)})
