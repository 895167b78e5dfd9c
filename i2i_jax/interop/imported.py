"""Infers the config of a run from PyTorch networks, by the keys and shapes of their state dicts."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from i2i_jax import presets
from i2i_jax.config import Config, flatten, override, sides, size_text, validate
from i2i_jax.interop.layout import Layer, StateDictError, layers
from i2i_jax.interop.recognise import NORMS, Candidate
from i2i_jax.interop.torch import StateDict, inputs, stripped

MOST_IMAGE_CHANNELS = 4  # a generator with more input channels is assumed to read a latent too, if no other file says so
NATIVE_SIZE = 256  # image size of networks without a size in their names

DISCRIMINATORS = ("discriminator", "discriminator_prior")


class Reading(NamedTuple):
    """The result of `read_config`.

    Attributes:
        config: the config.
        assumed: options that could not be inferred, with the values that were assumed.
    """

    config: Config
    assumed: dict[str, Any]


class Sizes(NamedTuple):
    """Channels of a network.

    Attributes:
        width: output channels of the first layer.
        reads: input channels, a generator's latent included.
        makes: output channels.
        latent: size of the latent that a generator reads or an encoder makes; None if it is not known.
    """

    width: int
    reads: int
    makes: int
    latent: int | None


def read_config(candidates: Mapping[str, list[Candidate]], states: Mapping[str, StateDict], overrides: Mapping[str, Any]) -> Reading:
    """Infers the config of the networks of one system.

    Args:
        candidates: for each role (generator, encoder, discriminator, discriminator_prior) the networks that its keys fit.
        states: the state dict of each role.
        overrides: options by dotted name that take precedence over what is inferred.

    Raises:
        StateDictError: if the networks do not belong together.
        ConfigError: if an option is not valid.
    """
    if "generator" not in candidates:
        raise StateDictError("no generator among the files: name the *_net_G.pth too")
    fitting, norm_known = _of_one_norm(candidates, overrides)
    sizes = {role: _sizes(networks, stripped(states[role])) for role, networks in fitting.items()}
    latent, latent_known = _latent(sizes, overrides)
    bicycle, family_known = _is_bicycle(fitting, sizes, latent)
    generator = fitting["generator"][-1 if bicycle else 0]
    objective, objective_known = _objective(sizes, latent)
    objective = overrides.get("objective", objective)
    config = presets.pix2pix("folder") if objective == "pix2pix" else presets.bicycle_family(objective, "folder")
    options = {"objective": objective, "model.norm": generator.options["norm"]}
    options |= _generator_options(generator, sizes["generator"], latent, bicycle) | _encoder_options(fitting, sizes, latent)
    options |= _discriminator_options(fitting, sizes, latent) | _image_sizes(generator, fitting.get("encoder"), overrides)
    options["sampling.dropout"] = overrides.get("model.dropout", options["model.dropout"]) and not bicycle
    override(config, options | dict(overrides))
    is_known = {
        "model.norm": norm_known,
        "data.input_channels": latent_known,
        "model.skip_order": family_known,
        "objective": objective_known,
        "model.dropout": "dropout" in generator.options,
        "data.direction": False,
        "data.crop_size": "encoder" in fitting,
    }
    flat = flatten(validate(config))
    return Reading(config, {name: flat[name] for name, known in is_known.items() if not known and name not in overrides})


def _of_one_norm(candidates: Mapping[str, list[Candidate]], overrides: Mapping[str, Any]) -> tuple[dict[str, list[Candidate]], bool]:
    """The candidates with the most likely norm that fits all roles, and whether this is the only norm that does.

    Candidates that contradict the overrides are left out, unless no candidate of that role would remain.
    """

    def agrees(candidate: Candidate) -> bool:
        return all(overrides.get(f"model.{name}", value) == value for name, value in candidate.options.items())

    agreeing = {role: [candidate for candidate in several if agrees(candidate)] or several for role, several in candidates.items()}
    norms = [norm for norm in NORMS if all(any(_has_norm(x, norm) for x in several) for several in agreeing.values())]
    if not norms:
        raise StateDictError("networks of two norms: " + ", ".join(f"the {role} is a {several[0]}" for role, several in agreeing.items()))
    return {role: [x for x in several if _has_norm(x, norms[0])] for role, several in agreeing.items()}, len(norms) == 1


def _has_norm(candidate: Candidate, norm: str) -> bool:
    return candidate.options["norm"] == norm


def _sizes(fitting: list[Candidate], state: StateDict) -> Sizes:
    network, options, module = fitting[0]
    table = {layer.path: layer for layer in layers(module)}
    first = next(iter(table.values()))
    width, reads = _features(state, first), inputs(state, first)
    if network == "encoder":
        latent = _features(state, table[("mean",)])
        return Sizes(width, reads, latent, latent)
    if network == "discriminator":
        return Sizes(width, reads, 1, None)
    last = next(layer for path, layer in table.items() if path[0] in ("up_0", "last"))
    latent = None if any(candidate.options.get("latent_at") == "input" for candidate in fitting) else 0
    if options.get("latent_at") == "all":
        latent = inputs(state, table[("down_1",)]) - width
    return Sizes(width, reads, _features(state, last), latent)


def _features(state: StateDict, layer: Layer) -> int:
    """Output channels of a layer."""
    weight, dimensions = state[f"{layer.key}.weight"], 2 if layer.kind == "dense" else 4
    if weight.ndim != dimensions:
        raise StateDictError(f"'{layer.key}.weight' has {weight.ndim} dimensions: must have {dimensions}")
    return weight.shape[1 if layer.kind == "transposed" else 0]


def _latent(sizes: Mapping[str, Sizes], overrides: Mapping[str, Any]) -> tuple[int, bool]:
    """The size of the generator's latent (0 without one), and whether it is known rather than assumed.

    It is known from the overrides, the generator or another file.
    """
    generator = sizes["generator"]
    if "data.input_channels" in overrides:
        return generator.reads - overrides["data.input_channels"], True
    if "model.latent_dim" in overrides and generator.latent != 0:
        return overrides["model.latent_dim"], True
    if generator.latent is not None:
        return generator.latent, True
    if "encoder" in sizes:
        return sizes["encoder"].makes, True
    for discriminator in (sizes[role] for role in DISCRIMINATORS if role in sizes):
        if generator.makes < discriminator.reads <= generator.makes + generator.reads:  # it is conditioned on the input
            return generator.reads - (discriminator.reads - generator.makes), True
    if generator.reads <= MOST_IMAGE_CHANNELS:
        return 0, True
    return generator.reads - generator.makes, False


def _is_bicycle(fitting: Mapping[str, list[Candidate]], sizes: Mapping[str, Sizes], latent: int) -> tuple[bool, bool]:
    """Whether the generator is BicycleGAN's rather than pix2pix's, and whether this is known rather than assumed."""
    families = {candidate.options.get("skip_order", "encoder_first") for candidate in fitting["generator"]}
    if len(families) == 1:
        return families == {"decoder_first"}, True
    discriminators = [role for role in DISCRIMINATORS if role in fitting]
    multi_scale = any(fitting[role][0].options["discriminator_scales"] > 1 for role in discriminators)
    unconditional = any(sizes[role].reads == sizes["generator"].makes for role in discriminators)
    known = latent > 0 or multi_scale or unconditional
    return known, known


def _objective(sizes: Mapping[str, Sizes], latent: int) -> tuple[str, bool]:
    """The objective that these networks were trained by, and whether it is known rather than assumed."""
    if not latent:
        return "pix2pix", True
    if "encoder" not in sizes:
        return "pix2pix_noise", False
    if "discriminator_prior" in sizes and "discriminator" not in sizes:
        return "clr_gan", True
    return "bicycle_gan", "discriminator_prior" in sizes


def _generator_options(candidate: Candidate, sizes: Sizes, latent: int, bicycle: bool) -> dict[str, Any]:
    """At test time pix2pix uses dropout and the statistics of each image; BicycleGAN uses no dropout and running statistics."""
    options = {f"model.{name}": value for name, value in candidate.options.items()}
    return {
        "model.dropout": not bicycle,
        **options,
        "model.width": sizes.width,
        "data.input_channels": sizes.reads - latent,
        "data.target_channels": sizes.makes,
        "sampling.running_average": bicycle and candidate.options["norm"] == "batch",
        **({"model.latent_dim": latent} if latent else {}),
    }


def _encoder_options(fitting: Mapping[str, list[Candidate]], sizes: Mapping[str, Sizes], latent: int) -> dict[str, Any]:
    if "encoder" not in fitting:
        return {}
    encoder, target = sizes["encoder"], sizes["generator"].makes
    if encoder.makes != latent:
        raise StateDictError(f"the encoder makes a latent of {encoder.makes}, the generator reads one of {latent}")
    if encoder.reads != target:
        raise StateDictError(f"the encoder reads {encoder.reads} channels, the generator makes {target}")
    return {"model.encoder": fitting["encoder"][0].options["encoder"], "model.encoder_width": encoder.width}


def _discriminator_options(fitting: Mapping[str, list[Candidate]], sizes: Mapping[str, Sizes], latent: int) -> dict[str, Any]:
    discriminators = [(fitting[role][0].options, sizes[role]) for role in DISCRIMINATORS if role in fitting]
    if not discriminators:
        return {}
    if discriminators[1:] and discriminators[0] != discriminators[1]:
        raise StateDictError("the two discriminators differ in size or kind: both must be alike")
    (options, discriminator), generator = discriminators[0], sizes["generator"]
    both = generator.makes + generator.reads - latent
    if discriminator.reads not in (generator.makes, both):
        raise StateDictError(
            f"the discriminator reads {discriminator.reads} channels: must be the output ({generator.makes}), or input and output ({both})"
        )
    return {
        **{f"model.{name}": value for name, value in options.items()},
        "model.discriminator_width": discriminator.width,
        "model.conditional": discriminator.reads == both,
        "model.shared_discriminator": "encoder" in fitting and "discriminator_prior" not in fitting,
    }


def _image_sizes(generator: Candidate, encoder: list[Candidate] | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The size that the networks are made for, or the override. Images are loaded a little larger, as in both projects."""
    kind, name = (encoder[0].options["encoder"] if encoder else generator.options["generator"]).split("_")
    crop = sides(overrides.get("data.crop_size", int(name) if encoder or kind == "unet" else NATIVE_SIZE))
    return {"data.crop_size": size_text(*crop), "data.load_size": size_text(*(round(side * 286 / 256) for side in crop))}
