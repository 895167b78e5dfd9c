"""That of i2i_jax/configs/cvae_gan.py, for --config=configs/cvae_gan.py; from anywhere: --config=cvae_gan."""

from i2i_jax.configs.cvae_gan import get_config as get_config
