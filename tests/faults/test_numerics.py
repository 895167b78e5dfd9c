"""NaN and Inf are detected and named, and images without variance have finite gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
from i2i_jax import losses
from i2i_jax.losses import l1
from i2i_jax.models import norms
from i2i_jax.training import nonfinite
from i2i_jax.training.nonfinite import Diverged
from i2i_jax.types import Batch
from tiny import KEY, batch_of, config_of, game_of, state_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bicycle():
    """A state, a batch, and a function that names the gradients of a step that are not finite."""
    game, batch = game_of(config_of("bicycle_gan")), batch_of(2)
    step = jax.jit(lambda state, batch: nonfinite.gradients(game, state, batch, KEY)[1])

    def bad(state, batch=batch):
        return {name for name, finite in jax.device_get(step(state, batch)).items() if finite < 1}

    return state_of(game, batch), batch, bad


def with_nan(state, network: str):
    leaves, form = jax.tree.flatten(state.params[network])
    leaves[0] = leaves[0].at[(0,) * leaves[0].ndim].set(jnp.nan)
    return state.replace(params=state.params | {network: jax.tree.unflatten(form, leaves)})


def test_a_network_and_a_term_are_named(bicycle):
    state, batch, bad = bicycle
    assert not bad(state)
    assert nonfinite.names({"generator/l1": 1.0}, state) == []
    assert bad(with_nan(state, "discriminator")) == {
        "generator/gan for generator", "generator/gan for encoder", "discriminator/gan for discriminator",
    }  # fmt: skip
    assert bad(with_nan(state, "discriminator_prior")) == {
        "generator/gan_prior for generator",
        "discriminator/gan_prior for discriminator_prior",
    }
    assert nonfinite.names({}, with_nan(state, "encoder")) == ["a parameter of encoder is not finite"]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_target_that_is_no_number(bicycle, value):
    state, batch, bad = bicycle
    broken = Batch(batch.input, batch.target.at[0, 0, 0, 0].set(value))
    assert {"generator/l1 for encoder", "discriminator/gan for discriminator"} <= bad(state, broken)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_images_without_variance(bicycle, value):
    """All gradients are finite for black, grey and white images."""
    state, batch, bad = bicycle
    assert not bad(state, jax.tree.map(lambda x: jnp.full_like(x, value), batch))


def test_an_optimizer_that_overflowed_is_seen_though_all_parameters_are_finite(bicycle):
    """If Adam's second moment is infinite, the network never changes again."""
    state, _, _ = bicycle
    overflowed = jax.tree.map(lambda x: jnp.full_like(x, jnp.inf) if x.ndim else x, state.opt_state["encoder"])
    found = nonfinite.names({"generator/kl": np.inf}, state.replace(opt_state=state.opt_state | {"encoder": overflowed}))
    assert found == ["generator/kl is inf", "the optimizer of encoder is not finite"]


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 4, 4, 3)])
def test_norms_without_variance(norm, dtype, shape):
    """Values and gradients are finite for a single pixel in a batch of one, and for a constant image."""
    layer = norms.Normalize(norm)
    image = jnp.full(shape, -1.0, dtype)
    variables = layer.init(KEY, image, use_running_average=False)

    def total(image):
        return layer.apply(variables, image, use_running_average=False, mutable=["batch_stats"])[0].astype(jnp.float32).sum()

    value, gradient = jax.value_and_grad(total)(image)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_debug_nans_names_the_first_step_and_the_gradient(tmp_path, shapes_dir, shallow, monkeypatch):
    """The term is finite but its gradient is not; nothing is logged before step 9."""

    def steep(a, b):
        return l1(a, b) + 0 * jnp.sqrt(jnp.sum((a - a) ** 2))

    monkeypatch.setattr(losses, "l1", steep)
    rarely = dict.fromkeys((f"train.{name}_every" for name in ("log", "checkpoint", "eval", "sample")), 9)
    options = {"train.steps": 9, "train.debug_nans": True}
    with pytest.raises(Diverged) as stopped:
        runs.train(shallow("pix2pix", shapes_dir, options | rarely), tmp_path)
    found = str(stopped.value)
    assert "the gradient of generator/l1 for generator is not finite at step 1; there is no checkpoint yet; a lower" in found
    assert "generator/gan" not in found and "discriminator" not in found
