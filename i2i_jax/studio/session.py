"""What the studio computes: translations and latents of pictures, by a trained model. The web page is in studio/page.py."""

from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image

from i2i_jax import build, sampling
from i2i_jax.config import Config, ConfigError, has_encoder, sides
from i2i_jax.data import images, labels, loader, values
from i2i_jax.data.values import BY_TYPE, Scale
from i2i_jax.inference import drawings, translation
from i2i_jax.inference.model import Model, load
from i2i_jax.pages import grids

MAX_PIXELS = 25_000_000  # larger uploads are refused
MAX_SIDE = 1024  # pixels; larger uploads are shrunk to this
CANVAS = 448  # height and width of an empty canvas in pixels
INK = ["#000000"]
EXAMPLES = 4

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
    samples(model, blank, seed=0, number=1)
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


def colours(config: Config) -> list[str]:
    """The colours to draw inputs with: those of the labels if the inputs are label maps, else black."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in labels.drawn_classes(config.data).values()] or INK


def examples(config: Config) -> list[Picture]:
    """At most EXAMPLES inputs to begin with: drawn by this package, else from the folder of the run's pairs, if it is there."""
    if drawn := drawings.examples(config, EXAMPLES):
        return [_enlarged(drawing) for drawing in drawn]
    if config.data.name != "folder" or not config.data.path:
        return []
    try:
        pairs = build.pairs(config, "val")
        inputs = [pairs[index].input for index in range(min(EXAMPLES, len(pairs)))]
    except (ValueError, OSError):  # the folder has moved or changed since: there is nothing to begin with
        return []
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
        number: how many; the first latents are the same for every `number`.

    Returns:
        The latents; d is 0 for a model without latent.
    """
    return np.asarray(translation.synced(model.networks, samples=number, seed=seed))


def samples(model: Model, picture: Picture, *, seed: int, number: int) -> list[Output]:
    """`number` random translations of a picture, which differ by their latents or, if the model has none, by dropout."""
    if model.networks.latent_dim:
        return [translated(model, picture, z) for z in latents(model, seed=seed, number=number)]
    resized = _resized_input(picture, model.config)
    return [_in_proportion(_shown(model(resized, seed=seed + i)[0], model.config), picture) for i in range(number)]


def translated(model: Model, picture: Picture, z: Z) -> Output:
    """Translates a picture with the latent `z`. The result has its proportions and the size of training (the shorter side)."""
    return _in_proportion(_shown(model(_resized_input(picture, model.config), z=z)[0], model.config), picture)


def encoded(model: Model, target: Picture) -> Z:
    """Encodes a target to its latent.

    Raises:
        ConfigError: if the model has no encoder.
    """
    return model.encode(_resized(target, model.config, "target"))


def between(start: Z, end: Z, number: int) -> Float[np.ndarray, "n d"]:
    """Interpolates spherically between two latents; the `number` results include both."""
    fractions = jnp.linspace(0, 1, number)
    return np.asarray(jax.vmap(sampling.slerp, (None, None, 0))(jnp.asarray(start), jnp.asarray(end), fractions))


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
