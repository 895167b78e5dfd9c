"""Traces some steps of a run with JAX's profiler."""

from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import jax

from i2i_jax.config import Config, profiled_steps
from i2i_jax.devices import processes


def traced(steps: Iterable[int], config: Config, workdir: Path, *, wait: Callable[[], object]) -> Generator[int, None, None]:
    """Yields the steps, and traces those of train.profile in process 0, to RUN/profile.

    Args:
        steps: the numbers of the steps, in increasing order.
        config: the run's config.
        workdir: the run's folder.
        wait: waits until the devices have computed what was asked of them, so that the trace has it.
    """
    wanted = profiled_steps(config.train.profile) if jax.process_index() == 0 else range(0)
    folder, tracing = workdir / "profile", False
    try:
        for step in steps:
            if step in wanted and not tracing:
                wait()
                jax.profiler.start_trace(folder, create_perfetto_trace=True)
                tracing = True
            if step not in wanted:
                yield step
                continue
            with jax.profiler.StepTraceAnnotation("step", step_num=step):
                yield step
            if step + 1 not in wanted:
                wait()
                tracing = _stop(folder)
    finally:
        if tracing:
            _stop(folder)


def _stop(folder: Path) -> bool:
    """Ends the trace; returns False, since none is running then."""
    jax.profiler.stop_trace()
    processes.print_once(f"profile written: {folder}; TensorBoard's profile plugin and Perfetto open it")
    return False
