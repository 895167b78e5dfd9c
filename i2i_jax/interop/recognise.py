"""Which network a PyTorch state dict holds: told from its keys, whatever the names of the options that made it."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Set
from typing import Any, NamedTuple, cast

import flax.linen as nn

from i2i_jax.config import OPTIONS
from i2i_jax.interop.layout import StateDictError, layers
from i2i_jax.interop.torch import StateDict, keys, stripped
from i2i_jax.models import ENCODERS, GENERATORS, MultiScale, PatchGAN, PixelGAN

NORMS = ("instance", "batch", "none")  # in the order of belief, where keys fit several


class Found(NamedTuple):
    """A network by the keys of its state dict."""

    network: str  # generator, encoder or discriminator
    options: dict[str, Any]  # of config.model
    module: nn.Module  # of width 1

    def __str__(self) -> str:
        return f"{self.options[self.network]} with {self.options['norm']} norm"


def recognise(state_dict: StateDict) -> list[Found]:
    """The networks that have these keys; more than one where keys alone do not tell.

    Raises StateDictError, which names a key that is missing or one too many.
    """
    held = {key for key in stripped(state_dict) if not key.endswith(".num_batches_tracked")}
    weights = {key for key in held if key.endswith(".weight")}
    near = _least(_known(), lambda found: len(weights ^ _weights(found)))
    if len(weights ^ _weights(near[0])) > len(weights) / 2:
        raise StateDictError(f"no network of pix2pix or BicycleGAN (first key: {next(iter(state_dict), '')!r:.80})")
    nearest = _least(near, lambda found: (len(_wrong(held, found)), len(held ^ keys(found.module))))
    if wrong := _wrong(held, nearest[0]):
        missing = sorted(wrong - {key.removeprefix("module.") for key in state_dict})
        says = f"has no {missing[0]!r}" if missing else f"has {min(wrong)!r:.80} besides"
        raise StateDictError(f"nearly a {nearest[0]}, but it {says}")
    return nearest


def _least(items: Iterable[Found], cost: Callable[[Found], Any]) -> list[Found]:
    costs = [(cost(item), item) for item in items]
    least = min(value for value, _ in costs)
    return [item for value, item in costs if value == least]


def _weights(found: Found) -> set[str]:
    return {f"{layer.key}.weight" for layer in layers(found.module)}


def _wrong(held: set[str], found: Found) -> Set[str]:
    """Keys that are missing or too many, biases that a norm cancels left out: some versions of a network have them, some not."""
    return (held ^ keys(found.module)) - {f"{layer.key}.bias" for layer in layers(found.module) if layer.normed}


@functools.cache
def _known() -> tuple[Found, ...]:
    """Every network of the two projects, in the order of belief."""
    return tuple(found for norm in NORMS for kind in (_generators, _encoders, _discriminators) for found in kind(norm))


def _generators(norm: str) -> Iterator[Found]:
    for name, kind in GENERATORS.items():
        for form in _RESNETS if name.startswith("resnet") else _UNETS:
            yield Found("generator", {"generator": name, "norm": norm, **form}, kind(channels=1, width=1, norm=norm, **form))


_RESNETS = [{"dropout": dropout} for dropout in (False, True)]
_UNETS = [{"skip_order": "encoder_first"}] + [
    {"skip_order": "decoder_first", "latent_at": latent_at, "upsample": upsample}
    for latent_at, upsample in itertools.product(("all", "input"), ("transposed", "bilinear"))
]


def _encoders(norm: str) -> Iterator[Found]:
    for name, kind in ENCODERS.items():
        yield Found("encoder", {"encoder": name, "norm": norm}, kind(latent_dim=1, width=1, norm=norm))


def _all(option: str) -> range:
    """The values of a whole number that has both bounds."""
    known = OPTIONS[option]
    return range(cast(int, known.low), cast(int, known.high) + 1)


def _discriminators(norm: str) -> Iterator[Found]:
    for layer_count, scales in itertools.product(_all("model.discriminator_layers"), _all("model.discriminator_scales")):
        if norm != "none" or scales == 1:  # BicycleGAN's discriminators of many scales always have a norm
            options = {"discriminator": "patchgan", "discriminator_layers": layer_count, "discriminator_scales": scales, "norm": norm}
            yield Found("discriminator", options, MultiScale(tuple(PatchGAN(layer_count, 1, norm) for _ in range(scales))))
    options = {"discriminator": "pixel", "discriminator_scales": 1, "norm": norm}
    yield Found("discriminator", options, MultiScale((PixelGAN(1, norm),)))
