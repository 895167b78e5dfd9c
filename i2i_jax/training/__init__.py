"""Training a run: `train` is the whole of it; `python -m i2i_jax.main` calls it."""

from i2i_jax.training.loop import Stopped, train
from i2i_jax.training.nonfinite import Diverged

__all__ = ["Diverged", "Stopped", "train"]
