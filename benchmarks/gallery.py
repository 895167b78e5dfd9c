"""Draws the pictures of docs/gallery.md with a model that turns label maps into facades.

    python benchmarks/gallery.py [--run=facades --output=docs/gallery --only=answers,walk]

The label maps are drawn by facade_pictures.py, and every facade is generated: no picture contains a photo.
"""

from collections.abc import Sequence
from pathlib import Path

import facade_pictures
import lists
from absl import flags

from i2i_jax import load
from i2i_jax.commands import app

_RUN = flags.DEFINE_string("run", "facades", "The trained run: its folder, a packed file, hf://USER/NAME, or a model of the package.")
_OUTPUT = flags.DEFINE_string("output", "docs/gallery", "Folder to write the pictures to.")
_ONLY = flags.DEFINE_list("only", None, "Names of the pictures to draw (default: all).")
_SEED = flags.DEFINE_integer("seed", 6, "Seed of the latents; the default was chosen by eye.")


def main(argv: Sequence[str]) -> None:
    wanted = lists.names(_ONLY, [Path(name).stem for name in facade_pictures.PICTURES])
    model = load(_RUN.value)
    folder = Path(_OUTPUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in facade_pictures.PICTURES.items():
        if Path(name).stem in wanted:
            facade_pictures.save(folder / name, draw(model, _SEED.value))
            print(f"{folder / name}: {(folder / name).stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    app.start(main)
