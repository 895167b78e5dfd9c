"""Makes a folder of pairs to train on: python -m i2i_jax pairs --photos=DIR --make=TASK --output=PAIRS, or --inputs=DIR --targets=DIR

i2i pairs --photos=PHOTOS --make=edges --output=PAIRS              edges to photos; the inputs are computed from the photos
i2i pairs --photos=PHOTOS --make=downscale --size=512 --output=PAIRS
i2i pairs --inputs=SKETCHES --targets=PHOTOS --output=PAIRS        from two folders, files of the same name
i2i train --config=pix2pix:folder --config.data.path=PAIRS

TASK says what the inputs are: edges (Canny), lines (a line drawing by XDoG), grey (for colourisation), blur (for deblurring),
downscale (for super-resolution), mask (white strokes over the photo, for inpainting). Near-duplicates go into the same split.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import ConfigError, DataConfig

TASKS = ("edges", "lines", "grey", "blur", "downscale", "mask")

_PHOTOS = flags.DEFINE_string("photos", None, "A folder of photos, which become the targets; the inputs are computed from them (--make).")
_INPUTS = flags.DEFINE_string("inputs", None, "Instead of --photos, with --targets: a folder of inputs.")
_TARGETS = flags.DEFINE_string("targets", None, "With --inputs: a folder of targets with the same names and sizes.")
_MAKE = flags.DEFINE_enum("make", None, TASKS, "With --photos: the inputs to compute from them.")
_SIZE = flags.DEFINE_integer(
    "size", 286, "With --photos: they are resized, up or down, and cropped to squares of this many pixels.", lower_bound=1
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The folder to create: A/train, B/train, A/val and so on, inputs in A, targets in B.", required=True
)
_VAL = flags.DEFINE_float(
    "val", 0.1, "Fraction of the pairs in the val split, which is evaluated during training.", lower_bound=0, upper_bound=0.5
)
_TEST = flags.DEFINE_float(
    "test", 0.1, "Fraction of the pairs in the test split, for the final evaluation.", lower_bound=0, upper_bound=0.5
)
_MAX_PIXELS = flags.DEFINE_integer("max_pixels", DataConfig.max_pixels, "Refuse images with more pixels than this.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    folders = [_INPUTS.value, _TARGETS.value]
    if bool(_PHOTOS.value) == all(folders) or (_PHOTOS.value and any(folders)) or bool(_PHOTOS.value) != bool(_MAKE.value):
        raise ConfigError("give --photos=DIR --make=TASK, or --inputs=DIR --targets=DIR")
    if flags.FLAGS["size"].present and not _PHOTOS.value:
        raise ConfigError("--size applies only together with --photos: files of --inputs and --targets are copied unchanged")
    from i2i_jax.data import inspect_pairs, make_pairs

    output, max_pixels = Path(_OUTPUT.value or ""), _MAX_PIXELS.value
    options = {"val": _VAL.value, "test": _TEST.value, "max_pixels": max_pixels}
    if _PHOTOS.value:
        make_pairs.from_photos(Path(_PHOTOS.value), output, task=_MAKE.value or "", size=_SIZE.value, **options)
    else:
        make_pairs.from_folders(Path(_INPUTS.value or ""), Path(_TARGETS.value or ""), output, **options)
    print(*inspect_pairs.report(inspect_pairs.survey(output, max_pixels=max_pixels)), sep="\n")
    print(f"train: {shlex.join(['i2i', 'train', '--config=pix2pix:folder', f'--config.data.path={output}'])}")


def cli() -> None:
    app.run(main)
