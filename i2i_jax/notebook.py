"""What the notebooks in colab/ call: training with live pictures, and what it runs on."""

import signal
import subprocess
import sys
from pathlib import Path

# jax is asked in a process of its own: whoever has opened a TPU, or a GPU's memory, keeps it.
_DEVICES = "import jax; print(jax.device_count(), jax.devices()[0].platform, jax.devices()[0].device_kind, sep=';')"


def runtime() -> str:
    """What training would run on, in a sentence."""
    done = subprocess.run([sys.executable, "-c", _DEVICES], capture_output=True, text=True, check=True)
    count, platform, kind = done.stdout.strip().split(";")
    where = f"{count} x {kind} ({platform})"
    if platform == "cpu":
        return f"{where}: enough for shapes; for photos choose a TPU or GPU under Runtime, Change runtime type, and start again"
    return f"{where}: ready"


def train(run: str | Path, *options: str) -> None:
    """`i2i train --workdir=RUN OPTION ...`, its newest sample grid above what it says.

    The cell's stop button saves and stops it; called again it goes on. Raises CalledProcessError where it fails.
    """
    from IPython.display import HTML, DisplayHandle, Image  # pyright: ignore[reportMissingImports]

    command = [sys.executable, "-m", "i2i_jax.main", f"--workdir={run}", *options]
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
