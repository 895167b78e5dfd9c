"""That of i2i_jax/configs/segmenter.py, for --config=configs/segmenter.py; from anywhere: --config=segmenter."""

from i2i_jax.configs.segmenter import get_config as get_config
