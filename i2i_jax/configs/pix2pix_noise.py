"""pix2pix + noise (Zhu 2017, section 3.1): a random latent at every layer, no encoder.

i2i train --config=pix2pix_noise[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    return presets.bicycle_family("pix2pix_noise", dataset)
