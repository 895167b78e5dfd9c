"""Fine-tunes the networks of another run, trained here or imported, on other data. Optimizer and learning rate start over.

i2i train --config=finetune:RUN --config.data.name=folder --config.data.path=DIR --config.train.steps=N --workdir=NEW
"""

from i2i_jax.config import Config, ConfigError


def get_config(run: str = "") -> Config:
    """Returns the config of `run`, a run folder or packed run, with `train.start_from` set. Raises ConfigError without a run."""
    from i2i_jax import build

    if not run:
        raise ConfigError("--config=finetune:RUN names the run to fine-tune")
    config = build.read_config(run)
    config.train.start_from = run
    return config
