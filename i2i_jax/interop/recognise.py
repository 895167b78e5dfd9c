"""Recognises which network a PyTorch state dict holds, from its keys alone."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Set
from typing import Any, NamedTuple, cast

import flax.linen as nn

from i2i_jax.config import OPTIONS
from i2i_jax.interop.layout import StateDictError, layers
from i2i_jax.interop.torch import StateDict, keys, stripped
from i2i_jax.models import ENCODERS, GENERATORS, MultiScale, PatchGAN, PixelGAN

NORMS = ("instance", "batch", "none")  # the more likely ones first, for keys that fit several


class Candidate(NamedTuple):
    """A network that a state dict may hold.

    Attributes:
        network: "generator", "encoder" or "discriminator".
        options: the options of `config.model` that build it, apart from sizes.
        module: the network with width 1.
    """

    network: str
    options: dict[str, Any]
    module: nn.Module

    def __str__(self) -> str:
        return f"{self.options[self.network]} with {self.options['norm']} norm"


def recognise(state_dict: StateDict) -> list[Candidate]:
    """The networks that have these keys, the most likely one first; several if the keys are ambiguous.

    Args:
        state_dict: arrays under PyTorch's names, with or without the prefix of nn.DataParallel.

    Raises:
        StateDictError: if no network has these keys; it names a missing or unexpected key of the nearest network.
    """
    held = {key for key in stripped(state_dict) if not key.endswith(".num_batches_tracked")}
    weights = {key for key in held if key.endswith(".weight")}
    near = _least(_known(), lambda candidate: len(weights ^ _weights(candidate)))
    if len(weights ^ _weights(near[0])) > len(weights) / 2:
        raise StateDictError(f"no network of pix2pix or BicycleGAN (first key: {next(iter(state_dict), '')!r:.80})")
    nearest = _least(near, lambda candidate: (len(_wrong(held, candidate)), len(held ^ keys(candidate.module))))
    if wrong := _wrong(held, nearest[0]):
        missing = sorted(wrong - {key.removeprefix("module.") for key in state_dict})
        difference = f"has no {missing[0]!r}" if missing else f"has {min(wrong)!r:.80} besides"
        raise StateDictError(f"nearly a {nearest[0]}, but it {difference}")
    return nearest


def _least(items: Iterable[Candidate], cost: Callable[[Candidate], Any]) -> list[Candidate]:
    costs = [(cost(item), item) for item in items]
    least = min(value for value, _ in costs)
    return [item for value, item in costs if value == least]


def _weights(candidate: Candidate) -> set[str]:
    return {f"{layer.key}.weight" for layer in layers(candidate.module)}


def _wrong(held: set[str], candidate: Candidate) -> Set[str]:
    """Missing and unexpected keys, except biases that a norm cancels: only some versions of a network have them."""
    return (held ^ keys(candidate.module)) - {f"{layer.key}.bias" for layer in layers(candidate.module) if layer.normed}


@functools.cache
def _known() -> tuple[Candidate, ...]:
    """Every network of the two projects, the more likely ones first."""
    return tuple(candidate for norm in NORMS for kind in (_generators, _encoders, _discriminators) for candidate in kind(norm))


def _generators(norm: str) -> Iterator[Candidate]:
    for name, kind in GENERATORS.items():
        for form in _RESNETS if name.startswith("resnet") else _UNETS:
            yield Candidate("generator", {"generator": name, "norm": norm, **form}, kind(channels=1, width=1, norm=norm, **form))


_RESNETS = [{"dropout": dropout} for dropout in (False, True)]
_UNETS = [{"skip_order": "encoder_first"}] + [
    {"skip_order": "decoder_first", "latent_at": latent_at, "upsample": upsample}
    for latent_at, upsample in itertools.product(("all", "input"), ("transposed", "bilinear"))
]


def _encoders(norm: str) -> Iterator[Candidate]:
    for name, kind in ENCODERS.items():
        yield Candidate("encoder", {"encoder": name, "norm": norm}, kind(latent_dim=1, width=1, norm=norm))


def _all(option: str) -> range:
    """All values of an integer option with a lower and an upper bound."""
    bounds = OPTIONS[option]
    return range(cast(int, bounds.low), cast(int, bounds.high) + 1)


def _discriminators(norm: str) -> Iterator[Candidate]:
    for layer_count, scales in itertools.product(_all("model.discriminator_layers"), _all("model.discriminator_scales")):
        if norm != "none" or scales == 1:  # BicycleGAN's multi-scale discriminators always have a norm
            options = {"discriminator": "patchgan", "discriminator_layers": layer_count, "discriminator_scales": scales, "norm": norm}
            yield Candidate("discriminator", options, MultiScale(tuple(PatchGAN(layer_count, 1, norm) for _ in range(scales))))
    options = {"discriminator": "pixel", "discriminator_scales": 1, "norm": norm}
    yield Candidate("discriminator", options, MultiScale((PixelGAN(1, norm),)))
