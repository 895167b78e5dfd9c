"""A training step takes a state in any layout and keeps it in its own."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout

from i2i_jax.devices import parallel
from i2i_jax.devices.layouts import LaidOutStep

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def step(state, batch, key):
    return {"matrix": state["matrix"] @ jnp.diag(jnp.arange(3.0)) + batch.sum(), "step": state["step"] + 1}, {"loss": batch.mean()}


def test_states_of_any_layout_take_the_same_steps():
    mesh = parallel.make_mesh(jax.devices()[:1])
    whole = parallel.replicated(mesh)
    laid_out, arguments = LaidOutStep(step, whole, whole), (np.ones((2, 2), np.float32), jax.random.key(0))
    for order in ((0, 1), (1, 0), (0, 1)):
        matrix = jax.device_put(MATRIX, Format(Layout(order), whole))
        state, losses = laid_out({"matrix": matrix, "step": np.int32(0)}, *arguments)
        assert state["matrix"].format.layout.major_to_minor == (0, 1) and losses["loss"] == 1
        np.testing.assert_array_equal(state["matrix"], MATRIX * [0, 1, 2] + 4)
        state, _ = laid_out(state, *arguments)
        np.testing.assert_array_equal(state["matrix"], (MATRIX * [0, 1, 2] + 4) * [0, 1, 2] + 4)
        assert state["step"] == 2


def test_it_is_traced_once():
    whole = parallel.replicated(parallel.make_mesh(jax.devices()[:1]))
    traces = []
    laid_out = LaidOutStep(lambda *arguments: (traces.append(1), step(*arguments))[1], whole, whole)
    state, arguments = {"matrix": jnp.asarray(MATRIX), "step": jnp.int32(0)}, (np.ones((2, 2), np.float32), jax.random.key(0))
    laid_out.lower(state, *arguments).compile()
    for _ in range(3):
        state, _ = laid_out(state, *arguments)
    assert len(traces) == 1
