"""The config i2i_jax/configs/bicycle_tuned.py, as --config=configs/bicycle_tuned.py. From any folder: --config=bicycle_tuned."""

from i2i_jax.configs.bicycle_tuned import get_config as get_config
