"""pix2pix with what was found after its paper (`presets.tuned`), for the same number of steps.

i2i train --config=pix2pix_tuned[:DATASET]

On facades at 64 x 64, 14,000 steps (5 minutes on a core of a shared CPU) gave a kernel distance of 980 (918 and 1041) to the test photos
instead of pix2pix's 1032 (1020 and 1045); how well its images follow the labels is level (docs/results.md).
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.tuned(presets.pix2pix(dataset))
