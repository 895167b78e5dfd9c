"""BicycleGAN with what was found after its paper (`presets.tuned`), for the same number of steps.

i2i train --config=bicycle_tuned[:DATASET]

On facades at 64 x 64 and width 32, 8,000 steps (19 minutes on a core of a shared CPU) gave a kernel distance of 1136 (910 and 1363) to the
test photos instead of BicycleGAN's 1383 (1349 and 1418), at an equal diversity of 0.711 (docs/results.md).
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "shapes") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.tuned(presets.bicycle_family("bicycle_gan", dataset))
