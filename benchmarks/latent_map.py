"""Draws which answer BicycleGAN gives for each latent of the plane, and where its encoder finds each answer (extra `plots`).

    python benchmarks/latent_map.py --runs=RUN,RUN --titles=before,now --output=PICTURE

For runs on `shapes` with latents of two dimensions. Colours are the six valid answers to a test input, and grey is none of them. A dot is
the latent of a test target, in the colour of its answer. Half of all random latents lie within the inner circle, 90 % within the outer one.
"""

import matplotlib.pyplot as plt
import numpy as np
from absl import flags

from i2i_jax import load
from i2i_jax.commands import app
from i2i_jax.config import ConfigError
from i2i_jax.data import shapes
from i2i_jax.metrics import modes

_RUNS = flags.DEFINE_list("runs", None, "Runs on shapes.", required=True)
_TITLES = flags.DEFINE_list("titles", None, "The title of each.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The picture.", required=True)

SIDE, POINTS, TARGETS = 3.0, 61, 60
QUANTILES = (0.5, 0.9)
GREY = (160, 160, 160)


def answers(model, outline: np.ndarray) -> np.ndarray:
    """The colour of the valid answer that the model gives for each latent of the plane, uint8 [POINTS, POINTS, 3]."""
    axis = np.linspace(-SIDE, SIDE, POINTS, dtype=np.float32)
    z = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    renderings, mask = shapes.modes(outline)
    distances = modes.distances(model(outline, z=z) / 127.5, renderings / 127.5, mask)
    colours = renderings[:, mask].mean(1)[distances.argmin(1)]
    return np.where(distances.min(1, keepdims=True) < modes.VALID_DISTANCE, colours, GREY).astype(np.uint8).reshape(POINTS, POINTS, 3)


def draw(axes: plt.Axes, run: str, title: str) -> None:
    model = load(run)
    pairs = [shapes.example("test", index) for index in range(TARGETS)]
    means = model.encode(np.stack([shapes.render(shapes.coverage(outline), material) for outline, material in pairs]))
    colours = shapes.MATERIALS.mean(1)[[material for _, material in pairs]] / 255
    axes.imshow(answers(model, np.stack([pairs[0][0]] * 3, -1)), extent=(-SIDE, SIDE, -SIDE, SIDE), origin="lower")
    axes.scatter(*means.T, c=colours, edgecolors="black", s=30)
    for quantile in QUANTILES:
        radius = np.sqrt(-2 * np.log(1 - quantile))  # of a standard normal in the plane
        axes.add_patch(plt.Circle((0, 0), radius, fill=False, color="white"))
    axes.set(title=title, xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE), aspect="equal")


def main(argv: list[str]) -> None:
    if len(_RUNS.value) != len(_TITLES.value):
        raise ConfigError(f"--titles has {len(_TITLES.value)}, --runs {len(_RUNS.value)}: must be as many")
    figure, axes = plt.subplots(1, len(_RUNS.value), figsize=(4 * len(_RUNS.value), 4.2), squeeze=False)
    for ax, run, title in zip(axes[0], _RUNS.value, _TITLES.value, strict=True):
        draw(ax, run, title)
    figure.tight_layout()
    figure.savefig(_OUTPUT.value, dpi=80)


if __name__ == "__main__":
    app.start(main)
