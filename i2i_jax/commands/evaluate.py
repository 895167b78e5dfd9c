"""Measures a trained run on pairs it was not trained on: python -m i2i_jax evaluate --run=RUN [--split=test --samples=N]"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app

_RUN = flags.DEFINE_string("run", None, "The folder of the trained run.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "val", "test"], "The pairs to measure on.")
_SAMPLES = flags.DEFINE_integer("samples", None, "Translations of each input (default: the config's).", lower_bound=1)
_INPUTS = flags.DEFINE_integer("inputs", None, "Pairs measured, at most (default: the config's).", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    from i2i_jax import build, evaluation, logs, page

    config = build.read_config(_RUN.value)
    inputs, samples = _INPUTS.value or config.eval.inputs, _SAMPLES.value or config.eval.samples
    pairs = build.pairs(config, _SPLIT.value)
    game, state = build.load(_RUN.value)
    make = evaluation.cases(game.networks, build.mode(config), pairs, size=config.data.crop_size, inputs=inputs, samples=samples)
    cases, step = make(state), int(state.step)
    figures = evaluation.evaluate(cases, known_modes=build.knows_modes(config))
    protocol = {"step": step, "split": _SPLIT.value, "inputs": len(cases), "samples": len(cases[0].samples)}
    path = Path(_RUN.value) / "evaluation" / f"{step:08d}_{_SPLIT.value}.json"
    logs.atomic_write(path, (json.dumps(protocol | figures, indent=2) + "\n").encode())
    page.write_run(_RUN.value)
    print(", ".join(f"{name} {value}" for name, value in protocol.items()))
    print("\n".join(f"{name:<16} {value:.4f}" for name, value in figures.items()))


def cli() -> None:
    app.run(main)
