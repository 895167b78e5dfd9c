"""Serves a web page where you draw inputs and see how trained runs translate them: python -m i2i_jax studio --run=RUN [--run=RUN2 ...]

i2i studio                                         the facades of the package
i2i studio --run=runs/bicycle-shapes
i2i studio --run=RUN --run=RUN2 --port=8000        two runs to choose from

Draw or upload an input, sample translations, explore the latent space, copy the style of an image. Needs the extra `studio`. Only this
machine can open the page, unless you set --host.
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

MAX_UPLOAD_BYTES = 20 * 2**20

_RUN = flags.DEFINE_multi_string("run", ["facades"], f"A trained run: {app.RUN}")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen on; 0.0.0.0 lets everyone on the network use the page.")
_PORT = flags.DEFINE_integer("port", 7860, "The port to listen on.", lower_bound=1, upper_bound=65535)


def main(argv: Sequence[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that uploads are deleted then too
    with tempfile.TemporaryDirectory(prefix="i2i_jax_studio_") as folder:
        _make_private(folder)
        optional.library("gradio", "studio")
        from i2i_jax.studio import page, session

        blocks = page.page({run: session.opened(run) for run in _RUN.value})
        address = f"http://{_HOST.value}:{_PORT.value}"
        try:
            blocks.launch(server_name=_HOST.value, server_port=_PORT.value, max_file_size=MAX_UPLOAD_BYTES, **page.LAUNCH)
        except OSError:
            raise ConfigError(f"--port: cannot listen on {address}, another program may use the port: name another one") from None
        try:
            print(f"open {address} in a browser; Ctrl-C ends the studio", flush=True)
            blocks.block_thread()
        finally:
            blocks.close(verbose=False)  # before the folder is deleted, into which the server writes


def _make_private(folder: str) -> None:
    """Turns off Gradio's telemetry, ignores GRADIO_ variables that would publish the page, and makes it store uploads in `folder`."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_TEMP_DIR": folder}


def cli() -> None:
    app.run(main)
