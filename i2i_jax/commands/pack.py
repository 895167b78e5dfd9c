"""Packs a trained run into one file: python -m i2i_jax pack --run=RUN --out=FILE.safetensors

The file can be used as the run of translate, evaluate, studio, export, push, i2i_jax.load and --config=finetune.

i2i pack --run=runs/bicycle-shapes --step=best --out=shapes.safetensors
i2i pack --run=runs/bicycle-shapes --dtype=bfloat16 --out=shapes.safetensors     half the size
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import ConfigError

_RUN = flags.DEFINE_string("run", None, f"The trained run: {app.RUN}.", required=True)
_OUT = flags.DEFINE_string("out", None, "The file to write, FILE.safetensors.", required=True)
_STEP = flags.DEFINE_string("step", None, "The checkpoint: a step or `best` (default: the newest).")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "How the parameters are stored; bfloat16 halves the file. They are loaded as float32."
)


def main(argv: Sequence[str]) -> None:
    from i2i_jax.interop import model_card

    out = Path(_OUT.value or "")
    if out.is_dir():
        raise ConfigError(f"--out: {out} is a folder: name a file in it")
    model_card.pack(_RUN.value or "", out, step=app.parse_step(_STEP.value), dtype=_DTYPE.value)
    print(f"packed into {out}: {out.stat().st_size / 1e6:.1f} MB")


def cli() -> None:
    app.run(main)
