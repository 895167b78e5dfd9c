"""Reports what a folder of pairs holds, before hours of training on it: python -m i2i_jax check DIR [--sheet=FILE]

i2i check PAIRS
i2i check PAIRS --sheet=pairs.png        and shows some of them

Pairs and splits, sizes and kinds of images, what cannot be used, near-duplicates. Exit status 1 where something cannot be used.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import ConfigError, DataConfig

_SHEET = flags.DEFINE_string("sheet", None, "Where a contact sheet is written, as pairs.png.")
_MAX_PIXELS = flags.DEFINE_integer("max_pixels", DataConfig.max_pixels, "Refuse an image of more pixels than this.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        raise ConfigError("name one folder of pairs")
    from i2i_jax.data import inspect_pairs

    found = inspect_pairs.survey(Path(argv[1]), max_pixels=_MAX_PIXELS.value)
    with app.listing():
        print(*inspect_pairs.report(found), sep="\n")
    if _SHEET.value and found.good:
        inspect_pairs.save_sheet(Path(_SHEET.value), found, max_pixels=_MAX_PIXELS.value)
        print(f"written: {_SHEET.value}")
    if found.problems:
        app.fail(f"{argv[1]}: {len(found.problems)} of {len(found.seen)} pairs cannot be used", 1)


def cli() -> None:
    app.run(main, files=True)
