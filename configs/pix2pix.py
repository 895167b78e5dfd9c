"""That of i2i_jax/configs/pix2pix.py, for --config=configs/pix2pix.py; from anywhere: --config=pix2pix."""

from i2i_jax.configs.pix2pix import get_config as get_config
