"""cAE-GAN (Zhu 2017, section 5): the latent is the target's code, with no KL term.

python -m i2i_jax.main --config=configs/cae_gan.py[:DATASET]
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    return presets.bicycle_family("cae_gan", dataset)
