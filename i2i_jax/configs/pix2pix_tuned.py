"""pix2pix with what was found after its paper (`presets.tuned`), for the same number of steps.

i2i train --config=pix2pix_tuned[:DATASET]

Not measured yet beside pix2pix.
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.tuned(presets.pix2pix(dataset))
