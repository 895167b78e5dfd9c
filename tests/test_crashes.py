"""Running out of memory gives one line that says what to do, and is not mistaken for another failure."""

import contextlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import runs
from i2i_jax.data import images
from i2i_jax.devices import crashes
from i2i_jax.inference import model, translation
from i2i_jax.storage import checkpoints
from i2i_jax.storage.checkpoints import Checkpoints

EXHAUSTED = {
    "Python": MemoryError(),
    "NumPy": np._core._exceptions._ArrayMemoryError((10**9,), np.dtype(float)),
    "XLA": jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 486670656 bytes."),
    "PyTorch": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
    ),
}


@pytest.mark.parametrize("error", EXHAUSTED.values(), ids=EXHAUSTED)
def test_told_from_other_failures(error):
    assert crashes.out_of_memory(error)


def test_other_failures_are_not_it():
    for error in (RuntimeError("no such file"), ValueError(), OSError(28, "No space left on device")):
        assert not crashes.out_of_memory(error)


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.slow
@pytest.mark.parametrize("library", ["XLA", "NumPy"])
def test_commands_say_what_needs_less(library, command, trained, shapes_dir, tmp_path, monkeypatch):
    run = trained("pix2pix")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    for module, name in ((translation, "run"), (model.sampling, "latents_of")):
        monkeypatch.setattr(module, name, raising(EXHAUSTED[library]))
    monkeypatch.setattr("i2i_jax.data.loader.batches", raising(EXHAUSTED[library]))
    training_options = runs.as_flags(runs.TINY | runs.TINY_NETWORKS | {"data.prepared_dir": shapes_dir})
    for name, options, advice in (
        ("translate", [f"--run={run}", f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}"], "--tile=N"),
        ("evaluate", [f"--run={run}", f"--output={tmp_path / 'figures'}"], "--batch_size=1"),
        ("train", [f"--config={runs.CONFIGS / 'pix2pix.py'}", f"--workdir={tmp_path / 'run'}", *training_options], "train.microbatches"),
    ):
        status, _, err = command(name, *options)
        assert status == 1, err
        assert err.splitlines()[-1].startswith("error: out of memory (") and advice in err.splitlines()[-1]
        assert "Traceback" not in err


def test_an_abort_is_one_line():
    code = "import os; from i2i_jax.devices import crashes; crashes.on_abort('less would do'); os.abort()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: less would do\n")


def test_an_image_is_not_called_damaged(monkeypatch, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "_decoded", raising(MemoryError()))
    with pytest.raises(MemoryError):
        images.read(tmp_path / "a.png", channels=3)


@pytest.mark.parametrize("library", ["XLA", "Python"])
def test_a_checkpoint_is_not_set_aside(library, monkeypatch, tmp_path):
    state = {"params": np.zeros(3, np.float32)}
    with contextlib.closing(Checkpoints(tmp_path, keep=1)) as kept:
        kept.save(1, state)
        kept.wait()
        monkeypatch.setattr(checkpoints, "open_stored", raising(EXHAUSTED[library]))
        with pytest.raises(type(EXHAUSTED[library])):
            kept.restore(jax.eval_shape(lambda: state))
    assert (tmp_path / "1").is_dir() and not list(tmp_path.glob("*.damaged"))
