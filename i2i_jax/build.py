"""From a Config to what it describes. Every option that is a word is resolved here."""

import dataclasses
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from i2i_jax import losses, models, objectives
from i2i_jax.config import WITHOUT_LATENT, Config, ConfigError, ModelConfig, flatten, from_json, validate
from i2i_jax.data import folder, palettes, pix2pix, shapes
from i2i_jax.data.pairs import Pairs
from i2i_jax.devices import processes
from i2i_jax.models.layers import INITIALIZERS, scale_init
from i2i_jax.sampling import Mode
from i2i_jax.storage import checkpoints, hub, packed
from i2i_jax.train_state import Game, TrainState
from i2i_jax.types import Batch, Shard


def networks(config: Config) -> models.Networks:
    """The networks of the system, each of the config's kind; z is given to the systems that have one."""
    model = config.model
    discriminator = _discriminator(model)
    return models.Networks(
        generator=_generator(config),
        discriminator=discriminator,
        discriminator_prior=discriminator if model.shared_discriminator else _discriminator(model),
        encoder=models.ENCODERS[model.encoder](
            latent_dim=model.latent_dim, width=model.encoder_width or model.width, norm=model.norm, **_common(model)
        ),
        latent_dim=0 if config.objective in WITHOUT_LATENT else model.latent_dim,
        conditional=model.conditional,
    )


def _generator(config: Config) -> Any:
    if config.objective != "segmenter":
        return _translator(config, config.data.target_channels)
    colours = palettes.PALETTES[config.data.palette].colours()
    return models.LabelMapGenerator(_translator(config, len(colours)), tuple(map(tuple, colours.tolist())))


def _translator(config: Config, channels: int) -> Any:
    model = config.model
    of_unet = {"latent_at": model.latent_at, "skip": model.skip, "skip_order": model.skip_order}
    return models.GENERATORS[model.generator](
        channels=channels,
        width=model.width,
        norm=model.norm,
        upsample=model.upsample,
        dropout=model.dropout,
        **(of_unet if model.generator.startswith("unet") else {}),
        **_common(model),
    )


def _discriminator(model: ModelConfig) -> models.MultiScale:
    kind = models.DISCRIMINATORS[model.discriminator]
    if model.discriminator == "patchgan":
        kind = partial(kind, layers=model.discriminator_layers)
    width = model.discriminator_width or model.width
    widths = (max(1, round(width / 2**i)) for i in range(model.discriminator_scales))
    return models.MultiScale(tuple(kind(width=w, norm=model.norm, **_common(model)) for w in widths))


def _common(model: ModelConfig) -> dict[str, Any]:
    return {
        "kernel_init": INITIALIZERS[model.initializer](model.init_gain),
        "scale_init": scale_init(model.init_gain),
        "dtype": jnp.bfloat16 if model.dtype == "bfloat16" else None,
    }


def objective(config: Config) -> Any:
    rules = objectives.ObjectiveOptions(
        config.weights,
        losses.GAN_LOSSES[config.gan_loss],
        sum_kl=config.kl_reduction == "sum",
        latent_trains_encoder=config.latent_trains_encoder,
        palette=palettes.PALETTES[config.data.palette],
    )
    return partial(objectives.OBJECTIVES[config.objective], options=rules)


def learning_rate(config: Config) -> optax.Schedule:
    """Constant, then linear to zero: 1 - max(0, t - n) / (decay + 1), as the originals' `lambda_rule` has it.

    t, n and decay count times of `held_for` steps, t from 1; the originals' times are epochs, and pytorch-CycleGAN-and-pix2pix, which
    takes the next rate before an epoch and not after it, counts t from 2. A run that is not of whole epochs, or does not decay over
    whole epochs, changes the rate with every step.
    """
    options = config.optimizer
    decay = round(options.decay_fraction * config.train.steps)
    constant = config.train.steps - decay
    whole = constant % options.held_for == decay % options.held_for == 0
    held, early = (options.held_for, options.decay_early) if whole else (1, False)

    def rate(step: Any) -> jax.Array:
        t = (step // held + 1 + early) * held
        return options.learning_rate * jnp.maximum(0, 1 - jnp.maximum(0, t - constant) / float(decay + held))

    return rate


def optimizer(config: Config) -> optax.GradientTransformation:
    """Adam (Kingma 2015) for each network by itself."""
    return optax.adam(learning_rate(config), b1=config.optimizer.beta1, b2=config.optimizer.beta2)


def game(config: Config) -> Game:
    """The game that `config` describes. Raises ConfigError on an option out of range."""
    validate(config)
    return Game(
        networks(config), objective(config), optimizer(config), update=config.update,
        shard=Shard(microbatches=config.train.microbatches), rematerialize=config.train.rematerialize,
    )  # fmt: skip


def pairs(config: Config, split: str, *, held_out: Collection[str] | None = None) -> Pairs:
    """The pairs of `split` (train, val or test; of a folder also `all`); a public set or `shapes` is prepared at first use.

    `held_out` are the names that a run holds out of a folder, where that has no val split (None: chosen by `data.val_fraction`).
    """
    data = config.data
    common = {
        "direction": data.direction,
        "input_channels": data.input_channels,
        "target_channels": data.target_channels,
        "max_pairs": data.max_pairs if split == "train" else None,
        "skip_bad": data.skip_bad,
    }
    if data.name == "folder":
        if not data.path:
            raise ConfigError("data.path is empty: name the folder of your pairs, --config.data.path=DIR")
        return folder.pairs(data.path, split, val_fraction=data.val_fraction, held_out=held_out, max_pixels=data.max_pixels, **common)
    if data.name == "shapes":
        return shapes.pairs(split, data.prepared_dir, **common)
    return pix2pix.pairs(data.name, split, data.prepared_dir, max_pixels=data.max_pixels, **common)


def split_used(config: Config, split: str) -> str:
    """The split that `pairs` takes for `split`: a set without test pairs is tested on its val pairs, and those may be its train pairs."""
    if config.data.name == "folder":
        return folder.split_used(folder.layout(Path(config.data.path).expanduser()), split, config.data.val_fraction)
    return "val" if split == "test" and config.data.name != "shapes" and "test" not in pix2pix.SETS[config.data.name].splits else split


def example_batch(config: Config, batch_size: int = 2) -> Batch:
    """Shapes of a training batch, for `Game.init`."""
    data = config.data
    return Batch(*(jnp.zeros((batch_size, data.crop_size, data.crop_size, c)) for c in (data.input_channels, data.target_channels)))


def mode(config: Config) -> Mode:
    """Of its networks at test time; without dropout in them there is none to keep on."""
    return Mode(dropout=config.sampling.dropout and config.model.dropout, running_average=config.sampling.running_average)


def read_config(run: str | Path) -> Config:
    """The config of a run: its folder, or packed in a file, which may be on the hub. Raises ConfigError, PackedError or HubError."""
    run = hub.local(run)
    if Path(run).is_file():
        _refuse_files_of_others(Path(run))
        return packed.read_config(run)
    path = Path(run) / "config.json"
    if not path.is_file():
        raise ConfigError(f"{run} is no run: it has no config.json{_run_around(Path(run))}")
    try:
        return from_json(path.read_text())
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _refuse_files_of_others(file: Path) -> None:
    """Raises ConfigError where it is certain that a file is no packed run, and what it is."""
    if file.suffix in (".pth", ".pt"):
        raise ConfigError(f"{file} is a file of PyTorch's: i2i convert --from=torch {file} --out=RUN makes a run of it")
    if around := _run_around(file):
        raise ConfigError(f"{file} is no run{around}")


def _run_around(path: Path) -> str:
    """The run in whose folder it lies, if any, in words."""
    around = next((of for of in path.absolute().parents if (of / "config.json").is_file() and (of / "checkpoints").is_dir()), None)
    return f": it is in one, {around}, which would do" if around else ""


def load(
    run: str | Path, *, step: int | Literal["best"] | None = None, networks: Collection[str] | None = ("generator", "encoder")
) -> tuple[Game, TrainState]:
    """The game of a run and its `networks` (None: all that it has) without their optimizers.

    Of a folder at `step` (default: the newest); packed in a file, which may be on the hub, there is one step.
    """
    run = hub.local(run)
    config = read_config(run)
    networks = _networks(run) if networks is None else networks
    built = game(config)
    state = jax.eval_shape(lambda key: built.init(key, example_batch(config)), jax.random.key(0))
    used = {name: value for name, value in state.params.items() if name in networks}
    stats = {name: value for name, value in state.batch_stats.items() if name in used}
    return built, _restored(run, TrainState(state.step, used, stats, {}), step=step)


def start_from(config: Config, state: TrainState) -> TrainState:
    """`state` with those of its networks that the run `train.start_from` has.

    Raises ConfigError where they are of another form, but for layers that start anew by `train.adapt_channels`; CheckpointError or
    PackedError where they cannot be read.
    """
    run = config.train.start_from
    source = hub.local(run)
    taken = _networks(source) & state.params.keys()
    ours = _by_name(state)
    theirs = _by_name(jax.eval_shape(partial(game(read_config(source)).init, batch=example_batch(read_config(source))), jax.random.key(0)))
    shared = {name: leaf for name, leaf in ours.items() if name.split(".")[1] in taken}
    fitting = {name: leaf for name, leaf in shared.items() if name in theirs and theirs[name].shape == leaf.shape}
    if misfits := sorted(shared.keys() - fitting.keys()):
        _refuse_other_networks(config, read_config(source), misfits[0])
    template = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for name, leaf in fitting.items()}
    found = flatten_dict(_restored(source, unflatten_dict(template, sep=".")), sep=".")
    new = [*sorted(state.params.keys() - taken), *(name.removeprefix("params.") for name in misfits)]
    processes.say(f"starts with {', '.join(sorted(taken))} of {run}; new: {', '.join(new) or 'none'}")
    whole = unflatten_dict(ours | found, sep=".")
    stats = {name: whole.get("batch_stats", {}).get(name, {}) for name in state.batch_stats}
    return dataclasses.replace(state, params=whole["params"], batch_stats=stats)


def _by_name(state: TrainState) -> dict[str, Any]:
    """Every parameter and statistic, as params.generator.down_0.kernel."""
    return flatten_dict({"params": state.params, "batch_stats": state.batch_stats}, sep=".")


def _refuse_other_networks(config: Config, theirs: Config, misfit: str) -> None:
    """Raises ConfigError that names the option by which a run's networks differ, unless its layers may start anew."""
    own, other = flatten(config), flatten(theirs)
    shaping = ("data.input_channels", "data.target_channels", "objective", *(name for name in own if name.startswith("model.")))
    differing = [name for name in shaping if own[name] != other[name]]
    channels = set(differing) <= {"data.input_channels", "data.target_channels"}
    if channels and config.train.adapt_channels:
        return
    named = differing[0] if differing else misfit
    anew = "; train.adapt_channels=True lets the layers that read or make them start anew" if channels else ""
    found = f"{named} is {own.get(named)!r}, that of train.start_from {config.train.start_from} {other.get(named)!r}"
    raise ConfigError(f"{found}: its networks fit --config.{named}={other.get(named)} only{anew}")


def _networks(run: str | Path) -> set[str]:
    return packed.networks(run) if Path(run).is_file() else checkpoints.networks(Path(run) / "checkpoints")


def _restored(run: str | Path, template: Any, *, step: int | Literal["best"] | None = None) -> Any:
    """In the form of `template`, which may be any part of a TrainState."""
    if not Path(run).is_file():
        return checkpoints.restore_for_inference(Path(run) / "checkpoints", template, step=step)
    if step is not None:
        raise ConfigError(f"{run} is packed, with one step in it: leave out the step {step!r}")
    return packed.restore(run, template)
