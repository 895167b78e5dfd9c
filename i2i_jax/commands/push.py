"""Uploads a packed run to the Hugging Face hub (extra `hub`): python -m i2i_jax push --run=RUN --to=hf://USER/NAME

i2i push --run=runs/bicycle-shapes --to=hf://USER/shapes
"""

from collections.abc import Sequence

from absl import flags

from i2i_jax.commands import app

_RUN = flags.DEFINE_string("run", None, f"The trained run: {app.RUN}.", required=True)
_TO = flags.DEFINE_string("to", None, "The repository on the hub, hf://USER/NAME; if it is new, it is created as private.", required=True)
_STEP = flags.DEFINE_string("step", None, "The checkpoint: a step or `best` (default: the newest).")


def main(argv: Sequence[str]) -> None:
    from i2i_jax.interop import model_card

    print(f"pushed: {model_card.push(_RUN.value or '', _TO.value or '', step=app.parse_step(_STEP.value))}")


def cli() -> None:
    app.run(main)
