"""Peak rates and memory of accelerators, by the names that jax gives them, from the manufacturers' data sheets."""

# Dense operations per second, by the format in which numbers are multiplied.
PEAKS = {
    ("NVIDIA H100 80GB HBM3", "bfloat16"): 989e12,
    ("NVIDIA H100 80GB HBM3", "tensorfloat32"): 495e12,
    ("NVIDIA H200", "bfloat16"): 989e12,
    ("NVIDIA A100-SXM4-40GB", "bfloat16"): 312e12,
    ("NVIDIA A100-SXM4-80GB", "bfloat16"): 312e12,
    ("TPU v4", "bfloat16"): 275e12,
    ("TPU v5 lite", "bfloat16"): 197e12,
    ("TPU v5p", "bfloat16"): 459e12,
    ("TPU v6 lite", "bfloat16"): 918e12,
}

# Bytes per second, and bytes, of the memory beside the chip (HBM).
BANDWIDTHS = {"NVIDIA H100 80GB HBM3": 3.35e12, "TPU v5 lite": 819e9, "TPU v6 lite": 1.64e12}
MEMORIES = {"NVIDIA H100 80GB HBM3": 80 * 2**30, "TPU v5 lite": 16 * 2**30, "TPU v6 lite": 32 * 2**30}
