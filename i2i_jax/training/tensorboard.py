"""The figures of a run as TensorBoard event files."""

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from i2i_jax.storage.files import writing

FLUSH_EVERY = 10  # seconds


class TensorBoard:
    """An event file of scalars. Its START event makes TensorBoard hide later steps of earlier event files.

    A failed write raises OSError in the call itself: closing tensorboardX's own SummaryWriter hangs if its thread has died.
    """

    def __init__(self, folder: Path, *, start_step: int):
        # Not at the top of the file: tensorboardX imports PyTorch if it is installed.
        from tensorboardX.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.record_writer import RecordWriter

        self._path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.from_{start_step}"
        with writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._records = RecordWriter(str(self._path))
        self._flushed = time.monotonic()
        self._add(0, file_version="brain.Event:2")
        self._add(start_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        self._add(step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()]))

    def _add(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        with writing(self._path):
            self._records.write(Event(step=step, wall_time=time.time(), **content).SerializeToString())
            if time.monotonic() - self._flushed > FLUSH_EVERY:
                self._records.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        with writing(self._path):
            self._records.close()
