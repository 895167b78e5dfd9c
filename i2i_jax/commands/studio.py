"""A page to draw on and to play with what trained runs make of it: python -m i2i_jax studio --run=RUN [--run=RUN2 ...]

i2i studio --run=runs/bicycle-shapes
i2i studio --run=RUN --run=RUN2 --port=8000        two runs to choose from

Draw or upload an input, draw samples, move through the latents, take the style of an image. Needs the extra `studio`. The page is
there for this machine alone unless --host says otherwise.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Sequence

from absl import flags

from i2i_jax import optional
from i2i_jax.commands import app
from i2i_jax.config import ConfigError

MAX_BYTES = 20 * 2**20  # of an upload

_RUN = flags.DEFINE_multi_string(
    "run", None, "A trained run: its folder, packed in a file, or hf://USER/NAME; several can be given, to choose from.", required=True
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen at; 0.0.0.0 lets everyone on the network use the page.")
_PORT = flags.DEFINE_integer("port", 7860, "The port to listen at.", lower_bound=1, upper_bound=65535)


def main(argv: Sequence[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # what was uploaded is deleted then too
    with tempfile.TemporaryDirectory(prefix="i2i_jax_studio_") as folder:
        _keep_to_itself(folder)
        optional.library("gradio", "studio")
        from i2i_jax.studio import page, session

        page = page.page({run: session.opened(run) for run in _RUN.value})
        address = f"http://{_HOST.value}:{_PORT.value}"
        try:
            page.launch(server_name=_HOST.value, server_port=_PORT.value, max_file_size=MAX_BYTES, **page.LAUNCH)
        except OSError:
            raise ConfigError(f"--port: nothing can listen at {address}, another program may do so: name another port") from None
        print(f"open {address} in a browser; Ctrl-C ends the studio", flush=True)
        page.block_thread()


def _keep_to_itself(folder: str) -> None:
    """Gradio reports nothing to anyone, obeys no variable that would open it to others, and keeps what is uploaded in `folder`."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_TEMP_DIR": folder}


def cli() -> None:
    app.run(main)
