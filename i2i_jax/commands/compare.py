"""Compares runs on one page, curves overlaid and samples side by side: python -m i2i_jax compare RUN1 RUN2 [--output=FILE]

i2i compare runs/plain runs/tuned                        writes comparison.html
i2i compare runs/a runs/b runs/c --output=three.html

Each RUN is the folder of a run, finished or still training. The page is one file that needs nothing else: it can be sent or kept.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import ConfigError
from i2i_jax.pages import comparison

_OUTPUT = flags.DEFINE_string("output", "comparison.html", "The page to write.")


def main(argv: Sequence[str]) -> None:
    runs = [Path(argument) for argument in argv[1:]]
    if not 2 <= len(runs) <= comparison.MOST:
        raise ConfigError(f"{len(runs)} runs: name 2 to {comparison.MOST} folders of runs")
    for folder in runs:
        if not (folder / "metrics.jsonl").is_file():
            raise ConfigError(f"{folder}: has no metrics.jsonl: name the folder of a run, as given to --workdir")
    comparison.write_comparison(Path(_OUTPUT.value), runs)
    with app.ignore_closed_pipe():
        print(f"written: {_OUTPUT.value}")


def cli() -> None:
    app.run(main, files=True)
