"""What the studio computes: translations and latents of pictures, by a trained model. The web page is in studio/page.py."""

import base64
import io
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image

from i2i_jax import sampling
from i2i_jax.config import WITHOUT_LATENT, Config, ConfigError, has_encoder, sides
from i2i_jax.data import images, labels, loader, values
from i2i_jax.data.values import BY_TYPE, Scale
from i2i_jax.inference import drawings, image_files, translation
from i2i_jax.inference.model import Model, load
from i2i_jax.pages import grids

MAX_PIXELS = 25_000_000  # larger uploads are refused
MAX_SIDE = 1024  # pixels; larger uploads are shrunk to this
CANVAS = 448  # longer side of an empty canvas in pixels
EXAMPLES = 4
MOST = 16  # samples at most
MOST_STEPS = 24  # pictures of a walk at most
SQUEEZED = 1.5  # ratio of proportions from which a warning is given
MILLISECONDS = 90  # a frame of a film

Picture = UInt8[np.ndarray, "h w 3"]
Resized = UInt8[np.ndarray, "new_h new_w 3"]
Output = UInt8[np.ndarray, "out_h out_w 3"]  # in the proportions of the input
Z = Float[np.ndarray, " d"]


def opened(run: str | Path) -> Model:
    """Loads a run and compiles its networks, so that the first picture takes no longer than the next ones.

    Args:
        run: the run's folder, a packed file, hf://USER/NAME, or the name of a model in the package.

    Raises:
        ConfigError: if `run` is not a run, or its images are neither grey nor RGB nor label maps; and whatever `load` raises.
    """
    model = load(run)
    data = model.config.data
    if not {3 if data.input_labels else data.input_channels, data.target_channels} <= {1, 3}:
        channels = f"{data.input_channels} and {data.target_channels} channels"
        raise ConfigError(f"{run}: its images have {channels}: the studio shows 1 (grey) or 3 (colour)")
    blank = np.full((*sides(data.crop_size), 3), 255, np.uint8)
    z = latents(model, seed=0, number=2)
    samples(model, blank, z[:1], seed=0)
    if z.size:
        between(*z, number=2)
    if has_encoder(model.config):
        encoded(model, blank)
    return model


def read(path: str | Path, scale: Scale = BY_TYPE, *, input_labels: labels.Labels | None = None) -> Picture:
    """Reads an uploaded file as RGB, shrunk to at most MAX_SIDE pixels.

    Args:
        path: the file.
        scale: which values become 0 and 255.
        input_labels: if the file is a label map, how it stores classes; the picture then has their colours.

    Raises:
        ImageError: if the file is not an image or not such a label map, or has more than MAX_PIXELS pixels, which is found first.
    """
    upload = Path(path)
    pixels = images.read(upload.read_bytes(), channels=3, max_pixels=MAX_PIXELS, name=upload.name, labels=input_labels, scale=scale)
    return _shrunk(input_labels.painted(pixels) if input_labels else values.to_8_bits(pixels), input_labels)


def _shrunk(pixels: Picture, input_labels: labels.Labels | None) -> Resized:
    """The picture, with at most MAX_SIDE pixels a side."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.NEAREST if input_labels else Image.Resampling.BICUBIC)
    return np.asarray(picture)


def drawn(url: str | None) -> Resized:
    """The picture on the canvas, from the data URL that the page sends.

    Raises:
        ConfigError: if there is none.
        ImageError: if it is no PNG file, or larger than uploads are shrunk to.
    """
    form, _, content = (url or "").partition(",")
    if form != "data:image/png;base64":
        raise ConfigError("there is no input: draw one, or upload an image")
    return images.read(base64.b64decode(content), channels=3, max_pixels=MAX_SIDE**2, name="the drawing")


def url(picture: Picture) -> str:
    """The picture as a data URL, which the canvas shows."""
    return "data:image/png;base64," + base64.b64encode(image_files.encode(picture)).decode()


def squeezed(name: str, picture: Picture, config: Config) -> str:
    """One line that says so if the picture has other proportions than the networks' inputs; else empty."""
    (height, width, _), (net_height, net_width) = picture.shape, sides(config.data.crop_size)
    ratio = (width / height) / (net_width / net_height)
    if config.data.resize != "square" or 1 / SQUEEZED < ratio < SQUEEZED:
        return ""
    side, factor = ("wide", ratio) if ratio > 1 else ("high", 1 / ratio)
    return (
        f"{name} is {factor:.1f} times too {side} for this model: it is squeezed to {net_width} × {net_height} pixels, and translations "
        "are stretched back; a cropped picture gives better ones"
    )


def settings(config: Config) -> dict[str, Any]:
    """What the canvas must know of a run: what inputs are, the brushes (the first is the background's), sizes in pixels, numbers of z."""
    kind, brushes = drawings.brushes(config, drawings.inputs(config))
    height, width = sides(config.data.crop_size)
    scale = CANVAS / max(height, width)
    return {
        "kind": kind,
        "brushes": [{"name": name, "colour": colour} for name, colour in brushes.items()],
        "line": round(scale * drawings.line_width(config)),
        "height": round(scale * height),
        "width": round(scale * width),
        "latent": 0 if config.objective in WITHOUT_LATENT else config.model.latent_dim,
    }


def examples(config: Config) -> list[Picture]:
    """At most EXAMPLES inputs to begin with: drawn by this package, else from the folder of the run's pairs, if it is there."""
    if drawn := drawings.examples(config, EXAMPLES):
        return [_enlarged(drawing) for drawing in drawn]
    inputs = drawings.own_inputs(config, "val", lambda count: range(min(EXAMPLES, count)))
    input_labels = labels.of_config(config.data)
    return [_shrunk(input_labels.painted(pixels) if input_labels else grids.to_rgb8(pixels), input_labels) for pixels in inputs]


def _enlarged(drawing: Picture) -> Resized:
    """The drawing by a whole factor larger, up to the size of an empty canvas, so that the brush is as thick on both."""
    factor = max(1, CANVAS // max(drawing.shape[:2]))
    return drawing.repeat(factor, 0).repeat(factor, 1)


def latents(model: Model, *, seed: int, number: int) -> Float[np.ndarray, "n d"]:
    """The latents that `samples` uses, the same as in `translate --sync`.

    Args:
        model: the model.
        seed: seed of the latents.
        number: how many, at most MOST; the first latents are the same for every `number`.

    Returns:
        The latents; d is 0 for a model without latent.
    """
    return np.asarray(translation.synced(model.networks, samples=MOST, seed=seed))[:number]


def samples(model: Model, picture: Picture, z: Float[np.ndarray, "n d"], *, seed: int) -> list[Output]:
    """The translations of a picture with several latents; without latents (d = 0) they differ by dropout, which the seed draws.

    Each has the picture's proportions and the size of training (the shorter side).
    """
    resized = _resized_input(picture, model.config)
    if not model.networks.latent_dim:
        return [_in_proportion(_shown(model(resized, seed=seed + i)[0], model.config), picture) for i in range(len(z))]
    return [_in_proportion(_shown(model(resized, z=latent)[0], model.config), picture) for latent in z]


def translated(model: Model, picture: Picture, z: Z) -> Output:
    """The translation of a picture with the latent `z`, like one of `samples`."""
    return samples(model, picture, z[None], seed=0)[0]


def encoded(model: Model, target: Picture) -> Z:
    """Encodes a target to its latent.

    Raises:
        ConfigError: if the model has no encoder.
    """
    return model.encode(_resized(target, model.config, "target"))


def between(start: Z, end: Z, number: int) -> Float[np.ndarray, "n d"]:
    """Interpolates spherically between two latents; the `number` results, at most MOST_STEPS, include both."""
    fractions = np.resize(np.linspace(0, 1, number, dtype=np.float32), MOST_STEPS)  # always as many: compiled once
    return np.asarray(_slerps(start, end, fractions))[:number]


_slerps = jax.jit(jax.vmap(sampling.slerp, (None, None, 0)))


def film(pictures: list[Output]) -> bytes:
    """An animated WebP file that shows pictures of one size forth and back."""
    first, *others = map(Image.fromarray, [*pictures, *pictures[-2:0:-1]])
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=others, duration=MILLISECONDS, loop=0, quality=90)
    return file.getvalue()


def _resized_input(picture: Picture, config: Config) -> Num[np.ndarray, "_h _w c"]:
    """Resizes an input as `_resized` does; a picture in the colours of classes becomes one channel for each class."""
    input_labels = labels.of_config(config.data)
    if input_labels is None:
        return _resized(picture, config, "input")
    resized = loader.resize_labels(picture, sides(config.data.crop_size)) if config.data.resize == "square" else picture
    return input_labels.of_drawing(resized)


def _resized(picture: Picture, config: Config, side: Literal["input", "target"]) -> Num[np.ndarray, "_h _w c"]:
    """Resizes a picture to the size of training, so that the networks are compiled for one size only; in the units of the run's files.

    Models that keep the proportions of their images (`data.resize`) get the picture as it is.
    """
    resized = loader.resize(picture, sides(config.data.crop_size)) if config.data.resize == "square" else picture
    if getattr(config.data, f"{side}_channels") == 1:
        resized = np.asarray(Image.fromarray(resized).convert("L"))[..., None]
    scale = values.of_config(config.data, side)
    return resized if scale.low is None else scale.restored(values.to_floats(resized), "float32")


def _shown(output: np.ndarray, config: Config) -> UInt8[np.ndarray, "_h _w c"]:
    """A translation, in the units of the run's files, as 8 bits."""
    return values.to_8_bits(values.of_config(config.data, "target").applied(output))


def _in_proportion(square: UInt8[np.ndarray, "_h _w c"], picture: Picture) -> Output:
    """Resizes an output to the proportions of the picture."""
    height, width, _ = picture.shape
    scale = min(min(square.shape[:2]) / min(height, width), MAX_SIDE / max(height, width))
    image = Image.fromarray(square.squeeze(2) if square.shape[2] == 1 else square).convert("RGB")
    return np.asarray(image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC))
