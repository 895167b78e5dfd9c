"""What every test runs under: 16 virtual CPU devices, checked shapes and types, no implicit broadcasting across ranks."""

import contextlib
import os
import tempfile
from pathlib import Path

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
jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of a test: half the time for a training step


def pytest_addoption(parser):
    parser.addoption("--skipped-to", metavar="FILE", help="write the tests that were skipped, each with its reason behind a tab")


def pytest_terminal_summary(terminalreporter, config):
    if file := config.getoption("--skipped-to"):
        lines = {f"{report.nodeid}\t{report.longrepr[2]}\n" for report in terminalreporter.stats.get("skipped", [])}
        Path(file).write_text("".join(sorted(lines)))


def pytest_collection_modifyitems(items):
    """What asks for a trained run is slow."""
    for item in items:
        if "trained" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


SHARED = Path(os.environ.get("I2I_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(autouse=True)
def same_draws_in_any_order(request):
    """A module's RNG begins anew with each test."""
    if rng := getattr(request.module, "RNG", None):
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test data too large for the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no test data at {SHARED}: set I2I_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory) -> Path:
    """The first pairs of the embedded dataset, prepared."""
    from i2i_jax.data import shapes

    path = tmp_path_factory.mktemp("shapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", dict.fromkeys(shapes.SPLITS, 12))
        shapes.pairs("train", path)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, shapes_dir):
    """By name of a config: the folder of a run of it, trained for two steps. Tests only read it."""
    import runs
    from i2i_jax import build

    found, whole = {}, build.game

    def run(name: str) -> Path:
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(build, "game", whole)  # whatever the test that asks first has put there
                runs.train(runs.tiny(name, shapes_dir), folder)
            found[name] = folder
        return found[name]

    return run


@pytest.fixture
def shallow():
    """`runs.tiny` for a third of the compiling: images of 16 pixels, and every game of the test has networks of as many levels."""
    import tiny

    import runs
    from i2i_jax import build
    from i2i_jax.config import SIZE_MULTIPLES

    whole = build.game
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZE_MULTIPLES, "unet_64", 8)
        patch.setattr(build, "game", lambda config: tiny.shallow(whole(config)))
        yield lambda name, path, options=None, **more: runs.tiny(name, path, runs.OF_16_PIXELS | (options or {}), **more)


@pytest.fixture
def unprivileged():
    """A folder, and a context manager inside which nothing may be read or written that is not allowed; root would be."""
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


FLAGS_OF = {}  # of each command's module: two of them may use one name


@pytest.fixture
def command(capsys, monkeypatch):
    """`python -m i2i_jax NAME OPTION ...` in this process; returns its exit status, stdout and stderr."""
    import sys

    from absl import app, flags
    from ml_collections.config_flags.config_flags import _ConfigFieldFlag as of_command_line  # made for each --config.x of one command

    import i2i_jax.commands.app
    from i2i_jax.__main__ import main

    monkeypatch.setattr(i2i_jax.commands.app.atexit, "register", lambda *_: None)  # it would end the tests

    def run(name: str, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["i2i", name, *options])
        for flag in FLAGS_OF.get(name, []):
            flag.unparse()
            flags.FLAGS[flag.name] = flag
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            main()
        added = set(flags.FLAGS) - before
        FLAGS_OF.setdefault(name, [flags.FLAGS[flag] for flag in added if not isinstance(flags.FLAGS[flag], of_command_line)])
        for flag in added:
            delattr(flags.FLAGS, flag)
        flags.FLAGS.unparse_flags()
        return exit.value.code or 0, *capsys.readouterr()

    app.define_help_flags()
    before = set(flags.FLAGS)
    return run
