"""What compiled programs say: communication between devices in a training step, traffic, copies, and what stands where."""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import pytest

from tiny import batch_of, mapped_step, sgd_game, state_of

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


TPU = """HloModule jit_step, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias), {1}: (2, {}, must-alias) }, num_partitions=8

%fused_computation (param_0: f32[64,256], param_1: f32[8,130]) -> f32[8,128] {
  %param_0 = f32[64,256]{1,0:T(8,128)} parameter(0)
  %param_1 = f32[8,130]{1,0:T(8,128)S(1)} parameter(1)
  %bitcast.1 = f32[64,256]{1,0:T(8,128)} bitcast(%param_0)
  %slice.1 = f32[8,128]{1,0:T(8,128)} slice(%bitcast.1), slice={[0:8], [0:128]}
  ROOT %convolution.1 = f32[8,128]{1,0:T(8,128)S(1)} convolution(%slice.1, %param_1), dim_labels=bf_io->bf
}

ENTRY %main (x: f32[64,256], y: f32[8,130]) -> (f32[8,128], f32[256,64]) {
  %x = f32[64,256]{1,0:T(8,128)} parameter(0), metadata={op_name="x"}
  %y = f32[8,130]{1,0:T(8,128)} parameter(1)
  %copy-start = (f32[8,130]{1,0:T(8,128)S(1)}, f32[8,130]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%y)
  %copy-done = f32[8,130]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %fusion = f32[8,128]{1,0:T(8,128)S(1)} fusion(%x, /*index=1*/%copy-done), kind=kOutput, calls=%fused_computation
  %all-reduce-start = f32[8,128]{1,0:T(8,128)S(1)} all-reduce-start(%fusion), channel_id=1, to_apply=%add
  %fusion.1 = f32[8,128]{1,0:T(8,128)S(1)} fusion(%x, %copy-done), kind=kOutput, calls=%fused_computation
  %all-reduce-done = f32[8,128]{1,0:T(8,128)} all-reduce-done(%all-reduce-start)
  %copy.1 = f32[64,256]{0,1:T(8,128)} copy(%x)
  %bitcast.2 = f32[256,64]{1,0:T(8,128)} bitcast(%copy.1)
  ROOT %tuple = (f32[8,128]{1,0:T(8,128)}, f32[256,64]{1,0:T(8,128)}) tuple(%all-reduce-done, %bitcast.2)
}
"""

GPU = """HloModule jit_step, is_scheduled=true

%transposed (param_0.1: bf16[4,6]) -> bf16[6,4] {
  %param_0.1 = bf16[4,6]{1,0} parameter(0)
  ROOT %transpose.1 = bf16[6,4]{1,0} transpose(%param_0.1), dimensions={1,0}
}

ENTRY %main (x: bf16[4,6]) -> bf16[4,6] {
  %x = bf16[4,6]{1,0} parameter(0)
  %transpose = bf16[6,4]{1,0} fusion(%x), kind=kLoop, calls=%transposed
  %cudnn = (bf16[4,6]{1,0}, u8[0]{0}) custom-call(%x, %transpose), dim_labels=bf_oi->bf, custom_call_target="__cudnn$convForward"
  %get-tuple-element = bf16[4,6]{1,0} get-tuple-element(%cudnn), index=0
  ROOT %copy = bf16[4,6]{1,0} copy(%get-tuple-element)
}
"""


def test_traffic_is_what_moves_through_hbm():
    """Prefetched and read, written when done, slices of x, the copy of x in tiles that its 64 rows do not fill; on a GPU all."""
    tile, whole = 8 * 128 * 4, 64 * 256 * 4
    x_transposed = 256 * 128 * 4
    moved = 2 * tile + 2 * tile + tile + whole + x_transposed
    padding = (2 * tile - 8 * 130 * 4) + (x_transposed - whole)
    assert compiled.hbm_traffic(compiled.parse(TPU)) == (moved, padding)
    assert compiled.hbm_traffic(compiled.parse(GPU)) == (7 * 48, 0)


def test_copies_are_told_from_changes_of_the_layout():
    assert compiled.copies(compiled.parse(TPU)) == [(64 * 256 * 4, True)]
    assert compiled.copies(compiled.parse(GPU)) == [(48, True), (48, False)]


def test_collectives_stand_among_convolutions():
    assert compiled.placed_collectives(compiled.parse(TPU)) == [("all-reduce", 8 * 128 * 4, 0.5, 1.0)]
    assert compiled.placed_collectives(compiled.parse(GPU)) == []


def test_results_that_take_the_place_of_arguments_are_counted():
    assert (compiled.donated(TPU), compiled.donated(GPU)) == (2, 0)


@pytest.mark.parametrize(
    ("array", "occupied"),
    [
        ("f32[]{:T(128)}", 128 * 4),
        ("bf16[9,100]{1,0:T(8,128)(2,1)}", 16 * 128 * 2),
        ("bf16[9,100]{0,1:T(8,128)(2,1)}", 104 * 128 * 2),
        ("f32[3,4,4,2]{2,3,1,0:T(2,128)S(1)}", 12 * 2 * 128 * 4),
        ("f32[3,5]{1,0}", 60),
    ],
)
def test_arrays_occupy_whole_tiles(array, occupied):
    program = compiled.parse(f"ENTRY %main () -> f32[] {{\n  ROOT %x = {array} constant(0)\n}}")
    [read] = program.entry["x"].results
    assert read.padded_bytes == occupied


@pytest.mark.slow
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
