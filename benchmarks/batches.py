"""Random batches, for benchmarks that need no dataset."""

from collections.abc import Sequence

import numpy as np

from i2i_jax.config import Config
from i2i_jax.data.loader import RawBatch


def raw_batch(config: Config, rows: Sequence[int] | np.ndarray) -> RawBatch:
    """Random pixels in the sizes and channels of the config, for the given rows of the global batch."""
    data, random = config.data, np.random.default_rng(0)
    images = (
        random.integers(0, 256, (len(rows), data.load_size, data.load_size, channels), np.uint8)
        for channels in (data.input_channels, data.target_channels)
    )
    return RawBatch(*images, np.asarray(rows, np.int32))
