"""cAE-GAN (Zhu 2017, section 5): the latent is the target's code, with no KL term.

i2i train --config=cae_gan[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    return presets.bicycle_family("cae_gan", dataset)
