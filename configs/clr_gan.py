"""The config i2i_jax/configs/clr_gan.py, as --config=configs/clr_gan.py. From any folder: --config=clr_gan."""

from i2i_jax.configs.clr_gan import get_config as get_config
