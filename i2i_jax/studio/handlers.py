"""What the page of the studio answers to the events of its components."""

import base64
import functools
import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import gradio as gr  # pyright: ignore[reportMissingImports]
import numpy as np

from i2i_jax.config import ConfigError, has_encoder, sides
from i2i_jax.data import labels, values
from i2i_jax.data.images import ImageError
from i2i_jax.inference import drawings
from i2i_jax.inference.model import Model
from i2i_jax.studio import session
from i2i_jax.studio.components import REACH

SLIDERS = 8  # dimensions of z that have a slider, at most

Latents = np.ndarray | None  # of the samples


def showing_errors(handler: Callable) -> Callable:
    """Shows errors about uploads and options in the page."""

    @functools.wraps(handler)
    def wrapped(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except (ImageError, ConfigError) as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from None

    return wrapped


class Handlers:
    """The handlers; `run` is always the name of the chosen run, `drawing` the picture on the canvas as a data URL, and z its latent."""

    def __init__(self, models: Mapping[str, Model]):
        self.models = models
        # Read once, not at every visit.
        self.examples = {name: session.examples(model.config) for name, model in models.items()}
        self.settings = {name: session.settings(model.config) for name, model in models.items()}
        self.sliders = min(SLIDERS, max(model.networks.latent_dim for model in models.values()))

    def title(self, run: str) -> str:
        """The title of the page and one sentence on what to do, as Markdown."""
        config, name = self.models[run].config, Path(run).name
        subject, (height, width) = drawings.subject(config, name=name, kind=self.settings[run]["kind"]), sides(config.data.crop_size)
        text = f"{subject.instruction} ({name}: {config.objective}, {width} × {height} pixels)"
        return f"# {html.escape(subject.title)}\n{html.escape(text)}"

    def first_drawing(self, run: str) -> str | None:
        """The first example as the canvas shows it, if the run has examples."""
        return session.url(self.examples[run][0]) if self.examples[run] else None

    @showing_errors
    def read(self, run: str, upload: str) -> str:
        """Answers to an uploaded input: the drawing. The page warns if it is squeezed into the size of training."""
        picture = _read(upload, model := self.models[run], "input")
        if squeezed := session.squeezed(Path(upload).name, picture, model.config):
            gr.Warning(html.escape(squeezed))
        return session.url(picture)

    @showing_errors
    def follow(self, run: str, drawing: str, number: int, seed: int, z: list[float]) -> tuple:
        """Answers to a stroke: the samples, their latents, which were clicked (none), the pad and the picture of z."""
        picture, model = session.drawn(drawing), self.models[run]
        if not np.ptp(picture, axis=(0, 1)).any():  # nothing is drawn yet
            return None, None, [], self._pad(None, z), None
        latents = session.latents(model, seed=_whole(seed, "Seed", 0), number=_whole(number, "Samples", 1))
        samples = gr.Gallery(_numbered(session.samples(model, picture, latents, seed=seed)), selected_index=None)
        return samples, latents, [], self._pad(latents, z), session.translated(model, picture, np.array(z, np.float32)) if z else None

    @showing_errors
    def show(self, run: str, drawing: str, latents: Latents, z: list[float], *sliders: float) -> tuple:
        """Answers to a slider: z, of which it changes one number, its picture and the pad."""
        z = [now if now != shown else exact for exact, shown, now in zip(z, _on_sliders(z), sliders, strict=False)] + z[len(sliders) :]
        return z, self._translated(run, drawing, z), self._pad(latents, z)

    @showing_errors
    def point(self, run: str, drawing: str, pad: dict[str, Any]) -> tuple:
        """Answers to a click on the pad: z, its picture and the sliders."""
        z = [float(number) for number in pad["z"]]
        return z, self._translated(run, drawing, z), *self._on_all_sliders(z)

    @showing_errors
    def take(self, run: str, drawing: str, latents: np.ndarray, clicked: list[int], chosen: gr.SelectData) -> tuple:
        """Answers to a click on a sample: which two were clicked last, its latent as z, its picture, the pad and the sliders."""
        clicked = [*(index for index in clicked[-1:] if index != chosen.index), chosen.index]
        return clicked, *self._with_latent(run, drawing, latents, latents[chosen.index])

    @showing_errors
    def imitate(self, run: str, drawing: str, latents: Latents, style: str) -> tuple:
        """Answers to an uploaded style image: its latent as z, its picture, the pad and the sliders."""
        model = self.models[run]
        return self._with_latent(run, drawing, latents, session.encoded(model, _read(style, model, "target")))

    @showing_errors
    def walk(self, run: str, drawing: str, latents: Latents, clicked: list[int], steps: int) -> tuple:
        """Answers to a second clicked sample: what to do next, the film and the pictures on the way to it from the first."""
        note = _walk_note(0 if latents is None else len(latents), [index + 1 for index in clicked])
        if latents is None or len(clicked) < 2:
            return note, gr.Row(visible=False), None, None
        start, end = clicked
        z = session.between(latents[start], latents[end], _whole(steps, "Pictures", 2))
        pictures = session.samples(self.models[run], session.drawn(drawing), z, seed=0)
        return note, gr.Row(visible=True), _film(pictures, start + 1, end + 1), _numbered(pictures)

    def fresh(self, run: str) -> tuple:
        """Answers to the choice of a run: its first drawing, and z."""
        return self.first_drawing(run), [0.0] * self.models[run].networks.latent_dim

    def fit(self, run: str, z: list[float]) -> tuple:
        """What the page shows of a run: title, examples, whether there are any, latent, pad and style button, and the sliders."""
        model, size = self.models[run], self.models[run].networks.latent_dim
        seen = gr.Column(visible=bool(self.examples[run])), gr.Column(visible=size > 0), gr.HTML(visible=size == 2)
        sliders = [gr.Slider(value=value, visible=i < size) for i, value in enumerate(self._on_all_sliders(z))]
        return self.title(run), self.examples[run], *seen, gr.UploadButton(visible=has_encoder(model.config)), *sliders

    def take_example(self, run: str, chosen: gr.SelectData) -> str:
        """Answers to a click on an example: its drawing."""
        return session.url(self.examples[run][chosen.index])

    def _translated(self, run: str, drawing: str, z: list[float]) -> session.Output:
        return session.translated(self.models[run], session.drawn(drawing), np.array(z, np.float32))

    def _with_latent(self, run: str, drawing: str, latents: Latents, z: session.Z) -> tuple:
        numbers = [float(number) for number in z]
        picture = self._translated(run, drawing, numbers) if numbers else None
        return numbers, picture, self._pad(latents, numbers), *self._on_all_sliders(numbers)

    def _on_all_sliders(self, z: list[float]) -> list[float]:
        shown = _on_sliders(z)[: self.sliders]
        return shown + [0.0] * (self.sliders - len(shown))

    def _pad(self, latents: Latents, z: list[float]) -> dict[str, Any]:
        return {"samples": [] if latents is None or len(z) != 2 else np.clip(latents, -REACH, REACH).tolist(), "z": _on_sliders(z)}


def _numbered(pictures: list[session.Output]) -> list[tuple[session.Output, str]]:
    return [(picture, str(index)) for index, picture in enumerate(pictures, 1)]


def _on_sliders(z: list[float]) -> list[float]:
    return [round(min(max(number, -REACH), REACH), 2) for number in z[:SLIDERS]]


def _walk_note(samples: int, clicked: list[int]) -> str:
    if samples < 2:
        return "There is only sample 1: set *Samples* to 2 or more." if samples else "There are no samples yet: draw something."
    if len(clicked) < 2:
        start = f"From sample {clicked[0]}: click another" if clicked else "Click one sample, then another"
        return f"{start} of the samples 1 to {samples}, and the pictures on the way play here."
    return f"From sample {clicked[0]} to sample {clicked[1]}, and back. Click another sample to walk on."


def _film(pictures: list[session.Output], start: int, end: int) -> str:
    address = "data:image/webp;base64," + base64.b64encode(session.film(pictures)).decode()
    image = f'<img src="{address}" alt="A film that leads from sample {start} to sample {end} and back">'
    return f'{image}<a href="{address}" download="walk-{start}-{end}.webp">Save the film</a>'


def _read(upload: str, model: Model, side: Literal["input", "target"]) -> session.Picture:
    """An uploaded picture; the page warns about values that are clipped to the run's range."""
    with values.counting() as counts:
        input_labels = labels.of_config(model.config.data) if side == "input" else None
        picture = session.read(upload, values.of_config(model.config.data, side), input_labels=input_labels)
    for message in values.clipped(counts):
        gr.Warning(message)
    return picture


def _whole(number: int | None, label: str, least: int) -> int:
    """The number in a field. Raises ConfigError if it is empty or too small."""
    if number is None or number < least:
        raise ConfigError(f"{label} is {'empty' if number is None else number}: type a whole number, at least {least}")
    return number
