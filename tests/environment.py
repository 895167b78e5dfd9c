"""The environment of the tests, to be imported before jax: XLA's flags, and where compiled programs are kept."""

import os
import platform
import subprocess
import sys
import tempfile


def _known_to_xla(flag: str) -> bool:
    """XLA ends a process that sets a flag which its version does not have."""
    start = "from jaxlib import _jax; _jax.get_tfrt_cpu_client()"
    return subprocess.run([sys.executable, "-c", start], env=os.environ | {"XLA_FLAGS": flag}, capture_output=True).returncode == 0


if "I2I_TESTS_COMPILED" not in os.environ:  # the processes of pytest -n share what the first one finds
    wanted = ["--xla_force_host_platform_device_count=16"]
    # Where x86 has no fused multiply-add, the last bit does not depend on what is fused.
    wanted += ["--xla_cpu_max_isa=AVX"] if platform.machine() == "x86_64" else []
    # Unoptimised programs are compiled in half the time without XLA's newer emitters.
    wanted += filter(_known_to_xla, ["--xla_cpu_use_fusion_emitters=false"])
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *wanted])
    # What two tests compile alike is compiled once; a folder of the session's own, so that no older run matters.
    _FOLDER = tempfile.TemporaryDirectory(prefix="i2i_jax_compiled_")
    os.environ["I2I_TESTS_COMPILED"] = _FOLDER.name
COMPILED = os.environ["I2I_TESTS_COMPILED"]
os.environ["XDG_CACHE_HOME"] = COMPILED
os.environ.setdefault("JAX_PLATFORMS", "cpu")
