"""The one file that knows there are several processes: they find each other, agree, and end when one is gone. One alone does nothing."""

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

PATIENCE = 50  # seconds for all processes to find each other, and of silence until one counts as dead
LONGEST = 600  # seconds that one waits for the word of others that are alive
GONE = "another process of this run has ended or cannot be reached: its own output says why"


WORKING = "working"

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class Unjoined(RuntimeError):
    """The processes of a run cannot be brought together."""


class Elsewhere(RuntimeError):
    """What failed in another process: its number and its words."""


@contextlib.contextmanager
def together(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    distributed: bool | None = None,
) -> Iterator[None]:
    """Inside, this process is one of several, if the arguments say so, or (with `distributed` None) a launcher's variables.

    The first three are those of `jax.distributed.initialize`, all or none; `distributed` lets jax find them by itself. After an error
    that the others do not know of (see `everywhere`) this process ends without waiting for them, who may be waiting for it.
    Raises ConfigError on arguments that cannot be, and Unjoined where jax cannot join the processes.
    """
    explicit = _checked(coordinator_address, num_processes, process_id)
    if not (explicit or distributed or (distributed is None and _launched_together())):
        yield
        return
    _join(explicit)
    try:
        with watched():
            yield
    except BaseException as error:
        if not getattr(error, "everywhere", False):
            atexit.register(crashes.leave)  # jax would wait for the others when the interpreter ends
        raise


def _checked(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> dict[str, Any]:
    """The three by name, or none."""
    given = {"coordinator_address": coordinator_address, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return {}
    if missing:
        raise ConfigError(f"--{missing[0]} is missing: --coordinator_address, --num_processes and --process_id belong together")
    if not re.fullmatch(r"\S+:\d+", str(coordinator_address)):
        raise ConfigError(f"--coordinator_address is {coordinator_address!r}: must be HOST:PORT, where process 0 is")
    if not 0 <= int(process_id or 0) < int(num_processes or 0):
        raise ConfigError(f"--process_id is {process_id}, --num_processes {num_processes}: must be from 0 to one less than that")
    return given


def _launched_together() -> bool:
    """Whether a launcher that jax knows says that it started several processes."""
    tasks = (os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "MEGASCALE_NUM_SLICES"))
    return any(number not in ("", "0", "1") for number in tasks) or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def _join(explicit: Mapping[str, Any]) -> None:
    # Where a process dies, jax's coordination service aborts the others from C++, or this one if it never gets to join.
    crashes.on_abort(GONE)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from the training loop
    limit = threading.Timer(PATIENCE, _give_up, [explicit.get("coordinator_address", "the coordinator that jax found")])
    limit.daemon = True
    limit.start()
    try:
        jax.distributed.initialize(**explicit, heartbeat_timeout_seconds=PATIENCE)
    except Exception as error:
        named = "--coordinator_address, --num_processes and --process_id"
        raise Unjoined(f"cannot join the other processes ({_first_line(error)}): {named} name them explicitly") from error
    finally:
        limit.cancel()


def _give_up(address: str) -> None:
    crashes.last_words(f"not all processes came together at {address} within {PATIENCE} seconds")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Where what it holds fails because another process is gone, this one ends in one line: to clean up would be to wait for it."""
    try:
        yield
    except Exception as error:
        if jax.process_count() > 1 and re.search("gloo|nccl|coordination service", str(error), re.IGNORECASE):
            crashes.last_words(f"{GONE} ({_first_line(error)})")
        raise


def say(line: str) -> None:
    """Prints it, once for all processes."""
    if jax.process_index() == 0:
        print(line, flush=True)


def refuse_different(options: Mapping[str, Any]) -> None:
    """Raises ConfigError, in every process, unless all have the same `options`."""
    if jax.process_count() == 1:
        return
    first, *others = (json.loads(text) for text in _gather(json.dumps(options)))
    for process, other in enumerate(others, start=1):
        for name in first:
            if other[name] != first[name]:
                both = f"{name} is {first[name]!r} in process 0 and {other[name]!r} in process {process}"
                raise everywhere(ConfigError(f"{both}: start all with the same code and options"))


def code() -> str:
    """What tells one state of this package's code and of jax from another."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    content = [jax.__version__.encode(), *(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes() for file in files)]
    return hashlib.sha256(b"\0".join(content)).hexdigest()[:12]


def everywhere(error: E) -> E:
    """`error`, marked as one that every process raises at this point: they end together."""
    error.everywhere = True  # pyright: ignore[reportAttributeAccessIssue]
    return error


def agreed(do: Callable[[], T]) -> T:
    """`do()` in every process. Where it fails in some, all raise: those their own errors, the others the first one's words."""
    if jax.process_count() == 1:
        return do()
    outcome = _Outcome(do)
    return outcome.among(_gather(outcome.told))


def first_then_others(do: Callable[[], T]) -> T:
    """As `agreed`, by process 0 and only then by the others, for as long as it takes: who waits hears every second that work goes on."""
    if jax.process_count() == 1:
        return do()
    own, outcome = jax.process_index() == 0, _Outcome(lambda: None)
    for turn in (True, False):
        if own == turn:
            outcome = _Outcome(do, apart=True)
        while WORKING in (heard := _gather(outcome.told)):
            outcome.wait(1)
        outcome.among(heard)
    return outcome.among([])


class _Outcome:
    """What became of `do()`, which may be done in a thread of its own, `apart`."""

    def __init__(self, do: Callable[[], Any], *, apart: bool = False):
        self._value: Any = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=[do], daemon=True)
        self._thread.start() if apart else self._thread.run()
        self.wait(0.1)

    def _run(self, do: Callable[[], Any]) -> None:
        try:
            self._value = do()
        except Exception as error:
            self._error = error

    def wait(self, seconds: float) -> None:
        if self._thread.is_alive():
            self._thread.join(seconds)

    @property
    def told(self) -> str:
        """To the others: nothing where all is well."""
        if self._thread.is_alive():
            return WORKING
        wrong_use = isinstance(self._error, ConfigError)
        return "" if self._error is None else json.dumps([wrong_use, " ".join(str(self._error).split()) or type(self._error).__name__])

    def among(self, heard: list[str]) -> Any:
        """The value, where all is well in all processes."""
        if self._error is not None:
            raise everywhere(self._error)
        for process, text in enumerate(heard):
            if text:
                wrong_use, message = json.loads(text)
                raise everywhere((ConfigError if wrong_use else Elsewhere)(f"process {process}: {message}"))
        return self._value


def from_first(value: Any) -> Any:
    """What process 0 has, as JSON can hold it; all must ask."""
    return value if jax.process_count() == 1 else json.loads(_gather(json.dumps(value))[0])


def anywhere(flag: bool) -> bool:
    """Whether it is set in any process; all must ask."""
    return flag if jax.process_count() == 1 else any(_gather("set" if flag else ""))


def _gather(text: str) -> list[str]:
    """Everyone's text, by process; who waits too long for it ends."""
    limit = threading.Timer(LONGEST, crashes.last_words, [f"no word from the other processes for {LONGEST} seconds"])
    limit.daemon = True
    limit.start()
    try:
        mine = np.frombuffer(text.encode(), np.uint8)
        room = int(np.max(multihost_utils.process_allgather(np.int32(mine.size))))
        rows = multihost_utils.process_allgather(np.pad(mine, (0, room - mine.size))) if room else [mine] * jax.process_count()
        return [row.tobytes().rstrip(b"\0").decode() for row in rows]
    finally:
        limit.cancel()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
