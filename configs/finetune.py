"""That of i2i_jax/configs/finetune.py, for --config=configs/finetune.py; from anywhere: --config=finetune."""

from i2i_jax.configs.finetune import get_config as get_config
