"""What the studio does with a trained model: pictures in, latents, pictures out. Its page is in commands/studio_page.py."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from i2i_jax import sampling
from i2i_jax.config import Config, ConfigError, has_encoder
from i2i_jax.data import images, loader
from i2i_jax.data.palettes import PALETTES
from i2i_jax.inference import translation
from i2i_jax.inference.model import Model, load
from i2i_jax.pages import grids

MAX_PIXELS = 25_000_000  # of an upload
MAX_SIDE = 1024  # to which an upload is made smaller
INK = ["#000000"]

Picture = UInt8[np.ndarray, "h w 3"]
Made = UInt8[np.ndarray, "made_h made_w 3"]  # in a picture's proportions
Z = Float[np.ndarray, " d"]


def opened(run: str | Path) -> Model:
    """The newest networks of a run, warm: the first picture takes no longer than the next. Raises as `load` does."""
    model = load(run)
    data = model.config.data
    if not {data.input_channels, data.target_channels} <= {1, 3}:
        found = f"{data.input_channels} and {data.target_channels} channels"
        raise ConfigError(f"{run}: its images have {found}: the studio shows 1 (grey) or 3 (colour)")
    blank = np.full((data.crop_size, data.crop_size, 3), 255, np.uint8)
    samples(model, blank, seed=0, number=1)
    if has_encoder(model.config):
        encoded(model, blank)
    return model


def read(path: str | Path) -> Picture:
    """An uploaded file, in colour. Raises ImageError; where there are too many pixels, before it is decoded."""
    upload = Path(path)
    pixels = images.read(upload.read_bytes(), channels=3, max_pixels=MAX_PIXELS, name=upload.name)
    picture = Image.fromarray(grids.to_8_bits(pixels))
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def colours(config: Config) -> list[str]:
    """To draw inputs with: those of the label maps where the run was trained on such, else ink."""
    data = config.data
    if data.name not in PALETTES or data.direction != "BtoA":
        return INK
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in PALETTES[data.name].classes.values()]


def latents(model: Model, *, seed: int, number: int) -> Float[np.ndarray, "n d"]:
    """The z of `samples`, which are those of `translate --sync`; the first ones are the same for every `number`."""
    return np.asarray(translation.synced(model.networks, samples=number, seed=seed))


def samples(model: Model, picture: Picture, *, seed: int, number: int) -> list[Made]:
    """Random translations of a picture, by its latents or, where the model has none, by dropout."""
    if model.networks.latent_dim:
        return [translated(model, picture, z) for z in latents(model, seed=seed, number=number)]
    given = _fitted(picture, model.config, model.config.data.input_channels)
    return [_in_proportion(model(given, seed=seed + i)[0], picture) for i in range(number)]


def translated(model: Model, picture: Picture, z: Z) -> Made:
    """A picture's translation by `z`: in its proportions, the shorter side as long as in training."""
    return _in_proportion(model(_fitted(picture, model.config, model.config.data.input_channels), z=z)[0], picture)


def encoded(model: Model, target: Picture) -> Z:
    """The latent of what a target looks like. Raises ConfigError where the model has no encoder."""
    return model.encode(_fitted(target, model.config, model.config.data.target_channels))


def between(start: Z, end: Z, number: int) -> Float[np.ndarray, "n d"]:
    """The latents on the way from one to another, both included."""
    shares = jnp.linspace(0, 1, number)
    return np.asarray(jax.vmap(sampling.slerp, (None, None, 0))(jnp.asarray(start), jnp.asarray(end), shares))


def _fitted(picture: Picture, config: Config, channels: int) -> UInt8[np.ndarray, "s s c"]:
    """The square that the networks were trained on: one size, so that nothing is compiled anew."""
    square = loader.resize(picture, config.data.crop_size)
    return np.asarray(Image.fromarray(square).convert("L"))[..., None] if channels == 1 else square


def _in_proportion(made: UInt8[np.ndarray, "s s c"], picture: Picture) -> Made:
    height, width, _ = picture.shape
    scale = min(len(made) / min(height, width), MAX_SIDE / max(height, width))
    image = Image.fromarray(made.squeeze(2) if made.shape[2] == 1 else made).convert("RGB")
    return np.asarray(image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC))
