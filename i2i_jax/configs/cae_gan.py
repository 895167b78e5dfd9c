"""cAE-GAN (Zhu 2017, section 5): the encoder maps the target to its latent, without a KL term.

i2i train --config=cae_gan[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.bicycle_family("cae_gan", dataset)
