"""What the notebooks in colab/ call: training with live pictures, and what it runs on."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from i2i_jax import configs
from i2i_jax.config import ConfigError, batch_for

# jax is asked in a process of its own: whoever has opened a TPU, or a GPU's memory, keeps it.
_DEVICES = "import jax; print(jax.device_count(), jax.devices()[0].platform, jax.devices()[0].device_kind, sep=';')"


def _devices() -> tuple[int, str, str]:
    """How many there are, of which platform and which kind."""
    done = subprocess.run([sys.executable, "-c", _DEVICES], capture_output=True, text=True, check=True)
    count, platform, kind = done.stdout.strip().split(";")
    return int(count), platform, kind


def runtime() -> str:
    """What training would run on, in a sentence."""
    count, platform, kind = _devices()
    where = f"{count} x {kind} ({platform})"
    if platform == "cpu":
        return f"{where}: enough for shapes; for photos choose a TPU or GPU under Runtime, Change runtime type, and start again"
    return f"{where}: ready"


def train(run: str | Path, *options: str) -> None:
    """`i2i train --workdir=RUN OPTION ...`, its newest sample grid above what it says.

    A new run whose batch no option names gets one that gives every device pairs. The cell's stop button saves and stops it; called
    again it goes on. Raises CalledProcessError where it fails.
    """
    from IPython.display import HTML, DisplayHandle, Image  # pyright: ignore[reportMissingImports]

    command = [sys.executable, "-m", "i2i_jax.main", f"--workdir={run}", *_batch(run, options), *options]
    picture, shown = DisplayHandle(), None
    picture.display(HTML(""))
    # A session of its own: the stop button would send its signal to the whole group.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True) as training:
        try:
            for line in training.stdout or ():
                print(line, end="", flush=True)
                newest = max(Path(run, "samples").glob("*.png"), default=None)
                if newest and newest != shown:
                    picture.update(Image(str(newest)))
                    shown = newest
        except KeyboardInterrupt:
            training.send_signal(signal.SIGTERM)
            print(*(training.stdout or ()), sep="")
    if training.returncode:
        raise subprocess.CalledProcessError(training.returncode, command)


def _batch(run: str | Path, options: Sequence[str]) -> list[str]:
    """The option of a batch for all devices, where the config's own is for fewer."""
    given = dict(option.split("=", 1) for option in options if "=" in option)
    if Path(run, "config.json").exists() or "--config.data.batch_size" in given:
        return []
    try:
        config = configs.read(given.get("--config", ""))
    except ConfigError:  # training says so
        return []
    size = batch_for(config, _devices()[0])
    return [f"--config.data.batch_size={size}"] * (size > config.data.batch_size)
