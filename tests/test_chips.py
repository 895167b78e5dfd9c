"""Training steps compiled for TPUs and GPUs that are not there."""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import pytest

from i2i_jax.devices import parallel
from i2i_jax.models import cpu_convolutions
from tiny import KEY, batch_of, config_of, game_of

for module in ("libtpu", "jax_cuda13_plugin"):
    pytest.importorskip(module, reason="needs the extra `aot`")

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
OBJECTIVES = {"bicycle_gan": ("instance", "simultaneous"), "pix2pix": ("batch", "alternating")}  # its norm and update
ALL_REDUCES = {("bicycle_gan", "v5e:2x4"): 1, ("pix2pix", "v5e:2x4"): 2, ("bicycle_gan", "h100:8"): 5, ("pix2pix", "h100:8"): 4}


def benchmark(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compiled, topologies = benchmark("compiled"), benchmark("topologies")


@pytest.fixture(autouse=True)
def all_optimizations():
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.parametrize(("objective", "chips"), ALL_REDUCES)
def test_a_step_has_the_forms_of_the_chip_and_only_needed_all_reduces(objective, chips):
    """Its state is donated whole, nothing loops, and gradients, statistics and losses are averaged.

    No convolution has a CPU's form; on a GPU the last transposed convolution is the gradient of a convolution.
    """
    norm, update = OBJECTIVES[objective]
    game = dataclasses.replace(game_of(config_of(objective, norm=norm)), update=update)
    mesh = parallel.make_mesh(topologies.devices(chips))
    batch, key = jax.eval_shape(lambda: (batch_of(2 * mesh.size), KEY))
    state = jax.eval_shape(game.init, key, batch_of(2))
    step = parallel.data_parallel(game.on_axis(parallel.AXIS).train_step, mesh)
    text = step.lower(state, batch, key).compile().as_text()
    program = compiled.parse(text)
    assert compiled.donated(text) == len(jax.tree.leaves(state))
    assert "jit(convolve)" in text and cpu_convolutions.NAME not in text
    assert "while" not in {instruction.kind for body in program.computations.values() for instruction in body.values()}
    transposed = [x.attributes for x in program.entry.values() if "jvp(generator)/" in x.attributes and "/up_0/" in x.attributes]
    if chips.startswith("h100"):
        assert any("__cudnn$convBackwardInput" in x and "transpose(jvp" not in x for x in transposed)
    found = compiled.placed_collectives(program)
    assert [collective.kind for collective in found] == ["all-reduce"] * ALL_REDUCES[objective, chips]
    averaged = jax.tree.leaves((state.params, state.batch_stats))
    losses = sum(collective.bytes for collective in found) // 4 - sum(leaf.size for leaf in averaged)
    assert losses == {"bicycle_gan": 7, "pix2pix": 3}[objective]
    assert found[-1].start == 1  # the last one has the encoder's or generator's first layer, whose gradient is the last to be known
