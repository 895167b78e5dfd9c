"""cVAE-GAN (Zhu 2017, section 3.2): the latent is the target's code, held near N(0, I) by a KL term.

i2i train --config=cvae_gan[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    return presets.bicycle_family("cvae_gan", dataset)
