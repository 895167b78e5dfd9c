"""Chips to compile for, without having them (extra `aot`)."""

import os
from typing import Any

import jax
from jax.experimental import topologies

from i2i_jax import optional
from i2i_jax.config import ConfigError

# libtpu asks its host what it is; without these it would look for a host with TPUs, and for itself in other processes.
HOST_WITHOUT_TPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_LOG_DIR": "disabled",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}

# What XLA asks of a GPU, as a GpuTargetConfig.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 threads_per_warp: 32
  threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_core: 233472 shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  l2_cache_size: 52428800 memory_bandwidth: 3352320000000 device_memory_size: 84942979072
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

COMPILERS = {"v5e": "libtpu", "v6e": "libtpu", "h100": "jax-cuda13-plugin"}  # the packages, of the extra `aot`


def compiler_of(chips: str) -> str:
    """The package whose compiler knows the chips, which are written as for `devices`. Raises ConfigError if there are no such chips."""
    chip = chips.partition(":")[0]
    if chip not in COMPILERS:
        raise ConfigError(f"unknown chips {chips!r}: {', '.join(COMPILERS)} with a shape, such as v5e:2x4 or h100:8")
    return COMPILERS[chip]


def devices(chips: str) -> list[Any]:
    """The devices of TPUs in a grid, such as v5e:2x4, or of a number of GPUs in one machine, such as h100:8.

    Raises:
        ConfigError: if there are no such chips.
        MissingExtra: if the compiler for them is not installed.
    """
    optional.library(compiler_of(chips).replace("-", "_"), "aot")
    os.environ |= HOST_WITHOUT_TPU
    shape = chips.partition(":")[2]
    options = {"platform": "tpu"} | ({"chips_per_host_bounds": (1, 1, 1)} if shape == "1x1" else {})
    if chips.startswith("h100"):
        options = {"platform": "cuda", "topology": f"1x1x{shape}", "target_config": H100}
    try:
        return topologies.get_topology_desc(topology_name=chips, **options).devices
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        raise ConfigError(f"no chips {chips!r}: {' '.join(str(error).split())}") from error
