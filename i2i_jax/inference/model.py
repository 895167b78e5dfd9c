"""A trained model from Python: NumPy images in, NumPy images out."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import PIL.Image
from jaxtyping import Float, Shaped

from i2i_jax import build, models, sampling
from i2i_jax.config import Config, ConfigError, DataConfig
from i2i_jax.data import augment, images, loader
from i2i_jax.data.images import ImageError
from i2i_jax.train_state import TrainState

Image = np.ndarray | jax.Array | PIL.Image.Image | str | Path  # [h, w, c], or a file of one
Images = Image | Sequence[Image]  # or [b, h, w, c]


def load(path: str | Path, *, step: int | Literal["best"] | None = None) -> "Model":
    """The model of a run (its folder, packed in a file, or hf://USER/NAME) at `step` (default: the newest).

    Raises ConfigError, CheckpointError, PackedError or HubError.
    """
    game, state = build.load(path, step=step)
    return Model(build.read_config(path), game.networks, state)


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """Translates images of any size: one, [h, w, c], or many of one size, [b, h, w, c] or a list.

    An image is an array (uint8 or uint16, which give uint8, or floats in [-1, 1], which give floats), an image of Pillow's or the
    path of a file.

    >>> import numpy as np
    >>> from i2i_jax import load
    >>> model = load("runs/bicycle-shapes")
    >>> image = np.full((100, 70, 3), 255, np.uint8)
    >>> images = model(image, n=5, seed=0)
    >>> images.shape, images.dtype
    ((5, 100, 70, 3), dtype('uint8'))
    >>> batch = np.zeros((2, 64, 64, 3))
    >>> images = model(batch, n=5, seed=0)
    >>> images.shape, images.dtype
    ((2, 5, 64, 64, 3), dtype('float32'))
    >>> import PIL.Image
    >>> drawing = PIL.Image.new("RGB", (70, 100), "white")
    >>> model([drawing, drawing]).shape
    (2, 1, 100, 70, 3)
    """

    config: Config
    networks: models.Networks
    state: TrainState

    def __call__(
        self, inputs: Images, n: int | None = None, *, z: Float[np.ndarray, "... d"] | None = None, seed: int = 0
    ) -> Shaped[np.ndarray, "... n h w c"]:
        """`n` translations of each input (default: one), each with a latent of its own, which is drawn.

        What becomes of an input depends on its pixels, its place and the seed alone. A model without latent translates with other
        dropout each time, if that is the run's mode. Instead of `n`, `z` says which latents all inputs get, [d] or [n, d], or each
        of them, [b, n, d]. Raises ImageError or ConfigError.
        """
        given = _array(inputs, self.config.data.input_channels, self.config.data)
        scaled = _scaled(given, self.config.data.input_channels)
        z_key, dropout_key = jax.random.split(jax.random.key(seed))
        latents = self._drawn(z_key, len(scaled), n) if z is None else self._given(z, len(scaled), n)
        made = np.asarray(self.translate(self.state, scaled, latents, dropout_key))
        return _like(given, made)

    def encode(self, targets: Images) -> Float[np.ndarray, "... d"]:
        """The mean latent of each target, [d] or [b, d]; it is resized to the square that the encoder was trained at.

        Raises ImageError, or ConfigError where the model has no encoder.

        >>> import numpy as np
        >>> from i2i_jax import load
        >>> model = load("runs/bicycle-shapes")
        >>> targets = np.zeros((3, 80, 80, 3), np.uint8)
        >>> model.encode(targets).shape
        (3, 2)
        >>> inputs = np.zeros((2, 64, 64, 3), np.uint8)
        >>> model(inputs, z=model.encode(targets)).shape  # each input in the style of each target
        (2, 3, 64, 64, 3)
        """
        if "encoder" not in self.state.params:
            raise ConfigError(f"{self.config.objective} has no encoder")
        given = _array(targets, self.config.data.target_channels, self.config.data)
        scaled = _scaled(given, self.config.data.target_channels, size=self.config.data.crop_size)
        return np.asarray(self._encode(self.state, scaled)).reshape(*given.shape[:-3], -1)

    @functools.cached_property
    def translate(self) -> Callable[..., jax.Array]:
        """`sampling.translate` as (state, inputs, z, key) -> images, compiled."""
        return jax.jit(functools.partial(sampling.translate, self.networks, mode=build.mode(self.config)))

    @functools.cached_property
    def _encode(self) -> Callable[..., jax.Array]:
        return jax.jit(lambda *of: sampling.encode(self.networks, *of, mode=build.mode(self.config)).mean)

    def _drawn(self, key: jax.Array, count: int, n: int | None) -> jax.Array:
        if n is not None and n < 1:
            raise ConfigError(f"n is {n}: must be at least 1")
        return sampling.latents(key, count, n or 1, self.networks.latent_dim)

    def _given(self, z: np.ndarray, count: int, n: int | None) -> np.ndarray:
        dim = self.networks.latent_dim
        if n is not None:
            raise ConfigError("give n or z, not both: there are as many translations as latents")
        if not dim:
            raise ConfigError(f"z is given, but {self.config.objective} has no latent: leave it out")
        latents = np.asarray(z, np.float32)
        fits = latents.ndim in (1, 2) or (latents.ndim == 3 and len(latents) == count)
        if not fits or latents.shape[-1] != dim or not latents.size or not np.isfinite(latents).all():
            raise ConfigError(f"z is {latents.shape}: must be finite numbers [{dim}], [n, {dim}] or [{count}, n, {dim}]")
        latents = np.atleast_2d(latents)
        return np.broadcast_to(latents, (count, *latents.shape[-2:]))


def _array(given: Any, channels: int, data: DataConfig) -> np.ndarray:
    """What is given as one array; a list of images is a batch. Raises ImageError."""
    if isinstance(given, str | Path):
        return images.read(given, channels=channels, max_pixels=data.max_pixels)
    if isinstance(given, PIL.Image.Image):
        return images.from_pillow(given, channels=channels)
    if hasattr(given, "__array__"):
        return np.asarray(given)
    if not isinstance(given, Sequence):
        raise ImageError(f"images are a {type(given).__name__}: must be an array, an image of Pillow's, a path, or a list of them")
    arrays = [_array(one, channels, data) for one in given]
    if len(kinds := {(array.shape, array.dtype) for array in arrays}) != 1:
        found = " and ".join(sorted(f"{dtype} {shape}" for shape, dtype in kinds)) or "an empty list"
        raise ImageError(f"images are {found}: a list must be of images of one size and type; translate others one by one")
    return np.stack(arrays)


def _scaled(images: np.ndarray, channels: int, *, size: int | None = None) -> np.ndarray | jax.Array:
    """[b, h, w, c] in [-1, 1], resized to a square of `size`. Raises ImageError."""
    if images.ndim not in (3, 4) or not images.size:
        raise ImageError(f"images are {images.shape}: must be [h, w, {channels}], or [b, h, w, {channels}], and not empty")
    if images.shape[-1] != channels:
        raise ImageError(f"images {images.shape} have {images.shape[-1]} channels: must have {channels}, last")
    floating = np.issubdtype(images.dtype, np.floating)
    if not (floating or images.dtype in (np.uint8, np.uint16)):
        raise ImageError(f"images are {images.dtype}: must be uint8, uint16 or floats in [-1, 1]")
    if floating and not (np.abs(images) <= 1).all():
        raise ImageError(f"images reach from {images.min():.6g} to {images.max():.6g}: floats must be in [-1, 1]")
    batch = images.reshape(-1, *images.shape[-3:])
    batch = batch if size is None else np.stack([loader.resize(image, size) for image in batch])
    return batch.astype(np.float32) if floating else augment.scale(batch)


def _like(inputs: np.ndarray, made: np.ndarray) -> np.ndarray:
    """What was made of a batch, as the inputs were: integers or floats, many or one."""
    made = made if np.issubdtype(inputs.dtype, np.floating) else augment.to_uint8(made)
    return made.reshape(*inputs.shape[:-3], *made.shape[1:])
