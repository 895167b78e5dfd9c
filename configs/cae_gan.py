"""The config i2i_jax/configs/cae_gan.py, as --config=configs/cae_gan.py. From any folder: --config=cae_gan."""

from i2i_jax.configs.cae_gan import get_config as get_config
