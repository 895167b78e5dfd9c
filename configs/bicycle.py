"""The config i2i_jax/configs/bicycle.py, as --config=configs/bicycle.py. From any folder: --config=bicycle."""

from i2i_jax.configs.bicycle import get_config as get_config
