"""The Python API of a trained model: NumPy images in, NumPy images out."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import PIL.Image
from absl import logging
from jaxtyping import Float, Shaped

from i2i_jax import build, models, sampling
from i2i_jax.config import Config, ConfigError, DataConfig, sides
from i2i_jax.data import augment, images, labels, loader, values
from i2i_jax.data.images import ImageError
from i2i_jax.data.labels import Labels
from i2i_jax.data.values import Scale
from i2i_jax.inference import size_change
from i2i_jax.train_state import TrainState
from i2i_jax.types import SampleType

Image = np.ndarray | jax.Array | PIL.Image.Image | str | Path  # [h, w, c], or the path of an image file
Images = Image | Sequence[Image]  # or [b, h, w, c]


def load(path: str | Path, *, step: int | Literal["best"] | None = None) -> "Model":
    """Loads the model of a run.

    Args:
        path: the run's folder, a packed file, hf://USER/NAME, or the name of a model in the package.
        step: the checkpoint: a step or "best"; defaults to the newest.

    Raises:
        ConfigError: if `path` is not a run, or its config is not valid.
        CheckpointError: if there is no such checkpoint, or it cannot be read.
        PackedError: if a packed file cannot be read.
        HubError: if a model cannot be downloaded from the Hugging Face Hub.
    """
    game, state = build.load(path, step=step)
    return Model(build.read_config(path), game.networks, state, build.target_type(path))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
    """Translates images of any size: one image [h, w, c], or several images of one size, as [b, h, w, c] or a list.

    An image is an array, a Pillow image or the path of an image file. Arrays of integers are in the units of the files that the model was
    trained on, and so are arrays of floats if the run sets `data.input_range`. Otherwise floats must be in [-1, 1].

    Translations have the type and the units of the targets that the model was trained on, usually uint8. The exception: if the run sets
    neither `data.input_range` nor `data.target_range`, inputs of floats give float32 in [-1, 1].

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
    target_type: SampleType = SampleType()

    def __repr__(self) -> str:
        config = self.config
        return f"Model({config.objective}, {config.model.generator}, data.crop_size {config.data.crop_size}, step {int(self.state.step)})"

    def __call__(
        self, inputs: Images, n: int | None = None, *, z: Float[np.ndarray, "... d"] | None = None, seed: int = 0
    ) -> Shaped[np.ndarray, "... n h w c"]:
        """Translates each input with `n` random latents, or with the latents `z`.

        The result for an input depends only on its pixels, its index in the batch and the seed, up to rounding, which may differ with
        the number of images. The translations of a model without latent differ only by dropout, if the run's config keeps dropout on at
        inference.

        Args:
            inputs: images of uint8, uint16, int16 or floats, in the units described above. Label maps (`data.input_labels`) are files
                or Pillow images, or arrays with one channel for each class, 255 or 1 where a pixel is of the class, 0 or -1 elsewhere.
            n: translations of each input; defaults to 1.
            z: latents instead of `n`: [d] or [n, d] for all inputs, or [b, n, d] for each input.
            seed: seed of the latents and of dropout.

        Returns:
            Translations [n, h, w, c] of one image, or [b, n, h, w, c] of a batch.

        Raises:
            ImageError: if the inputs cannot be read, or do not have the model's channels, or a wrong type or range.
            ConfigError: if `n` or `z` is not valid for this model.
        """
        scale = values.of_config(self.config.data, "input")
        array = _array(inputs, self.config.data.input_channels, self.config.data, labels.of_config(self.config.data), scale)
        scaled = _scaled(array, self.config.data.input_channels, scale, lambda image: self._size_change(image).prepare(image))
        z_key, dropout_key = jax.random.split(jax.random.key(seed))
        latents = self._random_latents(z_key, len(scaled), n) if z is None else self._checked_latents(z, len(scaled), n)
        outputs = np.asarray(self.translate(self.state, scaled, latents, dropout_key))
        return self._restored(array, self._in_own_size(array, outputs))

    def encode(self, targets: Images) -> Float[np.ndarray, "... d"]:
        """The mean latent of each target, [d] for one image or [b, d] for a batch.

        Targets are first resized to the size that the encoder was trained at, data.crop_size; with data.resize other than square, they
        are resized as in training and encoded as a whole.

        Args:
            targets: images of uint8, uint16, int16 or floats, in the targets' units; floats are in [-1, 1] unless the run sets
                `data.target_range`.

        Raises:
            ImageError: if the targets cannot be read, or do not have the model's channels, or a wrong type or range.
            ConfigError: if the model has no encoder.

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
        scale = values.of_config(self.config.data, "target")
        array = _array(targets, self.config.data.target_channels, self.config.data, scale=scale)
        scaled = _scaled(array, self.config.data.target_channels, scale, self._at_training_size)
        return np.asarray(self._encode(self.state, scaled)).reshape(*array.shape[:-3], -1)

    @functools.cached_property
    def translate(self) -> Callable[..., jax.Array]:
        """The compiled `sampling.translate`, as a function (state, inputs, z, key) -> images."""
        return jax.jit(functools.partial(sampling.translate, self.networks, mode=build.mode(self.config)))

    @functools.cached_property
    def _encode(self) -> Callable[..., jax.Array]:
        return jax.jit(lambda state, targets: sampling.encode(self.networks, state, targets, mode=build.mode(self.config)).mean)

    def _size_change(self, image: np.ndarray) -> size_change.SizeChange:
        return size_change.of_image(self.config, (image.shape[0], image.shape[1]))

    def _in_own_size(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Translations [..., h, w, c] in the size of their inputs."""
        change = self._size_change(inputs[0] if inputs.ndim == 4 else inputs)
        if not change.changes:
            return outputs
        finished = np.stack([change.finish(output) for output in outputs.reshape(-1, *outputs.shape[-3:])])
        return finished.reshape(*outputs.shape[:-3], *finished.shape[1:])

    def _at_training_size(self, target: np.ndarray) -> np.ndarray:
        """A target as the encoder sees it: of the size of the crops, or with `data.resize` other than square at least as large."""
        crop = sides(self.config.data.crop_size)
        if self.config.data.resize == "square":
            return loader.resize(target, crop)
        return loader.mirrored(self._size_change(target).prepare(target), crop)

    def _restored(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Outputs [b, n, h, w, c] in [-1, 1] as the targets' type, with or without the batch axis as the inputs."""
        input_scale, target_scale = (values.of_config(self.config.data, side) for side in ("input", "target"))
        normalized = inputs.dtype.kind == "f" and input_scale.low is None and target_scale.low is None
        outputs = outputs if normalized else target_scale.restored(outputs, self.target_type.dtype)
        return outputs.reshape(*inputs.shape[:-3], *outputs.shape[1:])

    def _random_latents(self, key: jax.Array, count: int, n: int | None) -> jax.Array:
        if n is not None and n < 1:
            raise ConfigError(f"n is {n}: must be at least 1")
        return sampling.latents(key, count, n or 1, self.networks.latent_dim)

    def _checked_latents(self, z: np.ndarray, count: int, n: int | None) -> np.ndarray:
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


def _array(source: Any, channels: int, data: DataConfig, input_labels: Labels | None = None, scale: Scale | None = None) -> np.ndarray:
    """Converts images of any kind to one array, in the units of files; a list becomes a batch. Raises ImageError."""
    if isinstance(source, str | Path):
        array = images.read(source, channels=channels, max_pixels=data.max_pixels, labels=input_labels)
        if array.dtype.kind == "f" and scale:
            with images.naming(str(source)):
                scale.refuse_unknown_range(array)
        return array
    if isinstance(source, PIL.Image.Image):
        return images.from_pillow(source, channels=channels, labels=input_labels)
    if hasattr(source, "__array__"):
        return np.asarray(source)
    if not isinstance(source, Sequence):
        raise ImageError(f"images are a {type(source).__name__}: must be an array, a Pillow image, a path, or a list of them")
    arrays = [_array(item, channels, data, input_labels, scale) for item in source]
    if len(kinds := {(array.shape, array.dtype) for array in arrays}) != 1:
        listed = " and ".join(sorted(f"{dtype} {shape}" for shape, dtype in kinds)) or "an empty list"
        raise ImageError(f"images are {listed}: a list must be of images of one size and type; translate others one by one")
    return np.stack(arrays)


def _scaled(images: np.ndarray, channels: int, scale: Scale, prepare: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | jax.Array:
    """Checks images; returns them as [b, h, w, c] in [-1, 1], each resized by `prepare`. Raises ImageError."""
    if images.ndim not in (3, 4) or not images.size:
        raise ImageError(f"images are {images.shape}: must be [h, w, {channels}], or [b, h, w, {channels}], and not empty")
    if images.shape[-1] != channels:
        raise ImageError(f"images {images.shape} have {images.shape[-1]} channels: must have {channels}, last")
    floating = np.issubdtype(images.dtype, np.floating)
    if not (floating or images.dtype in (np.uint8, np.uint16, np.int16)):
        raise ImageError(f"images are {images.dtype}: must be uint8, uint16, int16 or floats")
    if floating and (bad := images.size - np.count_nonzero(np.isfinite(images))):
        raise ImageError(f"images have {bad} NaN or Inf among their {images.size} values: must be finite numbers")
    normalized = floating and scale.low is None
    if normalized and not (np.abs(images) <= 1).all():
        raise ImageError(f"images reach from {images.min():.6g} to {images.max():.6g}: floats must be in [-1, 1]")
    batch = images.reshape(-1, *images.shape[-3:])
    batch = batch if normalized else _applied(scale, batch)
    batch = np.stack([prepare(image) for image in batch])
    return batch.astype(np.float32) if floating else augment.scale(batch)


def _applied(scale: Scale, images: np.ndarray) -> np.ndarray:
    """The scaled images; warns about values outside the range."""
    with values.counting() as counts:
        scaled = scale.applied(images)
    for message in values.clipped(counts):
        logging.warning("%s", message)
    return scaled
