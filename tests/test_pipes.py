"""Help and lists exit with status 0 and print no error if stdout is a closed pipe, as with `| head`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from i2i_jax.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
NEEDS = {
    "exact_clr_gan": "torch",
    "exact_torch": "torch",
    "fuzz": "atheris",
    "latent_map": "matplotlib",
    "painter": "playwright",
    "studio": "playwright",
    "versus_torch": "torch",
}
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "app.start(main)" in path.read_text())


def unread(*arguments: str) -> tuple[int, bytes]:
    """Exit status and stderr of a Python program whose stdout is a closed pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("options", [[], ["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_commands(options):
    assert unread("-m", "i2i_jax", *options) == (0, b"")


def test_the_list_of_options():
    assert unread("-m", "i2i_jax", "config", "configs/bicycle.py") == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks(name):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    status, stderr = unread(f"benchmarks/{name}.py", "--help")
    lines = [line for line in stderr.splitlines() if not line.startswith(b"INFO: Instrumenting")]  # atheris prints these
    assert (status, lines) == (0, [])


def test_every_benchmark_is_tried():
    programs = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "DEFINE_" in path.read_text()}
    assert programs == set(BENCHMARKS)
