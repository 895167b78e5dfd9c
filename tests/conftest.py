"""What every test runs under: 16 virtual CPU devices, checked shapes and types, no implicit broadcasting across ranks."""

import contextlib
import os
import platform
import tempfile
from pathlib import Path

# Unoptimised programs are compiled in half the time without XLA's newer emitters, and where x86 has no fused multiply-add, the last bit
# does not depend on what is fused.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=16 --xla_cpu_use_fusion_emitters=false"
    f"{' --xla_cpu_max_isa=AVX' if platform.machine() == 'x86_64' else ''}"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jaxtyping
import pytest

# What two tests of a session compile alike is compiled once; a folder of the session's own, so that no older run matters.
_COMPILED = tempfile.TemporaryDirectory(prefix="i2i_jax_compiled_")

os.environ["XDG_CACHE_HOME"] = _COMPILED.name

jaxtyping.install_import_hook("i2i_jax", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", _COMPILED.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of a test: half the time for a training step

SHARED = Path(os.environ.get("I2I_SHARED", Path(__file__).parents[2] / "shared"))


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

    found = {}

    def run(name: str) -> Path:
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            runs.train(runs.tiny(name, shapes_dir), folder)
            found[name] = folder
        return found[name]

    return run


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

    import i2i_jax.commands.app  # noqa: F401
    from i2i_jax.__main__ import main

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
