"""pix2pix + noise (Zhu 2017, section 3.1): the generator gets a random latent at every layer; there is no encoder.

i2i train --config=pix2pix_noise[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.bicycle_family("pix2pix_noise", dataset)
