"""Several processes: they connect, agree on options and outcomes, and exit when one is gone.

All communication between processes is in this module; others only ask for `jax.process_index()`. With a single process its functions
do nothing.
"""

import atexit
import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from i2i_jax.config import ConfigError
from i2i_jax.devices import crashes

CONNECT_TIMEOUT = 50  # seconds: the time limit for connecting, and for a missing heartbeat
MESSAGE_TIMEOUT = 600  # seconds to wait for a message from other processes that are alive
GONE = "another process of this run has ended or cannot be reached: see the output of that process"
WORKING = "working"  # the status of a process that has not finished yet

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class ConnectionFailed(RuntimeError):
    """The processes of a run cannot connect."""


class ErrorElsewhere(RuntimeError):
    """An error in another process, with the number of that process."""


@contextlib.contextmanager
def connected(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    distributed: bool | None = None,
) -> Iterator[None]:
    """Context manager in which this process is connected to the others of the run, if there are any.

    After an error that the other processes do not know of (see `raised_by_all`), this process exits without waiting for them, since they
    may be waiting for it.

    Args:
        coordinator_address: HOST:PORT of process 0, as in `jax.distributed.initialize`. Give all of the first three arguments or none.
        num_processes: number of processes of the run.
        process_id: index of this process.
        distributed: whether there are several processes, which jax finds by itself. None: if a launcher such as SLURM says so.

    Raises:
        ConfigError: if the arguments are incomplete or out of range.
        ConnectionFailed: if jax cannot connect the processes.
    """
    explicit = _explicit_arguments(coordinator_address, num_processes, process_id)
    if not (explicit or distributed or (distributed is None and _launcher_started_several())):
        yield
        return
    _join(explicit)
    try:
        with exiting_if_another_is_gone():
            yield
    except BaseException as error:
        if not getattr(error, "raised_by_all", False):
            atexit.register(crashes.exit_now)  # at exit jax would wait for the others
        raise


def _explicit_arguments(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> dict[str, Any]:
    """The three arguments of `jax.distributed.initialize` by name; empty if none is set. Raises ConfigError."""
    arguments = {"coordinator_address": coordinator_address, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in arguments.items() if value is None]
    if len(missing) == len(arguments):
        return {}
    if missing:
        raise ConfigError(f"--{missing[0]} is missing: --coordinator_address, --num_processes and --process_id belong together")
    if not re.fullmatch(r"\S+:\d+", str(coordinator_address)):
        raise ConfigError(f"--coordinator_address is {coordinator_address!r}: must be HOST:PORT of process 0")
    if not 0 <= int(process_id or 0) < int(num_processes or 0):
        raise ConfigError(f"--process_id is {process_id}, --num_processes {num_processes}: must be from 0 to --num_processes - 1")
    return arguments


def _launcher_started_several() -> bool:
    """Whether the environment variables of a launcher that jax supports say that it started several processes."""
    task_counts = (os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "MEGASCALE_NUM_SLICES"))
    return any(count not in ("", "0", "1") for count in task_counts) or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def _join(explicit: Mapping[str, Any]) -> None:
    """Connects this process to the others by `jax.distributed`. Raises ConnectionFailed."""
    # If a process dies, jax's coordination service aborts the others from C++; so it does with one that cannot connect.
    crashes.on_abort(GONE)
    jax.config.update("jax_enable_preemption_service", False)  # it would intercept SIGTERM, which the training loop handles
    limit = threading.Timer(CONNECT_TIMEOUT, _give_up, [explicit.get("coordinator_address", "the coordinator that jax found")])
    limit.daemon = True
    limit.start()
    try:
        jax.distributed.initialize(**explicit, heartbeat_timeout_seconds=CONNECT_TIMEOUT)
    except Exception as error:
        flags = "--coordinator_address, --num_processes and --process_id"
        raise ConnectionFailed(f"cannot connect to the other processes ({_first_line(error)}): name them with {flags}") from error
    finally:
        limit.cancel()


def _give_up(address: str) -> None:
    """Exits because not all processes connected in time."""
    crashes.exit_with_message(f"not all processes connected to {address} within {CONNECT_TIMEOUT} seconds")


@contextlib.contextmanager
def exiting_if_another_is_gone() -> Iterator[None]:
    """Context manager: exits with a one-line error if its block fails because another process is gone.

    It exits without cleaning up, since jax's clean-up would wait for the other process.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() > 1 and re.search("gloo|nccl|coordination service", str(error), re.IGNORECASE):
            crashes.exit_with_message(f"{GONE} ({_first_line(error)})")
        raise


def print_once(line: str) -> None:
    """Prints a line, in process 0 only."""
    if jax.process_index() == 0:
        print(line, flush=True)


def refuse_different(options: Mapping[str, Any]) -> None:
    """Checks that all processes have the same options. A collective: every process must call it.

    Args:
        options: JSON-serialisable values by name.

    Raises:
        ConfigError: in every process, if they differ.
    """
    if jax.process_count() == 1:
        return
    first, *others = (json.loads(text) for text in _gather(json.dumps(options)))
    for process, other in enumerate(others, start=1):
        for name in first:
            if other[name] != first[name]:
                both = f"{name} is {first[name]!r} in process 0 and {other[name]!r} in process {process}"
                raise raised_by_all(ConfigError(f"{both}: start all with the same code and options"))


def code_hash() -> str:
    """A hash of the source files of this package and of jax's version, by which processes with different code are found."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    content = [jax.__version__.encode(), *(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes() for file in files)]
    return hashlib.sha256(b"\0".join(content)).hexdigest()[:12]


def raised_by_all(error: E) -> E:
    """Marks `error` as one that every process raises at the same point, so that none waits for another. Returns it."""
    error.raised_by_all = True  # pyright: ignore[reportAttributeAccessIssue]
    return error


def on_all(function: Callable[[], T]) -> T:
    """Calls `function` in every process; if it fails in one, all processes raise. A collective: every process must call it.

    Returns:
        The result of `function` in this process.

    Raises:
        Exception: what `function` raised in this process.
        ConfigError: if it did not fail here, but raised ConfigError in another process.
        ErrorElsewhere: if it did not fail here, but raised another error in another process.
    """
    if jax.process_count() == 1:
        return function()
    outcome = _Outcome(function)
    return outcome.result(_gather(outcome.status))


def first_then_others(function: Callable[[], T]) -> T:
    """Like `on_all`, but calls `function` in process 0 first, then in the others. It may take any time.

    The processes exchange their status every second, so that nobody takes a busy process for a dead one.
    """
    if jax.process_count() == 1:
        return function()
    is_first, outcome = jax.process_index() == 0, _Outcome(lambda: None)
    for firsts_turn in (True, False):
        if is_first == firsts_turn:
            outcome = _Outcome(function, in_thread=True)
        while WORKING in (statuses := _gather(outcome.status)):
            outcome.wait(1)
        outcome.result(statuses)
    return outcome.result([])


class _Outcome:
    """Calls `function`, in a thread if `in_thread`, and keeps its value or error."""

    def __init__(self, function: Callable[[], Any], *, in_thread: bool = False):
        self._value: Any = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=[function], daemon=True)
        self._thread.start() if in_thread else self._thread.run()
        self.wait(0.1)

    def _run(self, function: Callable[[], Any]) -> None:
        try:
            self._value = function()
        except Exception as error:
            self._error = error

    def wait(self, seconds: float) -> None:
        """Waits until `function` has finished, but no longer than `seconds`."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    @property
    def status(self) -> str:
        """The message to the other processes: WORKING, empty on success, or the error as JSON [is ConfigError, message]."""
        if self._thread.is_alive():
            return WORKING
        is_config_error = isinstance(self._error, ConfigError)
        return (
            "" if self._error is None else json.dumps([is_config_error, " ".join(str(self._error).split()) or type(self._error).__name__])
        )

    def result(self, statuses: list[str]) -> Any:
        """The value of `function`. Raises its error, or the first error among the statuses of all processes."""
        if self._error is not None:
            raise raised_by_all(self._error)
        for process, status in enumerate(statuses):
            if status:
                is_config_error, message = json.loads(status)
                raise raised_by_all((ConfigError if is_config_error else ErrorElsewhere)(f"process {process}: {message}"))
        return self._value


def from_first(value: Any) -> Any:
    """Returns the value of process 0, which must be JSON-serialisable. A collective: every process must call it."""
    return value if jax.process_count() == 1 else json.loads(_gather(json.dumps(value))[0])


def any_process(flag: bool) -> bool:
    """Logical OR over all processes. A collective: every process must call it."""
    return flag if jax.process_count() == 1 else any(_gather("set" if flag else ""))


def _gather(text: str) -> list[str]:
    """The texts of all processes, by index. Exits if they do not arrive within MESSAGE_TIMEOUT seconds."""
    limit = threading.Timer(
        MESSAGE_TIMEOUT, crashes.exit_with_message, [f"no message from the other processes for {MESSAGE_TIMEOUT} seconds"]
    )
    limit.daemon = True
    limit.start()
    try:
        encoded = np.frombuffer(text.encode(), np.uint8)
        width = int(np.max(multihost_utils.process_allgather(np.int32(encoded.size))))
        padded = np.pad(encoded, (0, width - encoded.size))
        rows = multihost_utils.process_allgather(padded) if width else [encoded] * jax.process_count()
        return [row.tobytes().rstrip(b"\0").decode() for row in rows]
    finally:
        limit.cancel()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
