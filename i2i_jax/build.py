"""Builds networks, objective, optimizer and data from a Config, and loads trained runs.

Options that are names (a generator, a GAN loss, an initialiser) are looked up here only.
"""

import dataclasses
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from i2i_jax import losses, models, objectives, pretrained
from i2i_jax.config import WITHOUT_LATENT, Config, ConfigError, ModelConfig, flatten, from_json, nearest, sides, validate
from i2i_jax.data import folder, labels, palettes, pix2pix, shapes, splits, values
from i2i_jax.data.pairs import Pairs
from i2i_jax.devices import processes
from i2i_jax.models.layers import INITIALIZERS, scale_init
from i2i_jax.sampling import Mode
from i2i_jax.storage import checkpoints, hub, packed
from i2i_jax.train_state import Game, TrainState
from i2i_jax.types import Batch, SampleType, Shard


def networks(config: Config) -> models.Networks:
    """Returns the networks that `config.model` describes. The latent has 0 dimensions for objectives without one."""
    model = config.model
    discriminator = _discriminator(model)
    return models.Networks(
        generator=_generator(config),
        discriminator=discriminator,
        discriminator_prior=discriminator if model.shared_discriminator else _discriminator(model),
        encoder=models.ENCODERS[model.encoder](
            latent_dim=model.latent_dim,
            width=model.encoder_width or model.width,
            norm=model.norm,
            std=model.posterior_std,
            **_initializers_and_dtype(model),
        ),
        latent_dim=0 if config.objective in WITHOUT_LATENT else model.latent_dim,
        conditional=model.conditional,
    )


def _generator(config: Config) -> Any:
    """The generator; for the segmenter one that scores the classes of its palette."""
    if config.objective != "segmenter":
        return _translator(config, config.data.target_channels)
    colours = palettes.PALETTES[config.data.palette].colours()
    return models.LabelMapGenerator(_translator(config, len(colours)), tuple(map(tuple, colours.tolist())))


def _translator(config: Config, channels: int) -> Any:
    """The U-Net or ResNet with the given number of output channels."""
    model = config.model
    unet_options = {"latent_at": model.latent_at, "skip": model.skip, "skip_order": model.skip_order}
    return models.GENERATORS[model.generator](
        channels=channels,
        width=model.width,
        norm=model.norm,
        upsample=model.upsample,
        dropout=model.dropout,
        **(unet_options if model.generator.startswith("unet") else {}),
        **_initializers_and_dtype(model),
    )


def _discriminator(model: ModelConfig) -> models.MultiScale:
    """A multi-scale discriminator, the width halved at each scale."""
    network = models.DISCRIMINATORS[model.discriminator]
    if model.discriminator == "patchgan":
        network = partial(network, layers=model.discriminator_layers)
    width = model.discriminator_width or model.width
    widths = (max(1, round(width / 2**i)) for i in range(model.discriminator_scales))
    return models.MultiScale(tuple(network(width=w, norm=model.norm, **_initializers_and_dtype(model)) for w in widths))


def _initializers_and_dtype(model: ModelConfig) -> dict[str, Any]:
    """The attributes that all networks have in common."""
    return {
        "kernel_init": INITIALIZERS[model.initializer](model.init_gain),
        "scale_init": scale_init(model.init_gain),
        "dtype": jnp.bfloat16 if model.dtype == "bfloat16" else None,
    }


def objective(config: Config) -> Any:
    """Returns the objective `(networks, batch) -> Losses` that `config` describes."""
    options = objectives.ObjectiveOptions(
        config.weights,
        losses.GAN_LOSSES[config.gan_loss],
        sum_kl=config.kl_reduction == "sum",
        latent_trains_encoder=config.latent_trains_encoder,
        palette=palettes.PALETTES[config.data.palette],
    )
    return partial(objectives.OBJECTIVES[config.objective], options=options)


def learning_rate(config: Config) -> optax.Schedule:
    """Learning rate schedule: constant, then linear decay to zero, as `lambda_rule` of the original PyTorch code.

    learning_rate * (1 - max(0, t - n) / (decay + 1))

    t is the index of the current interval of `optimizer.held_for` steps (an epoch in the originals), n the number of intervals with a
    constant rate and decay the number of intervals that follow. BicycleGAN counts t from 1. pytorch-CycleGAN-and-pix2pix counts from 2
    (`optimizer.decay_early`), since it updates the rate before an epoch and not after it.

    If the constant or the decaying part is not a whole number of intervals, the rate changes with every step instead.
    """
    options = config.optimizer
    decay = round(options.decay_fraction * config.train.steps)
    constant = config.train.steps - decay
    has_whole_intervals = constant % options.held_for == decay % options.held_for == 0
    held, early = (options.held_for, options.decay_early) if has_whole_intervals else (1, False)

    def rate(step: Any) -> jax.Array:
        t = (step // held + 1 + early) * held
        return options.learning_rate * jnp.maximum(0, 1 - jnp.maximum(0, t - constant) / float(decay + held))

    return rate


def factors(config: Config) -> Callable[[Any], dict[str, Any]]:
    """Returns the factors of loss terms at a step: that of mode seeking falls linearly to 0 at `weights.mode_seeking_until`."""
    until = round(config.weights.mode_seeking_until * config.train.steps)
    if not until:
        return lambda step: {}
    return lambda step: {"mode_seeking": jnp.maximum(until - step, 0) / until}


def optimizer(config: Config) -> optax.GradientTransformation:
    """Returns Adam (Kingma 2015) with the learning rate schedule of `config`. Each network has its own optimizer state."""
    return optax.adam(learning_rate(config), b1=config.optimizer.beta1, b2=config.optimizer.beta2)


def game(config: Config) -> Game:
    """Returns the networks, objective and optimizer that `config` describes.

    Raises:
        ConfigError: if an option is invalid.
    """
    validate(config)
    labels.of_config(config.data)
    return Game(
        networks(config), objective(config), optimizer(config), update=config.update,
        shard=Shard(microbatches=config.train.microbatches), rematerialize=config.train.rematerialize,
        ema=config.train.ema, factors=factors(config), norm_over=config.model.norm_over,
    )  # fmt: skip


def pairs(config: Config, split: str, *, held_out: Collection[str] | None = None, listing: folder.Listing | None = None) -> Pairs:
    """Returns the image pairs of a split. Public datasets and `shapes` are prepared at first use.

    Args:
        config: the config; `config.data` is used.
        split: train, val or test; for a folder also all.
        held_out: names of the pairs that a run holds out as its val split, for a folder without one. None: `data.val_fraction` of the
            pairs are chosen.
        listing: the files of `data.path`, if they have been listed already.

    Raises:
        ConfigError: if `data.path` is empty but needed. Errors of the datasets' own modules pass through.
    """
    data = config.data
    options = {
        "direction": data.direction,
        "input_channels": data.input_channels,
        "target_channels": data.target_channels,
        "max_pairs": data.max_pairs if split == "train" else None,
        "skip_bad": data.skip_bad,
    }
    if data.input_labels:
        options["input_labels"] = labels.of_config(data)
    if data.name == "folder":
        if not data.path:
            raise ConfigError("data.path is empty: name the folder of your pairs, --config.data.path=DIR")
        options |= {f"{side}_scale": values.of_config(data, side) for side in ("input", "target")}
        options |= {"val_fraction": data.val_fraction, "held_out": held_out, "max_pixels": data.max_pixels}
        return folder.pairs(listing or data.path, split, **options)
    if data.name == "shapes":
        return shapes.pairs(split, data.prepared_dir, **options)
    return pix2pix.pairs(data.name, split, data.prepared_dir, max_pixels=data.max_pixels, **options)


def split_used(config: Config, split: str) -> str:
    """Returns the split that `pairs` reads for `split`.

    A dataset without test pairs is tested on its val pairs; a folder without val pairs, too, on its train pairs.
    """
    if config.data.name == "folder":
        return folder.split_used(folder.layout(Path(config.data.path).expanduser()), split, config.data.val_fraction)
    return "val" if split == "test" and config.data.name != "shapes" and "test" not in pix2pix.SETS[config.data.name].splits else split


def example_batch(config: Config, batch_size: int = 2) -> Batch:
    """Returns a batch of zeros with the shapes of a training batch, for `Game.init`."""
    data = config.data
    return Batch(*(jnp.zeros((batch_size, *sides(data.crop_size), c)) for c in (data.input_channels, data.target_channels)))


def mode(config: Config) -> Mode:
    """How the networks of `config` behave at test time. Dropout is off for networks without dropout layers."""
    return Mode(dropout=config.sampling.dropout and config.model.dropout, running_average=config.sampling.running_average)


def read_config(run: str | Path) -> Config:
    """Reads the config of a run.

    Args:
        run: a run folder or a packed run (a file), which may be on the hub (hf://...) or in the package (its name).

    Raises:
        ConfigError: if `run` is not a run, or its config is invalid.
        PackedError: if a packed run cannot be read.
        HubError: if it cannot be downloaded.
    """
    run = hub.local(run)
    if Path(run).is_file():
        _refuse_other_files(Path(run))
        return packed.read_config(run)
    path = Path(run) / "config.json"
    if not path.is_file():
        raise ConfigError(f"{run} is not a run: it has no config.json{_run_around(Path(run)) or _other_models(run)}")
    try:
        return from_json(path.read_text())
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def target_type(run: str | Path) -> SampleType:
    """Returns how the samples of the targets that a run was trained on are stored; as uint8 if the run does not record it.

    Raises PackedError and HubError as `read_config` does.
    """
    run = hub.local(run)
    if Path(run).is_file():
        return packed.target_type(run)
    recorded = splits.read(run)
    return SampleType() if recorded is None else recorded.target_type


def _refuse_other_files(file: Path) -> None:
    """Raises ConfigError for PyTorch files and for files inside a run folder, which cannot be packed runs."""
    if file.suffix in (".pth", ".pt"):
        raise ConfigError(f"{file} is a PyTorch file: convert it to a run with i2i convert --from=torch {file} --out=RUN")
    if around := _run_around(file):
        raise ConfigError(f"{file} is not a run{around}")


def _run_around(path: Path) -> str:
    """The end of an error message that names the run folder around `path`; empty if there is none."""
    folders = (folder for folder in path.absolute().parents if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir())
    run = next(folders, None)
    return f": it is inside the run {run}, which would do" if run else ""


def _other_models(run: str | Path) -> str:
    """The end of an error message that lists the models of the package; empty if `run` exists or cannot be the name of one."""
    if Path(run).exists() or Path(run).name != str(run):
        return ""
    return f", and is not a model of the package: these are {', '.join(pretrained.NAMES)}{nearest(str(run), pretrained.NAMES)}"


def load(
    run: str | Path, *, step: int | Literal["best"] | None = None, networks: Collection[str] | None = ("generator", "encoder")
) -> tuple[Game, TrainState]:
    """Loads a trained run for inference.

    Args:
        run: a run folder or a packed run (a file), which may be on the hub (hf://...) or in the package (its name).
        step: the checkpoint of a run folder: a step, or best. Defaults to the newest. Must be None for a packed run.
        networks: the networks to load; None: all of the run.

    Returns:
        The game, and the state of `networks` without optimizer state; with `train.ema`, their parameters are the averages.

    Raises:
        ConfigError: if `run` is not a run, its config is invalid, or `step` is given for a packed run.
        CheckpointError: if the checkpoint is missing or damaged.
        PackedError: if a packed run cannot be read.
        HubError: if it cannot be downloaded.
    """
    run = hub.local(run)
    config = read_config(run)
    networks = _network_names(run) if networks is None else networks
    built = game(config)
    state = jax.eval_shape(lambda key: built.init(key, example_batch(config)), jax.random.key(0))
    used = {name: value for name, value in state.params.items() if name in networks}
    stats = {name: value for name, value in state.batch_stats.items() if name in used}
    return built, _restore_networks(run, TrainState(state.step, used, stats, {}, state.ema), step=step)


def start_from(config: Config, state: TrainState) -> TrainState:
    """Initialises the networks from another run, `train.start_from`, for fine-tuning.

    Args:
        config: the config of the new run.
        state: its initial state.

    Returns:
        `state` with the parameters and batch statistics of all networks that the other run has. With `train.adapt_channels`, layers of
        another shape keep their initial values.

    Raises:
        ConfigError: if the networks have other shapes, unless `train.adapt_channels` allows it.
        CheckpointError: if the checkpoint is missing or damaged.
        PackedError: if a packed run cannot be read.
    """
    run = config.train.start_from
    source = hub.local(run)
    taken = _network_names(source) & state.params.keys()
    source_state = jax.eval_shape(partial(game(read_config(source)).init, batch=example_batch(read_config(source))), jax.random.key(0))
    ours, theirs = _flatten_networks(state), _flatten_networks(source_state)
    shared = {name: leaf for name, leaf in ours.items() if name.split(".")[1] in taken}
    fitting = {name: leaf for name, leaf in shared.items() if name in theirs and theirs[name].shape == leaf.shape}
    if misfits := sorted(shared.keys() - fitting.keys()):
        _refuse_other_networks(config, read_config(source), misfits[0])
    template = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for name, leaf in fitting.items()}
    parts = {"params": {}, "batch_stats": {}} | unflatten_dict(template, sep=".")
    restored = _flatten_networks(_restore_networks(source, TrainState(None, **parts, opt_state={}, ema=source_state.ema)))
    new = [*sorted(state.params.keys() - taken), *(name.removeprefix("params.") for name in misfits)]
    processes.print_once(f"starts with {', '.join(sorted(taken))} of {run}; new: {', '.join(new) or 'none'}")
    merged = unflatten_dict(ours | restored, sep=".")
    stats = {name: merged.get("batch_stats", {}).get(name, {}) for name in state.batch_stats}
    ema = {name: jax.tree.map(jnp.copy, merged["params"][name]) for name in state.ema}
    return dataclasses.replace(state, params=merged["params"], batch_stats=stats, ema=ema)


def _flatten_networks(state: TrainState) -> dict[str, Any]:
    """All parameters and batch statistics by dotted name, such as params.generator.down_0.kernel."""
    return flatten_dict({"params": state.params, "batch_stats": state.batch_stats}, sep=".")


def _refuse_other_networks(config: Config, theirs: Config, misfit: str) -> None:
    """Raises ConfigError with the option by which the networks of two runs differ, unless `train.adapt_channels` allows it."""
    own, other = flatten(config), flatten(theirs)
    shaping = ("data.input_channels", "data.target_channels", "objective", *(name for name in own if name.startswith("model.")))
    differing = [name for name in shaping if own[name] != other[name]]
    channels = set(differing) <= {"data.input_channels", "data.target_channels"}
    if channels and config.train.adapt_channels:
        return
    option = differing[0] if differing else misfit
    advice = "; train.adapt_channels=True reinitialises the layers that depend on the channels" if channels else ""
    difference = f"{option} is {own.get(option)!r}, but {other.get(option)!r} in train.start_from {config.train.start_from}"
    raise ConfigError(f"{difference}: its networks fit --config.{option}={other.get(option)} only{advice}")


def _network_names(run: str | Path) -> set[str]:
    """The names of the networks in a run folder or packed run."""
    return packed.networks(run) if Path(run).is_file() else checkpoints.networks(Path(run) / "checkpoints")


def _restore_networks(run: str | Path, template: TrainState, *, step: int | Literal["best"] | None = None) -> TrainState:
    """Restores networks, the averages of their parameters where `template.ema` names them; a packed run has these as its parameters."""
    averaged = set() if Path(run).is_file() else template.ema.keys() & template.params.keys()
    params = {name: value for name, value in template.params.items() if name not in averaged}
    averages = {name: template.params[name] for name in averaged}
    return _restore(run, dataclasses.replace(template, params=params, ema=averages), step=step).averaged()


def _restore(run: str | Path, template: Any, *, step: int | Literal["best"] | None = None) -> Any:
    """Restores the arrays of `template`, which may be any part of a TrainState, from a run folder or packed run."""
    if not Path(run).is_file():
        return checkpoints.restore_for_inference(Path(run) / "checkpoints", template, step=step)
    if step is not None:
        raise ConfigError(f"{run} is a packed run, which has only one step: leave out the step {step!r}")
    return packed.restore(run, template)
