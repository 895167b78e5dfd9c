"""Draws label maps of made-up facades and what several runs make of them, for docs/results.md.

    python benchmarks/facade_sheet.py --runs=RUN,RUN --titles=L1,L1+cGAN --output=PICTURE [--samples=3 --seeds=60,61,62,63]

Runs translate label maps to photos. The label maps are drawn by `i2i_jax.data.facade_layouts`, and no picture contains a photo.
"""

from collections.abc import Sequence
from pathlib import Path

import facade_pictures
import lists
import numpy as np
from absl import flags
from PIL import Image

from i2i_jax import load
from i2i_jax.commands import app
from i2i_jax.config import ConfigError
from i2i_jax.data import facade_layouts, loader
from i2i_jax.pages import grids

_RUNS = flags.DEFINE_list("runs", None, "The trained runs.", required=True)
_TITLES = flags.DEFINE_list("titles", None, "The title of each.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The picture.", required=True)
_SIZE = flags.DEFINE_integer("size", 128, "Height and width of the label maps, in pixels.")
_SAMPLES = flags.DEFINE_integer("samples", 1, "Translations of each label map by each run.", lower_bound=1)
_SEEDS = flags.DEFINE_list("seeds", ["60", "61", "62", "63"], "Seeds of the label maps.")


def main(argv: Sequence[str]) -> None:
    if len(_TITLES.value) != len(_RUNS.value):
        raise ConfigError(f"--titles has {len(_TITLES.value)}, --runs {len(_RUNS.value)}: must be as many")
    label_maps = np.stack([loader.resize(facade_layouts.layout(seed), _SIZE.value) for seed in lists.whole_numbers(_SEEDS)])
    by_run = [load(run)(label_maps, n=_SAMPLES.value, seed=0) for run in _RUNS.value]
    rows = [[label_map, *np.concatenate(samples)] for label_map, *samples in zip(label_maps, *by_run, strict=True)]
    titles = [title for name in _TITLES.value for title in (name, *[""] * (_SAMPLES.value - 1))]
    facade_pictures.save(Path(_OUTPUT.value), Image.fromarray(grids.grid(rows, labels=["label map", *titles])))


if __name__ == "__main__":
    app.start(main)
