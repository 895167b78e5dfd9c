"""Draws the pictures of docs/troubleshooting.md: small runs on `shapes` in which something goes wrong, beside healthy ones.

    python benchmarks/troubleshooting.py [--only=collapse,sizes --workdir=runs/troubleshooting]

Runs are kept in --workdir; those that exist are not trained again.
"""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lists
import numpy as np
from absl import flags

from i2i_jax import build, config, presets, training
from i2i_jax.commands import app
from i2i_jax.config import Config
from i2i_jax.data import loader
from i2i_jax.inference.model import Model, load
from i2i_jax.pages import grids

_ONLY = flags.DEFINE_list("only", None, "Names of the pictures to draw (default: all).")
_WORKDIR = flags.DEFINE_string("workdir", "runs/troubleshooting", "Where the runs are kept.")
_OUTPUT = flags.DEFINE_string("output", "docs/troubleshooting", "Where the pictures are written.")


class Run(NamedTuple):
    """A preset and what differs from it."""

    preset: Callable[[str], Config]
    options: dict[str, Any]


UNWATCHED = {"train.samples": 1, "train.sample_every": 10_000, "train.eval_every": 10_000, "eval.inputs": 1, "eval.samples": 1}
RUNS = {
    "BicycleGAN": Run(partial(presets.bicycle_family, "bicycle_gan"), {"train.steps": 2500}),
    "KL weight 10": Run(partial(presets.bicycle_family, "cvae_gan"), {"train.steps": 600, "weights.kl": 10.0, "model.posterior_std": 0.0}),
    "pix2pix": Run(presets.pix2pix, {"train.steps": 1600, "data.batch_size": 1}),
    "150 steps": Run(presets.pix2pix, {"train.steps": 150, "data.batch_size": 1}),
    "150 steps, bilinear": Run(presets.pix2pix, {"train.steps": 150, "data.batch_size": 1, "model.upsample": "bilinear"}),
    "GAN alone": Run(presets.pix2pix, {"train.steps": 1600, "data.batch_size": 1, "weights.l1": 0.0, "model.conditional": False}),
}


def collapse(trained: Callable[[str], Model]) -> tuple[list, list[str]]:
    """Without L1 and without a conditional discriminator, nothing ties an output to its input."""
    return _side_by_side(_inputs(), {"GAN + L1": trained("pix2pix"), "GAN alone": trained("GAN alone")})


def z_ignored(trained: Callable[[str], Model]) -> tuple[list, list[str]]:
    return _side_by_side(_inputs(), {"BicycleGAN": trained("BicycleGAN"), "cVAE-GAN, KL 10": trained("KL weight 10")}, samples=4)


def checkerboards(trained: Callable[[str], Model]) -> tuple[list, list[str]]:
    """The middle of early outputs, enlarged."""
    models = {"transposed": trained("150 steps"), "bilinear": trained("150 steps, bilinear")}
    rows, labels = _side_by_side(_inputs(), models)
    middle = slice(16, 48)
    return [[image[middle, middle].repeat(4, axis=0).repeat(4, axis=1) for image in row] for row in rows], labels


def colours(trained: Callable[[str], Model]) -> tuple[list, list[str]]:
    """Drawings as in training, and as if photographed under a lamp."""
    rows = _unchanged_and(lambda image: (image * np.array((0.75, 0.6, 0.4))).astype(np.uint8), trained("pix2pix"))
    return rows, ["as trained on", "output", "under a lamp", "output"]


def sizes(trained: Callable[[str], Model]) -> tuple[list, list[str]]:
    """Networks trained at 64 pixels, on the same drawings at 64 and at 128."""
    rows = _unchanged_and(lambda image: loader.resize(image, 128), trained("BicycleGAN"))
    return rows, ["64 x 64", "output", "128 x 128", "output"]


PICTURES = {picture.__name__: picture for picture in (collapse, z_ignored, checkerboards, sizes, colours)}


def _inputs() -> np.ndarray:
    pairs = build.pairs(presets.pix2pix("shapes"), "val")
    return np.stack([pairs[i].input for i in range(3)])


def _unchanged_and(change: Callable[[np.ndarray], np.ndarray], model: Model) -> list[list[np.ndarray]]:
    """One row per input: the input, its output, the changed input, its output."""
    pairs = [(image, change(image)) for image in _inputs()]
    return [[image for original in pair for image in (original, model(original)[0])] for pair in pairs]


def _side_by_side(inputs: np.ndarray, models: dict[str, Model], *, samples: int = 1) -> tuple[list, list[str]]:
    """One row per input: the input, and the given number of samples from each model."""
    outputs = [model(inputs, n=samples) for model in models.values()]
    rows = [[image, *(sample for images in outputs for sample in images[i])] for i, image in enumerate(inputs)]
    return rows, ["input", *(label for name in models for label in (name, *[""] * (samples - 1)))]


def main(argv: Sequence[str]) -> None:
    @functools.cache
    def trained(name: str) -> Model:
        run = RUNS[name]
        folder = Path(_WORKDIR.value, name)
        print(f"{name}: {folder}", flush=True)
        training.train(config.override(run.preset("shapes"), UNWATCHED | run.options), folder)
        return load(folder)

    for name in lists.names(_ONLY, PICTURES):
        rows, labels = PICTURES[name](trained)
        grids.save_grid(Path(_OUTPUT.value, f"{name}.png"), rows, labels=labels)


if __name__ == "__main__":
    app.start(main)
