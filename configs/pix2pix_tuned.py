"""The config i2i_jax/configs/pix2pix_tuned.py, as --config=configs/pix2pix_tuned.py. From any folder: --config=pix2pix_tuned."""

from i2i_jax.configs.pix2pix_tuned import get_config as get_config
