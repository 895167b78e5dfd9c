"""BicycleGAN (Zhu 2017, section 3.4): cVAE-GAN and cLR-GAN combined, for inputs with many correct outputs.

i2i train --config=bicycle[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.bicycle_family("bicycle_gan", dataset)
