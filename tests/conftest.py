"""Settings and fixtures of all tests: 16 virtual CPU devices, checked shapes and types, no implicit broadcasting across ranks."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import environment

# isort: split
import jax
import jaxtyping
import numpy as np
import pytest

jaxtyping.install_import_hook("i2i_jax", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", environment.COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_disable_most_optimizations", True)  # compilation dominates test time: this halves it for a training step


def pytest_addoption(parser):
    parser.addoption("--skipped-to", metavar="FILE", help="write one line per skipped test: its name, a tab and the reason")


def pytest_terminal_summary(terminalreporter, config):
    if file := config.getoption("--skipped-to"):
        lines = {f"{report.nodeid}\t{report.longrepr[2]}\n" for report in terminalreporter.stats.get("skipped", [])}
        Path(file).write_text("".join(sorted(lines)))


def pytest_collection_modifyitems(items):
    """Marks tests that need a trained run as slow."""
    for item in items:
        if "trained" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


SHARED = Path(os.environ.get("I2I_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(autouse=True)
def same_draws_in_any_order(request):
    """Resets a test module's RNG before each test."""
    if rng := getattr(request.module, "RNG", None):
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test data that is too large for the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no test data at {SHARED}: set I2I_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory) -> Path:
    """A prepared dataset with the first 12 pairs of each split of `shapes`."""
    from i2i_jax.data import shapes

    path = tmp_path_factory.mktemp("shapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", dict.fromkeys(shapes.SPLITS, 12))
        shapes.pairs("train", path)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, shapes_dir):
    """A function from a config's name and options to the folder of a run trained for two steps, which tests must not change."""
    import runs
    from i2i_jax import build

    folders, original = {}, build.game

    def run(name: str, options: dict[str, Any] | None = None) -> Path:
        key = name, *sorted((options or {}).items())
        if key not in folders:
            folder = tmp_path_factory.mktemp(name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(build, "game", original)  # the test that asks first may have patched it
                runs.train(runs.tiny(name, shapes_dir, options), folder)
            folders[key] = folder
        return folders[key]

    return run


@pytest.fixture
def shallow():
    """`runs.tiny` with a third of the compile time: images of 16 pixels, and all networks of the test are as shallow as these allow."""
    import runs
    import tiny
    from i2i_jax import build
    from i2i_jax.config import SIZE_MULTIPLES

    original = build.game
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZE_MULTIPLES, "unet_64", 8)
        patch.setattr(build, "game", lambda config: tiny.shallow(original(config)))
        yield lambda name, path, options=None, **more: runs.tiny(name, path, runs.OF_16_PIXELS | (options or {}), **more)


@pytest.fixture
def unprivileged():
    """A folder, and a context manager in which file permissions are enforced even if the tests run as root."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder), _as_nobody


@contextlib.contextmanager
def _as_nobody():
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


FLAGS_OF = {}  # the flags of each command's module: two commands may define the same name


@pytest.fixture
def command(capsys, monkeypatch):
    """`python -m i2i_jax NAME OPTION ...` in this process; returns its exit status, stdout and stderr."""
    import sys

    from absl import app, flags
    from ml_collections.config_flags.config_flags import _ConfigFieldFlag as ConfigFieldFlag  # one for each --config.x on a command line

    import i2i_jax.commands.app
    from i2i_jax.__main__ import main

    monkeypatch.setattr(i2i_jax.commands.app.atexit, "register", lambda *_: None)  # it would end the test process

    def run(name: str, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["i2i", name, *options])
        for flag in FLAGS_OF.get(name, []):
            flag.unparse()
            flags.FLAGS[flag.name] = flag
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as exit:
                main()
        finally:  # a command that fails leaves no flags to the next one
            added = set(flags.FLAGS) - before
            FLAGS_OF.setdefault(name, [flags.FLAGS[flag] for flag in added if not isinstance(flags.FLAGS[flag], ConfigFieldFlag)])
            for flag in added:
                delattr(flags.FLAGS, flag)
            flags.FLAGS.unparse_flags()
        return exit.value.code or 0, *capsys.readouterr()

    app.define_help_flags()
    before = set(flags.FLAGS)
    return run


@pytest.fixture(scope="session")
def runtime() -> Path:
    """The folder of onnxruntime-web: I2I_ONNXRUNTIME_WEB, or what npm downloads."""
    from i2i_jax.storage import onnxruntime_web

    try:
        folder = os.environ.get("I2I_ONNXRUNTIME_WEB")
        return onnxruntime_web.folder(Path(folder) if folder else None)
    except onnxruntime_web.RuntimeMissing as error:
        pytest.skip(f"{error}; or set I2I_ONNXRUNTIME_WEB")


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    from chromium import CHROMIUM

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
