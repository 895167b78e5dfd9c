"""The config i2i_jax/configs/pix2pix.py, as --config=configs/pix2pix.py. From any folder: --config=pix2pix."""

from i2i_jax.configs.pix2pix import get_config as get_config
