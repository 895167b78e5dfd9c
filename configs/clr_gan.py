"""That of i2i_jax/configs/clr_gan.py, for --config=configs/clr_gan.py; from anywhere: --config=clr_gan."""

from i2i_jax.configs.clr_gan import get_config as get_config
