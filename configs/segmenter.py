"""The config i2i_jax/configs/segmenter.py, as --config=configs/segmenter.py. From any folder: --config=segmenter."""

from i2i_jax.configs.segmenter import get_config as get_config
