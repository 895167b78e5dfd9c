"""What every test runs under: 8 virtual CPU devices, checked shapes and types, no implicit broadcasting across ranks."""

import os
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jaxtyping
import pytest

jaxtyping.install_import_hook("i2i_jax", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of a test: half the time for a training step

SHARED = Path(os.environ.get("I2I_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test data too large for the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no test data at {SHARED}: set I2I_SHARED")
    return SHARED
