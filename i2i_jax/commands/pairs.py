"""Makes a folder of pairs to train on: python -m i2i_jax pairs --photos=DIR --make=TASK --output=PAIRS, or --inputs=DIR --targets=DIR

i2i pairs --photos=PHOTOS --make=edges --output=PAIRS              edges to photos; the inputs are made of the photos
i2i pairs --photos=PHOTOS --make=downscale --size=512 --output=PAIRS
i2i pairs --inputs=SKETCHES --targets=PHOTOS --output=PAIRS        of two folders, files of the same name
i2i train --config=pix2pix:folder --config.data.path=PAIRS

edges: Canny's; lines: a drawing (XDoG); grey: to be coloured; blur, downscale: to be sharpened; mask: strokes to be painted in.
Near-duplicates go into one of train, val and test together.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import ConfigError, DataConfig

TASKS = ("edges", "lines", "grey", "blur", "downscale", "mask")

_PHOTOS = flags.DEFINE_string("photos", None, "A folder of photos, the targets; or instead ...")
_INPUTS = flags.DEFINE_string("inputs", None, "... a folder of inputs, ...")
_TARGETS = flags.DEFINE_string("targets", None, "... and one of targets with the same names and sizes.")
_MAKE = flags.DEFINE_enum("make", None, TASKS, "What the inputs are made to be, of --photos.")
_SIZE = flags.DEFINE_integer(
    "size", 286, "Of --photos: they are scaled, smaller ones up, and cropped to squares of so many pixels.", lower_bound=1
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The new folder: A/train, B/train, A/val and so on, A of inputs, B of targets.", required=True
)
_VAL = flags.DEFINE_float("val", 0.1, "Share of the pairs that is held out to watch training by.", lower_bound=0, upper_bound=0.5)
_TEST = flags.DEFINE_float("test", 0.1, "Share of the pairs that is held out for the end.", lower_bound=0, upper_bound=0.5)

_MAX_PIXELS = flags.DEFINE_integer("max_pixels", DataConfig.max_pixels, "Refuse an image of more pixels than this.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    output, shares = Path(_OUTPUT.value or ""), {"val": _VAL.value, "test": _TEST.value}
    most = {"max_pixels": _MAX_PIXELS.value}
    two = [_INPUTS.value, _TARGETS.value]
    if bool(_PHOTOS.value) == all(two) or (_PHOTOS.value and any(two)) or bool(_PHOTOS.value) != bool(_MAKE.value):
        raise ConfigError("give --photos=DIR --make=TASK, or --inputs=DIR --targets=DIR")
    if flags.FLAGS["size"].present and not _PHOTOS.value:
        raise ConfigError("--size is of --photos: files of two folders are copied as they are")
    from i2i_jax.data import inspect_pairs, make_pairs

    if _PHOTOS.value:
        make_pairs.from_photos(Path(_PHOTOS.value), output, task=_MAKE.value or "", size=_SIZE.value, **shares, **most)
    else:
        make_pairs.from_folders(Path(_INPUTS.value or ""), Path(_TARGETS.value or ""), output, **shares, **most)
    print(*inspect_pairs.report(inspect_pairs.survey(output, **most)), sep="\n")
    print(f"train: {shlex.join(['i2i', 'train', '--config=pix2pix:folder', f'--config.data.path={output}'])}")


def cli() -> None:
    app.run(main)
