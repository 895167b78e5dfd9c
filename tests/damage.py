"""Random damage to the bytes of a file."""

import numpy as np


def torn(content: bytes, rng: np.random.Generator, *, header: int = 0) -> bytes:
    """Flips, drops, repeats or replaces bytes at 1 to 3 places; with `header`, three quarters of them are in the first `header` bytes."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        start = int(rng.integers(header if header and rng.integers(4) else len(damaged)))
        length, change = int(rng.integers(1, 64)), rng.integers(4)
        if change == 0:
            damaged[start] ^= 1 << int(rng.integers(8))
        elif change == 1:
            del damaged[start : start + length]
        elif change == 2:
            damaged[start:start] = damaged[start : start + length]
        else:
            damaged[start : start + length] = rng.bytes(length)
    return bytes(damaged)
