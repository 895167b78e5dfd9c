"""The config i2i_jax/configs/pix2pix_noise.py, as --config=configs/pix2pix_noise.py. From any folder: --config=pix2pix_noise."""

from i2i_jax.configs.pix2pix_noise import get_config as get_config
