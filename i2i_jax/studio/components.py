"""The parts of the page that have scripts of their own, the canvas and the pad, and the page's style."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from i2i_jax.pages import painter
from i2i_jax.studio import session

REACH = 3.0  # range of the pad and the sliders in standard deviations of z

HERE = Path(__file__).parent
STYLE = (HERE / "studio.css").read_text("utf-8")

gr.set_static_paths([*HERE.glob("*.js"), painter.TEMPLATES / "painter"])


def canvas(settings: Mapping[str, dict[str, Any]], picture: str | None) -> gr.HTML:
    """The canvas with its tools. Its value is a picture as a data URL; `settings` are those of `session.settings`, by the name of the run.

    It fires `submit` when it is ready, and `input` after every change by the user.
    """
    known: dict[str, Any] = {"settings": settings, "most": session.MOST, "pixels": session.MAX_SIDE**2}
    return gr.HTML(picture, elem_id="canvas-with-tools", **_scripted("canvas"), **known)


def pad(*, visible: bool) -> gr.HTML:
    """A square on which a click chooses a latent of two numbers. Its value: {"samples": [[x, y] ...], "z": [x, y]}.

    It fires `input` when the user has moved z.
    """
    value: Any = {"samples": [], "z": [0.0, 0.0]}
    return gr.HTML(value, visible=visible, elem_id="pad-of-latents", **_scripted("pad"))


def _scripted(name: str) -> dict[str, Any]:
    """The content NAME.html and the script NAME.js of a component."""
    address = f'new URL("gradio_api/file={(HERE / name).as_posix()}.js", document.baseURI)'
    return {
        "html_template": (HERE / f"{name}.html").read_text("utf-8"),
        "js_on_load": f"import({address}).then(({{start}}) => start(element, props, trigger))",
        "apply_default_css": False,
    }
