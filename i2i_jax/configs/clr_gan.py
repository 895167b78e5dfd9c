"""cLR-GAN (Zhu 2017, section 3.3): the encoder recovers the random latent from the generated image.

i2i train --config=clr_gan[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.bicycle_family("clr_gan", dataset)
