"""A segmenter, which makes label maps from photos: the judge of the metric `segmentation` (Isola 2017, section 4.1, the FCN score).

i2i train --config=segmenter:DATASET
i2i evaluate --run=RUN --metrics=segmentation --segmenter=runs/segmenter-DATASET
"""

from i2i_jax import presets
from i2i_jax.config import Config


def get_config(dataset: str = "facades") -> Config:
    return presets.segmenter(dataset)
