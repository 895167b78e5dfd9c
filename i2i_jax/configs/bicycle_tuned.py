"""BicycleGAN with what was found after its paper: see `presets.tuned`. Better images for the same number of steps.

i2i train --config=bicycle_tuned[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.tuned(presets.bicycle_family("bicycle_gan", dataset))
