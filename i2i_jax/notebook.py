"""Functions for the notebooks in colab/: training with live samples, and the devices it runs on."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from i2i_jax import configs
from i2i_jax.config import ConfigError, batch_for

# jax runs in a subprocess, because a process that has opened a TPU or a GPU's memory keeps it.
_DEVICES = "import jax; print(jax.device_count(), jax.devices()[0].platform, jax.devices()[0].device_kind, sep=';')"


def _devices() -> tuple[int, str, str]:
    """The number of devices, their platform and their kind."""
    process = subprocess.run([sys.executable, "-c", _DEVICES], capture_output=True, text=True, check=True)
    count, platform, kind = process.stdout.strip().split(";")
    return int(count), platform, kind


def runtime() -> str:
    """Says in one sentence on which devices training would run."""
    count, platform, kind = _devices()
    devices = f"{count} x {kind} ({platform})"
    if platform == "cpu":
        return f"{devices}: enough for shapes; for photos choose a TPU or GPU under Runtime, Change runtime type, and start again"
    return f"{devices}: ready"


def train(run: str | Path, *options: str) -> None:
    """Trains like `i2i train --workdir=RUN OPTION ...` and shows the newest sample grid above the output.

    The stop button of the notebook cell saves a checkpoint and stops; the same call resumes the run. If no option sets the batch
    size of a new run, it is increased so that every device has pairs.

    Args:
        run: the folder of the run.
        *options: options of the command line, for example "--config=bicycle".

    Raises:
        CalledProcessError: if training fails.
    """
    from IPython.display import HTML, DisplayHandle, Image  # pyright: ignore[reportMissingImports]

    command = [sys.executable, "-m", "i2i_jax.main", f"--workdir={run}", *_batch(run, options), *options]
    display, shown = DisplayHandle(), None
    display.display(HTML(""))
    # In a new session, because the stop button sends its signal to the whole process group.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True) as training:
        try:
            for line in training.stdout or ():
                print(line, end="", flush=True)
                newest = max(Path(run, "samples").glob("*.png"), default=None)
                if newest and newest != shown:
                    display.update(Image(str(newest)))
                    shown = newest
        except KeyboardInterrupt:
            training.send_signal(signal.SIGTERM)
            print(*(training.stdout or ()), sep="")
    if training.returncode:
        raise subprocess.CalledProcessError(training.returncode, command)


def _batch(run: str | Path, options: Sequence[str]) -> list[str]:
    """The option that sets the batch size, if the config's is too small for all devices."""
    values = dict(option.split("=", 1) for option in options if "=" in option)
    if Path(run, "config.json").exists() or "--config.data.batch_size" in values:
        return []
    try:
        config = configs.read(values.get("--config", ""))
    except ConfigError:  # training reports it
        return []
    size = batch_for(config, _devices()[0])
    return [f"--config.data.batch_size={size}"] * (size > config.data.batch_size)
