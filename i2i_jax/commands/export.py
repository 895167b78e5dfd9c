"""Exports a generator as StableHLO, for programs that have jax but not this package: python -m i2i_jax export --run=RUN --out=FILE

i2i export --run=runs/bicycle-shapes --out=shapes.stablehlo
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import ConfigError

_RUN = flags.DEFINE_string("run", None, f"The trained run: {app.RUN}.", required=True)
_OUT = flags.DEFINE_string("out", None, "The file to write; FILE.json beside it describes how to use it.", required=True)
_STEP = flags.DEFINE_string("step", None, "The checkpoint: a step or `best` (default: the newest).")


def main(argv: Sequence[str]) -> None:
    from i2i_jax.inference import model
    from i2i_jax.interop import export

    out = Path(_OUT.value or "")
    if out.is_dir():
        raise ConfigError(f"--out: {out} is a folder: name a file in it")
    difference = export.to_stablehlo(model.load(_RUN.value or "", step=app.parse_step(_STEP.value)), out)
    print(f"exported to {out}, {out.stat().st_size / 1e6:.1f} MB; its images differ from the model's by at most {difference:.2g}")


def cli() -> None:
    app.run(main)
