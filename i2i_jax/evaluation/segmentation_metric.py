"""The metric "segmentation": how well a trained segmenter recovers the label map (the input) from a translation."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from i2i_jax import build, sampling
from i2i_jax.config import Config, ConfigError, EvalConfig, sides
from i2i_jax.data import palettes
from i2i_jax.metrics import EvalExamples, Figures, Metric, segmentation
from i2i_jax.train_state import Game, TrainState
from i2i_jax.types import Image


def segmentation_scores(options: EvalConfig) -> Metric:
    """Pixel accuracy, class accuracy and IoU of the samples' label maps; with the suffix `_real`, of the targets' label maps.

    Inputs, targets and samples are resized to the size that the segmenter was trained at.

    Args:
        options: `segmenter` is the run of a segmenter, which makes label maps from targets.

    Raises:
        ConfigError: if `options.segmenter` is empty, or is not a segmenter's run.
    """
    if not options.segmenter:
        raise ConfigError("metric 'segmentation' needs eval.segmenter (--segmenter), the run that makes label maps from targets")
    config = build.read_config(options.segmenter)
    game, state = build.load(options.segmenter)
    if config.objective != "segmenter":
        raise ConfigError(f"eval.segmenter {options.segmenter}: a run of {config.objective}: one of --config=segmenter is needed")
    measure = functools.partial(jax.jit(_confusions(config, game)), state)
    name = f"{Path(options.segmenter).name}, step {int(state.step)}"
    return Metric(measure, _summarise, ("input", "target", "samples"), weights={name: _checksum(state.params)})


def _confusions(config: Config, game: Game) -> Callable[[TrainState, EvalExamples], dict[str, Array]]:
    """Confusion matrices of the targets (`real`) and of the samples (`fake`), one for each example."""
    palette = palettes.PALETTES[config.data.palette]
    height, width = sides(config.data.crop_size)

    def resized(images: Array, method: str) -> Array:
        return jax.image.resize(images, (len(images), height, width, *images.shape[3:]), method)

    def measure(state: TrainState, examples: EvalExamples) -> dict[str, Array]:
        truth = resized(palettes.classes_of(examples.input, palette), "nearest")

        def confusion(images: Image) -> Array:
            photos, without_z = resized(images, "cubic"), jnp.zeros((len(images), 1, 0))
            maps = sampling.translate(game.networks, state, photos, without_z, jax.random.key(0), mode=build.mode(config))[:, 0]
            return segmentation.confusion(palettes.classes_of(maps, palette), truth, classes=len(palette.classes))

        return {"real": confusion(examples.target), "fake": jax.lax.map(confusion, examples.samples.swapaxes(0, 1)).sum(0)}

    return measure


def _summarise(measured: Mapping[str, np.ndarray]) -> Figures:
    fake, real = (segmentation.scores(measured[name].astype(np.int64).sum(0))._asdict() for name in ("fake", "real"))
    return fake | {f"{name}_real": value for name, value in real.items()}


def _checksum(params: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
