"""Translates drawn inputs with a model of the package and writes a page of the results: python -m i2i_jax demo [--output=DIR]

i2i demo
i2i demo --seed=1 --samples=8
i2i demo --model=shapes --output=demo-shapes

Nothing is downloaded or trained. The page shows many translations of each input, the style of one translation copied to other inputs,
and a walk through the latents.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax import pretrained
from i2i_jax.commands import app

_MODEL = flags.DEFINE_enum("model", "facades", pretrained.NAMES, "The model.")
_OUTPUT = flags.DEFINE_string("output", "demo", "The folder to write to; open its index.html.")
_SEED = flags.DEFINE_integer(
    "seed", None, "Seed of the inputs and of the latents (default: 10, for shapes 63).", lower_bound=0, upper_bound=2**24
)
_SAMPLES = flags.DEFINE_integer("samples", 6, "Translations of each input.", lower_bound=2, upper_bound=64)


def main(argv: Sequence[str]) -> None:
    from i2i_jax.inference import demo

    name, output = _MODEL.value or "", Path(_OUTPUT.value or "")
    page = demo.write(name, output, seed=_SEED.value, samples=_SAMPLES.value)
    print(f"open {page}", *(f"{what}:\n  {command}" for what, command in demo.next_steps(name, output)), sep="\n")


def cli() -> None:
    app.run(main)
