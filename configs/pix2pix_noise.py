"""That of i2i_jax/configs/pix2pix_noise.py, for --config=configs/pix2pix_noise.py; from anywhere: --config=pix2pix_noise."""

from i2i_jax.configs.pix2pix_noise import get_config as get_config
