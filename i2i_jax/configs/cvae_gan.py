"""cVAE-GAN (Zhu 2017, section 3.2): the encoder maps the target to its latent; a KL term keeps the latents close to N(0, I).

i2i train --config=cvae_gan[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.bicycle_family("cvae_gan", dataset)
