"""pix2pix (Isola 2017): one output for each input; the only noise is dropout. The ablations of table 1 are set by overrides:

i2i train --config=pix2pix[:DATASET]
L1       --config.weights.gan=0
cGAN     --config.weights.l1=0
GAN      --config.weights.l1=0 --config.model.conditional=False
L1+GAN   --config.model.conditional=False
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.pix2pix(dataset)
