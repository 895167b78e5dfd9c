"""cLR-GAN (Zhu 2017, section 3.3): the encoder recovers the random latent from the output.

i2i train --config=clr_gan[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    return presets.bicycle_family("clr_gan", dataset)
