"""Communication between devices in a training step, counted in the compiled program."""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import pytest

from tiny import batch_of, mapped_step, sgd_game, state_of

pytestmark = pytest.mark.slow

SPEC = importlib.util.spec_from_file_location("compiled", Path(__file__).parents[1] / "benchmarks" / "compiled.py")
compiled = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(compiled)


def test_collectives_are_read_from_a_program():
    program = """
  %sum = (f32[4]{0}, bf16[2,3]{1,0}, /*index=2*/f32[]) all-reduce(%a, %b, %c), channel_id=1
  %begun = f32[8,2]{1,0} all-gather-start(%d), channel_id=2
  ROOT %f = f32[4]{0} fusion(%sum), kind=kLoop, calls=%all-reduce
"""
    assert compiled.collectives(program) == [("all-reduce", 4 * 4 + 2 * 6 + 4), ("all-gather", 64)]


@pytest.mark.parametrize(
    ("objective", "norm", "update", "phases"),
    [("bicycle_gan", "instance", "simultaneous", 1), ("pix2pix", "batch", "alternating", 2)],
)
def test_one_all_reduce_for_each_phase(objective, norm, update, phases):
    """It holds the gradients of the phase, and the last one statistics and losses, too; no batch is resharded or gathered."""
    game, batch = dataclasses.replace(sgd_game(objective, norm=norm), update=update), batch_of(16)
    state = state_of(game, batch)
    step, arguments = mapped_step(game, 8, state, batch)
    found = compiled.collectives(step.lower(*arguments).compile().as_text())
    assert [kind for kind, _ in found] == ["all-reduce"] * phases
    averaged = jax.tree.leaves((state.params, state.batch_stats))
    losses = sum(size for _, size in found) // 4 - sum(leaf.size for leaf in averaged)
    assert losses == {"bicycle_gan": 7, "pix2pix": 3}[objective]
