"""The config i2i_jax/configs/finetune.py, as --config=configs/finetune.py. From any folder: --config=finetune."""

from i2i_jax.configs.finetune import get_config as get_config
