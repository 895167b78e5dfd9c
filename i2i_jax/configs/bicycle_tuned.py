"""BicycleGAN with what was found after its paper (`presets.tuned`), for the same number of steps.

i2i train --config=bicycle_tuned[:DATASET]

On facades at 64 x 64 and width 32, 8,000 steps (19 minutes on a core of a shared CPU) and three seeds gave a kernel distance of 1087 (910
to 1363) to the test photos instead of BicycleGAN's 1330 (1225 to 1418), and a diversity of 0.731 instead of 0.703 (docs/results.md).
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.tuned(presets.bicycle_family("bicycle_gan", dataset))
