"""The web page of the studio: its layout, and which handler answers to which event."""

import secrets
from collections.abc import Mapping
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]
from gradio import processing_utils  # pyright: ignore[reportMissingImports]
from PIL import Image

from i2i_jax.config import has_encoder
from i2i_jax.data.images import EXTENSIONS
from i2i_jax.inference.model import Model
from i2i_jax.studio import components, handlers, session
from i2i_jax.studio.components import REACH

LAUNCH: dict[str, Any] = {
    "theme": gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    "css": components.STYLE, "footer_links": [], "run_history": False, "quiet": True, "prevent_thread_lock": True,
    "share": False, "ssr_mode": False, "mcp_server": False, "num_workers": 0, "enable_monitoring": False, "state_session_capacity": 100,
}  # fmt: skip

# One event that computes or decodes images runs at a time. A clock shows how long it takes.
ALONE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "networks", "show_progress": "minimal", "api_visibility": "private"}
LATEST: dict[str, Any] = ALONE | {"trigger_mode": "always_last"}

PICTURES: dict[str, Any] = {"format": "png", "object_fit": "contain", "allow_preview": False, "show_label": False}  # of a gallery

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
        Page(models)
    return blocks.queue(api_open=False, max_size=64)


class Page:
    """The components of the page, which work on the chosen run.

    Invisible ones hold the state of a session: `z`, the latent of the picture; the samples' `latents`; the last two `clicked` samples.
    """

    def __init__(self, models: Mapping[str, Model]):
        self.handlers = handlers.Handlers(models)
        name, first = next(iter(models.items()))
        self.title = gr.Markdown(self.handlers.title(name))
        self.run = gr.Dropdown(list(models), label="Run", visible=len(models) > 1)
        with gr.Row():
            with gr.Column(scale=2, min_width=360, elem_id="input"):
                self._lay_out_input(name)
            with gr.Column(scale=3, min_width=360, elem_id="output"):
                self._lay_out_samples()
                with gr.Column(visible=first.networks.latent_dim > 0, elem_id="with-latent") as self.with_latent:
                    self._lay_out_latent(first)
                    self._lay_out_walk()
        self._connect_drawing()
        self._connect_latent()

    def _lay_out_input(self, name: str) -> None:
        examples = self.handlers.examples[name]
        self.canvas = components.canvas(self.handlers.settings, self.handlers.first_drawing(name))
        with gr.Column(elem_id="options"):
            with gr.Column(visible=bool(examples)) as self.with_examples:
                _heading("**Examples:** click one.")
                self.examples = gr.Gallery(examples, columns=session.EXAMPLES, height=140, buttons=[], elem_id="examples", **PICTURES)
            self.upload = gr.UploadButton("Upload an image", file_types=list(EXTENSIONS), size="sm")

    def _lay_out_samples(self) -> None:
        self.latents, self.clicked = gr.State(), gr.State([])
        _heading("**Samples:** different answers to the same drawing. Click one to change it below.")
        self.samples = gr.Gallery(columns=4, elem_id="samples", buttons=["download_all", "fullscreen"], **PICTURES)
        with gr.Row():
            self.number = gr.Slider(1, session.MOST, value=8, step=1, label="Samples", info="How many answers", scale=2, min_width=180)
            self.seed = gr.Number(
                0, label="Seed", info="Draws the samples' latents", precision=0, minimum=0, maximum=2**31 - 1, min_width=120
            )
            self.another = gr.Button("Another seed", variant="primary", min_width=120)

    def _lay_out_latent(self, first: Model) -> None:
        size = first.networks.latent_dim
        self.z = gr.JSON([0.0] * size, visible=False)
        _heading("**One answer:** each comes from a few random numbers, its latent z. Move them, and the answer changes.")
        with gr.Row():
            self.picture = gr.Image(
                format="png", interactive=False, buttons=["download", "fullscreen"], height=320, elem_id="picture", show_label=False
            )
            with gr.Column(elem_id="sliders"):
                self.pad = components.pad(visible=size == 2)
                self.sliders = [
                    gr.Slider(-REACH, REACH, value=0, step=0.01, label=f"z{i + 1}", visible=i < size) for i in range(self.handlers.sliders)
                ]
                visible = has_encoder(first.config)
                self.style = gr.UploadButton("Use the style of an image", file_types=list(EXTENSIONS), size="sm", visible=visible)

    def _lay_out_walk(self) -> None:
        _heading("**Walk:** what lies between two answers.")
        self.note = gr.Markdown(elem_id="walk-note")
        with gr.Row(visible=False) as self.walked:
            with gr.Column(min_width=200):
                self.film = gr.HTML(elem_id="film")
                self.steps = gr.Slider(3, session.MOST_STEPS, value=12, step=1, label="Pictures", info="With both ends")
            self.between = gr.Gallery(columns=4, elem_id="between", scale=2, buttons=["download_all", "fullscreen"], **PICTURES)

    def _connect_drawing(self) -> None:
        answers, page = self.handlers, [self.run, self.number, self.seed, self.z]
        canvas = {"fn": None, "inputs": self.canvas, "js": "(drawing) => { if (drawing) return window.studio.open(drawing) }"}
        fitting = {
            "fn": answers.fit, "inputs": [self.run, self.z], "show_progress": "hidden", "api_visibility": "private",
            "outputs": [self.title, self.examples, self.with_examples, self.with_latent, self.pad, self.style, *self.sliders],
        }  # fmt: skip
        following = {
            "fn": answers.follow, "inputs": [self.run, self.canvas, self.number, self.seed, self.z],
            "outputs": [self.samples, self.latents, self.clicked, self.pad, self.picture], "show_progress_on": self.samples, **LATEST,
        }  # fmt: skip
        restored = self.canvas.submit(None, page, page, js="(...options) => window.studio.restored(options)")
        fresh = self.run.input(None, self.run, js="(run) => window.studio.choose(run)").then(answers.fresh, self.run, [self.canvas, self.z])
        uploaded = self.upload.upload(answers.read, [self.run, self.upload], self.canvas, **ALONE)
        example = self.examples.select(answers.take_example, self.run, self.canvas, show_progress="hidden")
        ready = [
            restored.then(**fitting), fresh.then(**fitting).then(**canvas), uploaded.success(**canvas), example.then(**canvas),
            self.another.click(lambda: secrets.randbelow(10_000), None, self.seed, show_progress="hidden"),
        ]  # fmt: skip
        followed = [event.then(**following) for event in ready]
        followed += [changed(**following) for changed in (self.canvas.input, self.number.input, self.seed.input)]
        for event in followed:
            event.success(**self._walking())
        kept = [component.change for component in page]
        gr.on(kept, None, page, js="(...options) => { window.studio?.keep(...options) }", show_progress="hidden")

    def _connect_latent(self) -> None:
        answers, inputs, shown = self.handlers, [self.run, self.canvas], {"show_progress_on": self.picture}
        latent = [self.z, self.picture, self.pad, *self.sliders]
        for slider in self.sliders:
            slider.input(answers.show, [*inputs, self.latents, self.z, *self.sliders], [self.z, self.picture, self.pad], **shown, **LATEST)
        self.pad.input(answers.point, [*inputs, self.pad], [self.z, self.picture, *self.sliders], **shown, **LATEST)
        taken = self.samples.select(answers.take, [*inputs, self.latents, self.clicked], [self.clicked, *latent], **shown, **ALONE)
        taken.success(**self._walking())
        self.steps.input(**self._walking())
        self.style.upload(answers.imitate, [*inputs, self.latents, self.style], latent, **shown, **ALONE)

    def _walking(self) -> dict[str, Any]:
        return {
            "fn": self.handlers.walk, "inputs": [self.run, self.canvas, self.latents, self.clicked, self.steps],
            "outputs": [self.note, self.walked, self.film, self.between], "show_progress_on": self.note, **LATEST,
        }  # fmt: skip


def _heading(text: str) -> None:
    """A line above a component, whose own label would cover its pictures."""
    gr.Markdown(text)
