"""That of i2i_jax/configs/bicycle.py, for --config=configs/bicycle.py; from anywhere: --config=bicycle."""

from i2i_jax.configs.bicycle import get_config as get_config
