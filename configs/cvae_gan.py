"""The config i2i_jax/configs/cvae_gan.py, as --config=configs/cvae_gan.py. From any folder: --config=cvae_gan."""

from i2i_jax.configs.cvae_gan import get_config as get_config
