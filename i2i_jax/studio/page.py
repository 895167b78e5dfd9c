"""The web page of the studio: its layout and its event handlers."""

import functools
import html
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import gradio as gr  # pyright: ignore[reportMissingImports]
import numpy as np
from gradio import processing_utils  # pyright: ignore[reportMissingImports]
from PIL import Image

from i2i_jax.config import ConfigError, has_encoder, sides
from i2i_jax.data import labels, values
from i2i_jax.data.images import EXTENSIONS, ImageError
from i2i_jax.inference import drawings
from i2i_jax.inference.model import Model
from i2i_jax.studio import session

MOST = 16  # samples, and pictures of a walk, at most
SLIDERS = 8  # dimensions of z that have a slider, at most
REACH = 3.0  # range of a slider in standard deviations of z

STYLE = """
footer { display: none !important }
#picture img { width: 100%; height: 100%; object-fit: contain }  /* enlarge small pictures */
@media (max-width: 640px) {
    #samples .grid-container, #between .grid-container { grid-template-columns: repeat(2, 1fr) !important }
    #input, #output { display: contents }  /* so that the samples stand right below the canvas */
    #options { order: 1 }
    #with-latent { order: 2 }
}
"""
LAUNCH: dict[str, Any] = {
    "theme": gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    "css": STYLE, "footer_links": [], "run_history": False, "quiet": True, "prevent_thread_lock": True,
    "share": False, "ssr_mode": False, "mcp_server": False, "num_workers": 0, "enable_monitoring": False, "state_session_capacity": 100,
}  # fmt: skip

# Selects the brush when the page opens and when the canvas was cleared, so that users can draw at once.
PICK_BRUSH = """() => {
    const pick = () => { const brush = document.querySelector('[aria-label="Brush"]'); brush ? brush.click() : setTimeout(pick, 200); };
    pick();
}"""

# One event that computes or decodes images runs at a time.
ALONE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "networks", "show_progress": "hidden", "api_visibility": "private"}

# Pillow refuses images of more than twice this size when Gradio decodes them.
Image.MAX_IMAGE_PIXELS = session.MAX_PIXELS


async def _fetch_nothing(url: str, cache_dir: str) -> str:
    raise gr.Error("the studio downloads nothing: upload a file")


# Gradio would download a URL that a client sends instead of an upload.
processing_utils.async_ssrf_protected_download = _fetch_nothing


def page(models: Mapping[str, Model]) -> gr.Blocks:
    """Builds the page.

    Args:
        models: trained models by the name of their run; the user chooses one of them.
    """
    with gr.Blocks(title="i2i_jax studio", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        Page(models, blocks)
        blocks.load(None, js=PICK_BRUSH)
    return blocks.queue(api_open=False, max_size=64)


def _showing_errors(handler: Callable) -> Callable:
    """Shows errors about uploads and options in the page."""

    @functools.wraps(handler)
    def wrapped(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except (ImageError, ConfigError) as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from None

    return wrapped


class Page:
    """The components of the page and their event handlers, which work on the chosen run.

    Two components hold state of the session: `latents` of the samples, and `z` of the picture.
    """

    def __init__(self, models: Mapping[str, Model], blocks: gr.Blocks):
        self.models = models
        self.drawings = {name: session.examples(model.config) for name, model in models.items()}  # read once, not at every visit
        name, first = next(iter(models.items()))
        self.title = gr.Markdown(_title(name, first))
        self.run = gr.Dropdown(list(models), label="Run", visible=len(models) > 1)
        with gr.Row():
            with gr.Column(scale=2, min_width=360, elem_id="input"):
                self._lay_out_input(first, self.drawings[name])
            with gr.Column(scale=3, min_width=360, elem_id="output"):
                self._lay_out_output(first)
        self._connect(blocks)

    def _lay_out_input(self, first: Model, examples: list[session.Picture]) -> None:
        self.canvas = gr.ImageEditor(
            examples[0] if examples else None,
            label="Input", sources=(), image_mode="RGB", format="png", layers=False, transforms=(), buttons=[],
            canvas_size=(session.CANVAS, session.CANVAS), height=session.CANVAS + 80, brush=_brush(first),
        )  # fmt: skip
        with gr.Column(elem_id="options"):
            with gr.Column(visible=bool(examples)) as self.with_examples:
                _heading("Examples: click one")
                self.examples = gr.Gallery(
                    examples, columns=session.EXAMPLES, height=140, format="png", object_fit="contain", allow_preview=False, buttons=[],
                    show_label=False, elem_id="examples",
                )  # fmt: skip
            self.upload = gr.UploadButton("Upload an image", file_types=list(EXTENSIONS), size="sm")
            with gr.Row():
                self.number = gr.Slider(1, MOST, value=8, step=1, label="Samples", scale=3, min_width=160)
                self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, scale=2, min_width=100)
            with gr.Row():
                self.translate = gr.Button("Translate", variant="primary")
                self.another = gr.Button("Another seed")

    def _lay_out_output(self, first: Model) -> None:
        self.latents, self.z = gr.State(), gr.State(np.zeros(first.networks.latent_dim, np.float32))
        gallery: dict[str, Any] = {
            "format": "png",
            "object_fit": "contain",
            "allow_preview": False,
            "show_label": False,
            "buttons": ["download_all", "fullscreen"],
        }
        _heading("Samples: different answers to the same drawing. Click one to change it below.")
        self.samples = gr.Gallery(columns=4, height=420, elem_id="samples", **gallery)
        with gr.Column(visible=first.networks.latent_dim > 0, elem_id="with-latent") as self.with_latent:
            _heading("One answer: its latent z, the numbers on the sliders, chooses it among all.")
            with gr.Row():
                self.picture = gr.Image(
                    format="png", interactive=False, buttons=["download", "fullscreen"], height=320, elem_id="picture", show_label=False
                )
                with gr.Column():
                    number = min(SLIDERS, max(model.networks.latent_dim for model in self.models.values()))
                    self.sliders = [
                        gr.Slider(-REACH, REACH, value=0, step=0.01, label=f"z{i + 1}", visible=i < first.networks.latent_dim)
                        for i in range(number)
                    ]
                    visible = has_encoder(first.config)
                    self.style = gr.UploadButton("Use the style of an image", file_types=list(EXTENSIONS), size="sm", visible=visible)
            with gr.Row(equal_height=True):
                self.start = gr.Number(1, label="From sample", precision=0, minimum=1, maximum=MOST, min_width=80)
                self.end = gr.Number(2, label="to sample", precision=0, minimum=1, maximum=MOST, min_width=80)
                self.steps = gr.Slider(3, MOST, value=8, step=1, label="Pictures", scale=2, min_width=180)
                self.walk = gr.Button("Walk", min_width=80)
            self.between = gr.Gallery(columns=6, height=260, elem_id="between", visible=False, **gallery)

    def _connect(self, blocks: gr.Blocks) -> None:
        inputs, latent = [self.run, self.canvas], [self.z, *self.sliders]
        sampling = {"fn": self.make, "inputs": [*inputs, self.number, self.seed], "outputs": [self.samples, self.latents], **ALONE}
        showing = {"fn": self.show, "inputs": [*inputs, *latent], "outputs": [self.z, self.picture], **ALONE}
        cleared = [self.samples, self.latents, self.between, self.picture]
        options, translated = [self.number, self.seed, *latent], [self.samples, self.latents, self.picture]
        following = {"fn": self.follow, "inputs": [*inputs, *options], "outputs": translated, **ALONE}
        chosen = [self.title, self.examples, self.with_examples, self.canvas, self.with_latent, self.style, *cleared, *latent]
        self.run.change(self.choose, self.run, chosen).then(**following)
        self.examples.select(self.take_example, self.run, self.canvas).then(**following)
        self.upload.upload(self.read, [self.run, self.upload], self.canvas, **ALONE).success(**following)
        for changed in (self.canvas.input, self.number.release):
            changed(**following, trigger_mode="always_last")
        self.canvas.clear(None, js=PICK_BRUSH)
        blocks.load(self.begin, [self.run, *options], translated, **ALONE)
        self.translate.click(**sampling).success(**showing)
        self.another.click(lambda: secrets.randbelow(10_000), None, self.seed).then(**sampling)
        for slider in self.sliders:
            slider.input(**showing, trigger_mode="always_last")
        self.samples.select(self.take, [*inputs, self.latents], [*latent, self.picture], **ALONE)
        self.style.upload(self.imitate, [*inputs, self.style], [*latent, self.picture], **ALONE)
        self.walk.click(self.go, [*inputs, self.latents, self.start, self.end, self.steps], self.between, **ALONE)

    @_showing_errors
    def read(self, run: str, upload: str) -> session.Picture:
        """Handles an uploaded input: its picture."""
        return _read(upload, self.models[run], "input")

    @_showing_errors
    def make(self, run: str, drawing: Any, number: int, seed: int) -> tuple:
        """Handles "Translate": the samples and their latents."""
        model, seed = self.models[run], _whole(seed, "Seed", 0)
        samples = session.samples(model, _picture(drawing), seed=seed, number=number)
        return gr.Gallery(samples, selected_index=None), session.latents(model, seed=seed, number=number)

    @_showing_errors
    def follow(self, run: str, drawing: Any, number: int, seed: int, z: np.ndarray, *sliders: float) -> tuple:
        """Handles a stroke: the samples, their latents and the picture of z; nothing where nothing is drawn."""
        if _is_empty(drawing):
            return None, None, None
        return *self.make(run, drawing, number, seed), self.show(run, drawing, z, *sliders)[1]

    @_showing_errors
    def show(self, run: str, drawing: Any, z: np.ndarray, *sliders: float) -> tuple:
        """Handles the sliders, which set the first dimensions of z: the new z and its picture."""
        if not z.size:
            return z, None
        z = np.array([*sliders, *z[len(sliders) :]], np.float32)[: len(z)]
        return z, session.translated(self.models[run], _picture(drawing), z)

    @_showing_errors
    def take(self, run: str, drawing: Any, latents: np.ndarray, chosen: gr.SelectData) -> tuple:
        """Handles a click on a sample: its latent, as z and on the sliders, and its picture."""
        return self._with_latent(run, drawing, latents[chosen.index])

    @_showing_errors
    def imitate(self, run: str, drawing: Any, style: str) -> tuple:
        """Handles an uploaded style image: its latent, as z and on the sliders, and its picture."""
        model = self.models[run]
        return self._with_latent(run, drawing, session.encoded(model, _read(style, model, "target")))

    def _with_latent(self, run: str, drawing: Any, z: np.ndarray) -> tuple:
        if not z.size:
            return z, *[0.0] * len(self.sliders), None
        sliders = [round(float(np.clip(number, -REACH, REACH)), 2) for number in z[:SLIDERS]]
        return z, *sliders, *[0.0] * (len(self.sliders) - len(sliders)), session.translated(self.models[run], _picture(drawing), z)

    @_showing_errors
    def go(self, run: str, drawing: Any, latents: np.ndarray | None, start: int, end: int, steps: int) -> gr.Gallery:
        """Handles "Walk": the pictures on the way from one sample to another."""
        if latents is None:
            raise ConfigError("there are no samples yet: draw something first")
        start, end = _whole(start, "From sample", 1), _whole(end, "to sample", 1)
        if max(start, end) > len(latents):
            raise ConfigError(f"there is no sample {max(start, end)}: there are samples 1 to {len(latents)}")
        between = session.between(latents[start - 1], latents[end - 1], steps)
        return gr.Gallery([session.translated(self.models[run], _picture(drawing), z) for z in between], visible=True)

    def choose(self, run: str) -> tuple:
        """Handles a change of the run: updates brush and sliders, and clears the pictures of the last run."""
        model = self.models[run]
        zeros = np.zeros(model.networks.latent_dim, np.float32)
        sliders = [gr.Slider(value=0, visible=i < model.networks.latent_dim) for i in range(len(self.sliders))]
        style = gr.UploadButton(visible=has_encoder(model.config))
        examples = self.drawings[run]
        canvas = gr.ImageEditor(examples[0] if examples else None, brush=_brush(model))
        known = _title(run, model), examples, gr.Column(visible=bool(examples))
        emptied = None, None, gr.Gallery(None, visible=False), None
        return *known, canvas, gr.Column(visible=model.networks.latent_dim > 0), style, *emptied, zeros, *sliders

    def begin(self, run: str, *options: Any) -> tuple:
        """Handles the opening of the page: the translations of the first example, which is on the canvas."""
        examples = self.drawings[run]
        return self.follow(run, {"composite": examples[0]} if examples else None, *options)

    def take_example(self, run: str, chosen: gr.SelectData) -> session.Picture:
        """Handles a click on an example: its picture."""
        return self.drawings[run][chosen.index]


def _heading(text: str) -> None:
    """A line above a component, whose own label would cover its pictures."""
    gr.Markdown(text)


def _title(run: str, model: Model) -> str:
    """The title of the page and one sentence on what to do, as Markdown."""
    subject, (height, width) = drawings.subject(model.config, name=Path(run).name), sides(model.config.data.crop_size)
    text = f"{subject.instruction} ({Path(run).name}: {model.config.objective}, {width} × {height} pixels)"
    return f"# {html.escape(subject.title)}\n{html.escape(text)}"


def _brush(model: Model) -> gr.Brush:
    """A brush with the line width of `shapes` and the colours of the run's inputs."""
    return gr.Brush(default_size=12, colors=session.colours(model.config))


def _read(upload: str, model: Model, side: Literal["input", "target"]) -> session.Picture:
    """An uploaded picture; the page warns about values that are clipped to the run's range."""
    with values.counting() as counts:
        input_labels = labels.of_config(model.config.data) if side == "input" else None
        picture = session.read(upload, values.of_config(model.config.data, side), input_labels=input_labels)
    for message in values.clipped(counts):
        gr.Warning(message)
    return picture


def _whole(number: int | None, label: str, least: int) -> int:
    """The number in a field. Raises ConfigError if it is empty."""
    if number is None:
        raise ConfigError(f"{label} is empty: type a whole number, at least {least}")
    return number


def _is_empty(drawing: Any) -> bool:
    """Whether nothing is on the canvas: it has one colour only."""
    return drawing is None or drawing["composite"] is None or not np.ptp(drawing["composite"], axis=(0, 1)).any()


def _picture(drawing: Any) -> session.Picture:
    if drawing is None or drawing["composite"] is None:
        raise ConfigError("there is no input: draw one, or upload an image")
    return drawing["composite"]
