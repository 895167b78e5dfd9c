"""A segmenter, which predicts label maps from photos, for the metric `segmentation` (the FCN score of Isola 2017, section 4.1).

i2i train --config=segmenter:DATASET
i2i evaluate --run=RUN --metrics=segmentation --segmenter=runs/segmenter-DATASET
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "facades") -> Config:
    """Returns the config for a dataset, one of `config.DATASETS`."""
    return presets.segmenter(dataset)
