"""The config of a run made of PyTorch's networks, told from their keys and shapes: no option has to be repeated."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from i2i_jax import presets
from i2i_jax.config import Config, flatten, override, validate
from i2i_jax.interop.layout import Layer, StateDictError, layers
from i2i_jax.interop.recognise import NORMS, Found
from i2i_jax.interop.torch import StateDict, inputs, stripped

MOST_IMAGE_CHANNELS = 4  # a generator that reads more is taken to read a latent too, where no other file tells
NATIVE_SIZE = 256  # of networks whose names have none

JUDGES = ("discriminator", "discriminator_prior")


class Reading(NamedTuple):
    """A config, and those of its options that no file tells."""

    config: Config
    assumed: dict[str, Any]


class Sizes(NamedTuple):
    """Channels that a network has at first, reads and makes; `latent` is part of what a generator reads, or what an encoder makes."""

    width: int
    reads: int
    makes: int
    latent: int | None  # None: not told


def read_config(found: Mapping[str, list[Found]], states: Mapping[str, StateDict], given: Mapping[str, Any]) -> Reading:
    """The config of the networks of one system, by role: generator, encoder, discriminator, discriminator_prior.

    `given` are the options that the user names. Raises StateDictError where the networks do not belong together; ConfigError.
    """
    if "generator" not in found:
        raise StateDictError("no generator among the files: name the *_net_G.pth too")
    fitting, norm_told = _of_one_norm(found, given)
    sizes = {role: _sizes(of, stripped(states[role])) for role, of in fitting.items()}
    latent, latent_told = _latent(sizes, given)
    bicycle, family_told = _is_bicycle(fitting, sizes, latent)
    generator = fitting["generator"][-1 if bicycle else 0]
    objective, objective_told = _objective(sizes, latent)
    objective = given.get("objective", objective)
    config = presets.pix2pix("folder") if objective == "pix2pix" else presets.bicycle_family(objective, "folder")
    options = {"objective": objective, "model.norm": generator.options["norm"]}
    options |= _of_generator(generator, sizes["generator"], latent, bicycle) | _of_encoder(fitting, sizes, latent)
    options |= _of_discriminators(fitting, sizes, latent) | _of_images(generator, fitting.get("encoder"), given)
    options["sampling.dropout"] = given.get("model.dropout", options["model.dropout"]) and not bicycle
    override(config, options | dict(given))
    told = {"model.norm": norm_told, "data.input_channels": latent_told, "model.skip_order": family_told, "objective": objective_told,
            "model.dropout": "dropout" in generator.options, "data.direction": False, "data.crop_size": "encoder" in fitting}  # fmt: skip
    flat = flatten(validate(config))
    return Reading(config, {name: flat[name] for name, known in told.items() if not known and name not in given})


def _of_one_norm(found: Mapping[str, list[Found]], given: Mapping[str, Any]) -> tuple[dict[str, list[Found]], bool]:
    """What fits one norm and, where anything does, the options given; and whether only that norm fits."""

    def agrees(one: Found) -> bool:
        return all(given.get(f"model.{name}", value) == value for name, value in one.options.items())

    agreeing = {role: [one for one in of if agrees(one)] or of for role, of in found.items()}
    norms = [norm for norm in NORMS if all(any(one.options["norm"] == norm for one in of) for of in agreeing.values())]
    if not norms:
        raise StateDictError("networks of two norms: " + ", ".join(f"the {role} is a {of[0]}" for role, of in agreeing.items()))
    return {role: [one for one in of if one.options["norm"] == norms[0]] for role, of in agreeing.items()}, len(norms) == 1


def _sizes(fitting: list[Found], state: StateDict) -> Sizes:
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
    latent = None if any(one.options.get("latent_at") == "input" for one in fitting) else 0
    if options.get("latent_at") == "all":
        latent = inputs(state, table[("down_1",)]) - width
    return Sizes(width, reads, _features(state, last), latent)


def _features(state: StateDict, layer: Layer) -> int:
    """Channels that a layer makes."""
    weight, dimensions = state[f"{layer.key}.weight"], 2 if layer.kind == "dense" else 4
    if weight.ndim != dimensions:
        raise StateDictError(f"'{layer.key}.weight' has {weight.ndim} dimensions: must have {dimensions}")
    return weight.shape[1 if layer.kind == "transposed" else 0]


def _latent(sizes: Mapping[str, Sizes], given: Mapping[str, Any]) -> tuple[int, bool]:
    """The size of the generator's latent, 0 without one, and whether it is told: by the options given, the generator or another file."""
    generator = sizes["generator"]
    if "data.input_channels" in given:
        return generator.reads - given["data.input_channels"], True
    if "model.latent_dim" in given and generator.latent != 0:
        return given["model.latent_dim"], True
    if generator.latent is not None:
        return generator.latent, True
    if "encoder" in sizes:
        return sizes["encoder"].makes, True
    for judge in (sizes[role] for role in JUDGES if role in sizes):
        if generator.makes < judge.reads <= generator.makes + generator.reads:  # it sees the input too
            return generator.reads - (judge.reads - generator.makes), True
    if generator.reads <= MOST_IMAGE_CHANNELS:
        return 0, True
    return generator.reads - generator.makes, False


def _is_bicycle(fitting: Mapping[str, list[Found]], sizes: Mapping[str, Sizes], latent: int) -> tuple[bool, bool]:
    """Whether the generator is BicycleGAN's rather than pix2pix's, and whether that is told."""
    families = {one.options.get("skip_order", "encoder_first") for one in fitting["generator"]}
    if len(families) == 1:
        return families == {"decoder_first"}, True
    judges = [role for role in JUDGES if role in fitting]
    many_scales = any(fitting[role][0].options["discriminator_scales"] > 1 for role in judges)
    unconditional = any(sizes[role].reads == sizes["generator"].makes for role in judges)
    told = latent > 0 or many_scales or unconditional
    return told, told


def _objective(sizes: Mapping[str, Sizes], latent: int) -> tuple[str, bool]:
    if not latent:
        return "pix2pix", True
    if "encoder" not in sizes:
        return "pix2pix_noise", False
    if "discriminator_prior" in sizes and "discriminator" not in sizes:
        return "clr_gan", True
    return "bicycle_gan", "discriminator_prior" in sizes


def _of_generator(found: Found, sizes: Sizes, latent: int, bicycle: bool) -> dict[str, Any]:
    """pix2pix's dropout is on, at test time too, where it normalises by the image's own statistics; BicycleGAN's is off, and its
    test uses the running ones.
    """
    options = {f"model.{name}": value for name, value in found.options.items()}
    return {
        "model.dropout": not bicycle,
        **options,
        "model.width": sizes.width,
        "data.input_channels": sizes.reads - latent,
        "data.target_channels": sizes.makes,
        "sampling.running_average": bicycle and found.options["norm"] == "batch",
        **({"model.latent_dim": latent} if latent else {}),
    }


def _of_encoder(fitting: Mapping[str, list[Found]], sizes: Mapping[str, Sizes], latent: int) -> dict[str, Any]:
    if "encoder" not in fitting:
        return {}
    encoder, target = sizes["encoder"], sizes["generator"].makes
    if encoder.makes != latent:
        raise StateDictError(f"the encoder makes a latent of {encoder.makes}, the generator reads one of {latent}")
    if encoder.reads != target:
        raise StateDictError(f"the encoder reads {encoder.reads} channels, the generator makes {target}")
    return {"model.encoder": fitting["encoder"][0].options["encoder"], "model.encoder_width": encoder.width}


def _of_discriminators(fitting: Mapping[str, list[Found]], sizes: Mapping[str, Sizes], latent: int) -> dict[str, Any]:
    given = [(fitting[role][0].options, sizes[role]) for role in JUDGES if role in fitting]
    if not given:
        return {}
    if given[1:] and given[0] != given[1]:
        raise StateDictError("the two discriminators differ in size or kind: a run has two alike")
    (options, judge), generator = given[0], sizes["generator"]
    both = generator.makes + generator.reads - latent
    if judge.reads not in (generator.makes, both):
        raise StateDictError(
            f"the discriminator reads {judge.reads} channels: must be the output ({generator.makes}), or input and output ({both})"
        )
    return {
        **{f"model.{name}": value for name, value in options.items()},
        "model.discriminator_width": judge.width,
        "model.conditional": judge.reads == both,
        "model.shared_discriminator": "encoder" in fitting and "discriminator_prior" not in fitting,
    }


def _of_images(generator: Found, encoder: list[Found] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The size that the networks are made for, or is given, loaded a little larger, as both projects do."""
    kind, name = (encoder[0].options["encoder"] if encoder else generator.options["generator"]).split("_")
    size = given.get("data.crop_size", int(name) if encoder or kind == "unet" else NATIVE_SIZE)
    return {"data.crop_size": size, "data.load_size": round(size * 286 / 256)}
