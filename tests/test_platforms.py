"""A program has the forms of the platform that it is lowered for, whatever machine lowers it."""

import jax
import jax.numpy as jnp
import pytest

from i2i_jax import sampling
from i2i_jax.models import cpu_convolutions
from tiny import batch_of, config_of, game_of, mapped_step, sgd_game, state_of


def lowered(step, arguments, platform: str) -> str:
    return step.trace(*arguments).lower(lowering_platforms=(platform,)).as_text(debug_info=True)


@pytest.mark.parametrize("objective", ["bicycle_gan", "pix2pix"])
@pytest.mark.parametrize("platform", ["tpu", "cuda", "cpu"])
def test_a_training_step_has_a_cpus_forms_on_a_cpu_alone(objective, platform):
    game, batch = sgd_game(objective, norm="batch"), batch_of(4)
    step, arguments = mapped_step(game, 2, state_of(game, batch), batch)
    assert (cpu_convolutions.NAME in lowered(step, arguments, platform)) == (platform == "cpu")


@pytest.mark.parametrize("platform", ["tpu", "cuda", "cpu"])
def test_translations_have_a_cpus_forms_on_a_cpu_alone(platform):
    """And there alone they are made a few at a time."""
    game = game_of(config_of("bicycle_gan"))
    state = jax.eval_shape(game.init, jax.random.key(0), batch_of(2))
    translate = jax.jit(lambda *arguments: sampling.translate(game.networks, *arguments))
    arguments = (state, jnp.zeros((1, 128, 128, 3)), jnp.zeros((1, 8, 5)), jax.random.key(0))
    program = lowered(translate, arguments, platform)
    assert (cpu_convolutions.NAME in program) == (platform == "cpu")
    assert ("stablehlo.while" in program) == (platform == "cpu")


def test_a_tpu_reads_images_in_blocks_and_writes_no_tiled_latent():
    """Elsewhere the image of 3 channels and the latent of 5 are one array."""
    game, batch = game_of(config_of("bicycle_gan")), batch_of(2)
    state = jax.eval_shape(game.init, jax.random.key(0), batch)
    translate = jax.jit(lambda *arguments: sampling.translate(game.networks, *arguments))
    arguments = (state, jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 1, 5)), jax.random.key(0))
    on_tpu, on_gpu = (lowered(translate, arguments, platform) for platform in ("tpu", "cuda"))
    tiled, blocks = "x16x16x8xf32>", "x9x9x12xf32>"
    assert tiled in on_gpu and blocks not in on_gpu
    assert blocks in on_tpu and tiled not in on_tpu
