"""That of i2i_jax/configs/cae_gan.py, for --config=configs/cae_gan.py; from anywhere: --config=cae_gan."""

from i2i_jax.configs.cae_gan import get_config as get_config
