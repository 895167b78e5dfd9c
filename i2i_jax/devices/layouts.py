"""Training steps whose state is laid out in memory as their compiler chooses."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.layout import Format, Layout
from jax.sharding import Sharding


class LaidOutStep:
    """A compiled step (state, batch, key) -> (state, metrics) that keeps the state's arrays in the order that suits its operations.

    With jax's default order, XLA would copy weights, gradients or moments into another one in every step.
    """

    def __init__(self, step: Callable, whole: Sharding, rows: Sharding, options: dict[str, Any] | None = None):
        """Compiles `step` at its first call.

        Args:
            step: the step, mapped over the devices. The buffers of its state are donated.
            whole: the sharding of state, key and metrics.
            rows: the sharding of the batch.
            options: compiler options.
        """
        chosen = Format(Layout.AUTO, whole)
        shardings = {"in_shardings": (chosen, rows, whole), "out_shardings": (chosen, whole)}
        self._step = jax.jit(step, donate_argnums=0, **shardings, compiler_options=options)
        self._compiled: Any = None
        self._newest: Any = None

    def trace(self, *arguments: Any) -> Any:
        """As `jax.jit(step).trace`."""
        return self._step.trace(*jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments))

    def lower(self, *arguments: Any) -> Any:
        """As `jax.jit(step).lower`."""
        return self.trace(*arguments).lower()

    def __call__(self, state: Any, batch: Any, key: jax.Array) -> tuple[Any, Any]:
        if self._compiled is None:
            self._compiled = self.lower(state, batch, key).compile()
        if state is not self._newest:
            state = jax.device_put(state, self._compiled.input_formats[0][0], donate=True)
        self._newest, metrics = self._compiled(state, batch, key)
        return self._newest, metrics
