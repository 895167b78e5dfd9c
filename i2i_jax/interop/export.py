"""Exports a generator with its parameters as StableHLO, for programs that have jax but not this package."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array

from i2i_jax import build, sampling
from i2i_jax.config import sides
from i2i_jax.inference.model import Model
from i2i_jax.interop import model_card
from i2i_jax.storage import files

PLATFORMS = ("cpu", "cuda", "tpu")
SMALLEST = 8  # pixels of a side: a ResNet pads feature maps of a quarter of this size by reflection
TOLERANCE = 1e-4  # largest difference allowed between images of the artifact and of the model, in [-1, 1]


class ExportError(ValueError):
    """The artifact's images differ from the model's."""


def to_stablehlo(model: Model, out: Path) -> float:
    """Writes a serialized `jax.export.Exported`, and a card that describes it.

    The artifact is a function of `images` [b, h, w, c] and, if the model uses them, `z` [b, d] and `seed`, all passed by name.

    Args:
        model: the model to export.
        out: the file to write; the card is written to OUT.json first.

    Returns:
        The largest absolute difference between images of the artifact and of the model.

    Raises:
        ExportError: if this difference exceeds `TOLERANCE`; nothing is written then.
    """
    inputs = _inputs(model, _any_size(model))
    with _without_source_paths():
        artifact = bytes(export.export(jax.jit(_program(model)), platforms=PLATFORMS)(**inputs).serialize())
    difference = _difference(model, export.deserialize(bytearray(artifact)))
    if not difference <= TOLERANCE:
        raise ExportError(f"{out}: not written: its images differ by {difference:.2g} from the model's, more than {TOLERANCE}")
    card = model_card.card(model.config, model.networks, model.state) | {
        "inputs": {name: f"{spec.dtype.name}[{', '.join(map(str, spec.shape))}]" for name, spec in inputs.items()},
        "platforms": PLATFORMS,
        "jax": jax.__version__,
        "difference": difference,
    }
    files.atomic_write(out.with_name(f"{out.name}.json"), (json.dumps(card, indent=2) + "\n").encode())
    files.atomic_write(out, artifact)
    return difference


@contextlib.contextmanager
def _without_source_paths() -> Iterator[None]:
    """Keeps the paths of source files on this machine out of what is traced in the block."""
    option = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, option)
    jax.config.update(option, ".*")
    try:
        yield
    finally:
        jax.config.update(option, before)


def _any_size(model: Model) -> tuple[Any, ...]:
    """[b, h, w, c] with symbolic b, h and w."""
    size_multiple, channels = model.networks.generator.size_multiple, model.config.data.input_channels
    smallest = max(1, SMALLEST // size_multiple)
    return tuple(
        export.symbolic_shape(f"b, {size_multiple}*h, {size_multiple}*w, {channels}", constraints=[f"h >= {smallest}", f"w >= {smallest}"])
    )


def _inputs(model: Model, images: tuple[Any, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs of the artifact: images, and if the model uses them a latent for each image and the seed of dropout."""
    mode, networks = build.mode(model.config), model.networks
    inputs = {"images": jax.ShapeDtypeStruct(images, np.float32)}
    if networks.latent_dim:
        inputs["z"] = jax.ShapeDtypeStruct((images[0], networks.latent_dim), np.float32)
    if mode.dropout and model.config.model.dropout:
        inputs["seed"] = jax.ShapeDtypeStruct((), np.uint32)
    return inputs


def _program(model: Model) -> Callable[..., Array]:
    generate = functools.partial(sampling.generate, model.networks, model.state, mode=build.mode(model.config))

    def program(images: Array, z: Array | None = None, seed: Any = 0) -> Array:
        count = images.shape[0]
        keys = sampling.dropout_keys(jax.random.key(seed), count, 1)[:, 0]
        return jax.vmap(generate)(images, jnp.zeros((count, 0)) if z is None else z, keys)

    return program


def _difference(model: Model, artifact: export.Exported) -> float:
    """The largest absolute difference for two random images that are not square."""
    size_multiple = model.networks.generator.size_multiple
    side = min(sides(model.config.data.crop_size))
    side += -side % size_multiple
    specs, rng = _inputs(model, (2, side, side + size_multiple, model.config.data.input_channels)), np.random.default_rng(0)
    images = rng.uniform(-1, 1, specs["images"].shape).astype(np.float32)
    z = rng.normal(size=(2, model.networks.latent_dim)).astype(np.float32)
    values = {"images": images, "z": z, "seed": np.uint32(1)}
    expected = model.translate(model.state, images, z[:, None], jax.random.key(1 if "seed" in specs else 0))[:, 0]
    return float(np.abs(artifact.call(**{name: values[name] for name in specs}) - expected).max())
