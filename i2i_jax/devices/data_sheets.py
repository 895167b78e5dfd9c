"""Peak rates and memory of accelerators, by the names that jax gives them, from the manufacturers' data sheets."""

from typing import Any

import jax

# Dense operations per second, by the format in which numbers are multiplied.
PEAKS = {
    ("NVIDIA H100 80GB HBM3", "bfloat16"): 989e12,
    ("NVIDIA H100 80GB HBM3", "tensorfloat32"): 495e12,
    ("NVIDIA H200", "bfloat16"): 989e12,
    ("NVIDIA H200", "tensorfloat32"): 495e12,
    ("NVIDIA A100-SXM4-40GB", "bfloat16"): 312e12,
    ("NVIDIA A100-SXM4-40GB", "tensorfloat32"): 156e12,
    ("NVIDIA A100-SXM4-80GB", "bfloat16"): 312e12,
    ("NVIDIA A100-SXM4-80GB", "tensorfloat32"): 156e12,
    ("TPU v4", "bfloat16"): 275e12,
    ("TPU v5 lite", "bfloat16"): 197e12,
    ("TPU v5", "bfloat16"): 459e12,
    ("TPU v5p", "bfloat16"): 459e12,
    ("TPU v6 lite", "bfloat16"): 918e12,
}

# Bytes per second, and bytes, of the memory beside the chip (HBM).
BANDWIDTHS = {"NVIDIA H100 80GB HBM3": 3.35e12, "TPU v5 lite": 819e9, "TPU v6 lite": 1.64e12}
MEMORIES = {"NVIDIA H100 80GB HBM3": 80 * 2**30, "TPU v5 lite": 16 * 2**30, "TPU v6 lite": 32 * 2**30}

MULTIPLIED_IN = {"tpu": {"float32": "bfloat16"}, "gpu": {"float32": "tensorfloat32"}}  # unless jax_default_matmul_precision is set


def peak(device: Any, dtype: str) -> float | None:
    """The peak rate of a device in operations per second; None if its data sheet or the format of its products is not known.

    Args:
        device: a device of jax, which need not exist.
        dtype: float32 or bfloat16, the number format of the computation.
    """
    if dtype == "float32" and jax.config.jax_default_matmul_precision not in (None, "default"):  # pyright: ignore[reportAttributeAccessIssue]
        return None
    return PEAKS.get((device.device_kind, MULTIPLIED_IN.get(device.platform, {}).get(dtype, dtype)))
