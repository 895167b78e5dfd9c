"""What a run is: every option, its type and default, checked and kept as JSON."""

import dataclasses
import difflib
import functools
import json
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

DATASETS = ("shapes", "folder", "facades", "maps", "cityscapes", "edges2shoes", "edges2handbags", "night2day")
OBJECTIVES = ("pix2pix", "pix2pix_noise", "cae_gan", "cvae_gan", "clr_gan", "bicycle_gan", "segmenter")

PERCEPTUAL = (*(f"lpips_{v}_{net}" for v in ("v0.0", "v0.1") for net in ("alex", "vgg", "squeeze")), "squeezenet_caffe")

# Every metric and its figures that have a better direction; True: higher is better.
METRICS = {
    "l1": {"l1": False},
    "psnr": {"psnr": True},
    "ssim": {"ssim": True},
    "l1_encoded": {"l1_encoded": False},
    "latent": {"latent_consistency": False, "active_dimensions": True},
    "modes": {"modes": True, "valid": True, "total_variation": False},
    **{name: {name: False} for name in PERCEPTUAL},
    **{f"diversity_{name}": {f"diversity_{name}": True} for name in PERCEPTUAL},
    "fid": {"fid": False},
    "kid": {"kid": False},
    "frechet_squeezenet_caffe": {"frechet_squeezenet_caffe": False},
    "kernel_squeezenet_caffe": {"kernel_squeezenet_caffe": False},
    "segmentation": {"pixel_accuracy": True, "class_accuracy": True, "iou": True},
}
HIGHER_IS_BETTER = {figure: higher for figures in METRICS.values() for figure, higher in figures.items()}

CHOICES = {
    "objective": OBJECTIVES,
    "update": ("simultaneous", "alternating"),
    "gan_loss": ("vanilla", "lsgan", "hinge", "wgan"),
    "kl_reduction": ("mean", "sum"),
    "data.name": DATASETS,
    "data.direction": ("AtoB", "BtoA"),
    "model.generator": ("unet_64", "unet_128", "unet_256", "unet_512", "resnet_6", "resnet_9"),
    "model.encoder": ("resnet_64", "resnet_128", "resnet_256", "resnet_512", "conv_64", "conv_128", "conv_256", "conv_512"),
    "model.discriminator": ("patchgan", "pixel"),
    "model.norm": ("batch", "instance", "none"),
    "model.latent_at": ("all", "input"),
    "model.skip_order": ("encoder_first", "decoder_first"),
    "model.upsample": ("transposed", "bilinear"),
    "model.initializer": ("normal", "xavier", "kaiming", "orthogonal"),
    "model.dtype": ("float32", "bfloat16"),
    "train.parallel": ("shard_map", "pmap"),
    "data.palette": ("facades", "cityscapes"),
}

ENCODER_METRICS = ("l1_encoded", "latent")

WITHOUT_LATENT = ("pix2pix", "segmenter")

# These have an encoder, and split a batch in two halves.
WITH_ENCODER = ("cae_gan", "cvae_gan", "clr_gan", "bicycle_gan")

# Height and width of the images that a generator takes are multiples of this.
SIZE_MULTIPLES = {"unet_64": 64, "unet_128": 128, "unet_256": 256, "unet_512": 512, "resnet_6": 4, "resnet_9": 4}

# Inclusive bounds; None is no bound.
BOUNDS = {
    "data.load_size": (1, None),
    "data.crop_size": (1, None),
    "data.batch_size": (1, None),
    "data.input_channels": (1, None),
    "data.target_channels": (1, None),
    "data.max_pairs": (1, None),
    "data.max_pixels": (1, None),
    "data.val_fraction": (0, 0.5),
    "data.cache_gb": (0, None),
    "model.width": (1, None),
    "model.encoder_width": (1, None),
    "model.discriminator_width": (1, None),
    "model.discriminator_layers": (1, 6),
    "model.discriminator_scales": (1, 4),
    "model.latent_dim": (0, None),
    "model.init_gain": (0, None),
    "weights.gan": (0, None),
    "weights.gan_prior": (0, None),
    "weights.l1": (0, None),
    "weights.kl": (0, None),
    "weights.latent": (0, None),
    "weights.gradient_penalty": (0, None),
    "optimizer.learning_rate": (0, None),
    "optimizer.beta1": (0, 0.9999),
    "optimizer.beta2": (0, 0.999999),
    "optimizer.decay_fraction": (0, 1),
    "optimizer.held_for": (1, None),
    "train.steps": (1, None),
    "train.log_every": (1, None),
    "train.sample_every": (1, None),
    "train.checkpoint_every": (1, None),
    "train.eval_every": (1, None),
    "train.keep": (1, None),
    "train.samples": (1, None),
    "train.seed": (0, 2**32 - 1),
    "train.microbatches": (1, None),
    "eval.inputs": (1, None),
    "eval.samples": (1, None),
    "eval.batch_size": (1, None),
}

# A resumed run may change these; everything else is part of what the run is.
RESUMABLE = ("train.steps", "train.log_every", "train.sample_every", "train.checkpoint_every", "train.eval_every", "train.keep",
             "train.wandb", "train.debug_nans", "data.path", "data.prepared_dir", "data.skip_bad", "data.max_pixels", "data.cache_gb",
             "eval.batch_size", "eval.pretrained_dir", "eval.segmenter")  # fmt: skip


@dataclass
class DataConfig:
    name: str = "shapes"  # shapes (generated), folder (your pairs), or a public set
    path: str = ""  # the folder of your pairs, of data.name folder
    prepared_dir: str = ""  # where a set that is made or downloaded is kept ("": the user's cache folder)
    direction: str = "AtoB"  # AtoB: left (or folder A) is the input; BtoA: right (or folder B) is
    load_size: int = 286  # both images are resized to this square, in pixels, ...
    crop_size: int = 256  # ... then cropped to this one at random: the size that networks train at
    batch_size: int = 2  # pairs per step, over all devices
    flip: bool = True  # mirror half of the pairs
    input_channels: int = 3  # 1: read as grey
    target_channels: int = 3  # 1: read as grey
    palette: str = "facades"  # the colours of label maps, to the objective segmenter
    val_fraction: float = 0.1  # share of the training pairs held out where a folder has no val split; 0: these are measured on
    max_pairs: int | None = None  # use at most this many training pairs
    max_pixels: int = 100_000_000  # refuse an image file of more pixels than this
    skip_bad: bool = False  # leave out pairs that cannot be read and say which; False: they are refused
    cache_gb: float = 4.0  # a set that fits in this many GB is decoded once and kept in memory


@dataclass
class ModelConfig:
    generator: str = "unet_256"  # unet_N halves an N-pixel image down to one pixel; resnet_N has N residual blocks
    width: int = 64  # channels of the first layer
    norm: str = "instance"  # of all networks; instance: each image by itself
    latent_dim: int = 8  # size of z; systems without z ignore it
    latent_at: str = "all"  # z enters at the input of all down convolutions, or at the input only
    skip: bool = True  # U-Net; False: the encoder-decoder of pix2pix's ablation
    skip_order: str = "decoder_first"  # channel order at a skip: BicycleGAN's and Torch pix2pix's, or PyTorch pix2pix's
    upsample: str = "transposed"  # bilinear: no checkerboards
    dropout: bool = False  # drop half the activations in the decoder (U-Net) or blocks (ResNet)
    encoder: str = "resnet_256"  # KIND_SIZE: the size in pixels that it is made for; systems without z have none
    encoder_width: int | None = None  # None: as width
    discriminator: str = "patchgan"  # pixel: judges each pixel by itself
    discriminator_width: int | None = None  # None: as width
    discriminator_layers: int = 3  # PatchGAN receptive field for 1..6 layers: 16, 34, 70, 142, 286, 574 pixels
    discriminator_scales: int = 2  # discriminators at full, half, quarter ... size
    conditional: bool = True  # the discriminator sees the input too
    shared_discriminator: bool = False  # one discriminator for both branches of BicycleGAN
    initializer: str = "xavier"  # of the weights of convolutions
    init_gain: float = 0.02  # their scale
    dtype: str = "float32"  # of the computation; parameters and statistics stay float32


@dataclass
class WeightsConfig:
    gan: float = 1.0  # on the encoded image (cVAE-GAN branch), or on pix2pix's only one
    gan_prior: float = 1.0  # on the image from a random z (cLR-GAN branch)
    l1: float = 10.0  # distance to the target, of the encoded image or of pix2pix's only one
    kl: float = 0.01  # holds the encoder near N(0, I)
    latent: float = 0.5  # L1 between a random z and the one found again in its image
    gradient_penalty: float = 10.0  # of gan_loss wgan


@dataclass
class OptimizerConfig:
    learning_rate: float = 2e-4  # Adam's, for every network
    beta1: float = 0.5  # Adam's
    beta2: float = 0.999  # Adam's
    decay_fraction: float = 0.5  # the learning rate falls linearly to zero over this last share of the steps
    held_for: int = 1  # steps for which the learning rate is held: an epoch's on the public sets, where train.steps are whole epochs
    decay_early: bool = False  # it falls by one held_for earlier, as in pytorch-CycleGAN-and-pix2pix, whose last epoch has a rate of 0


@dataclass
class TrainConfig:
    steps: int = 100_000  # a batch each
    log_every: int = 100  # steps between two lines of losses
    sample_every: int = 1_000  # steps between two sample grids
    checkpoint_every: int = 1_000  # steps between two checkpoints; one is saved at every evaluation too
    eval_every: int = 5_000  # steps between two evaluations on held-out pairs
    keep: int = 3  # newest checkpoints kept, beside the best
    samples: int = 4  # random translations of each input in a sample grid
    seed: int = 0  # of everything random in the run
    start_from: str = ""  # a run whose networks this one starts with; optimizers and steps start anew
    adapt_channels: bool = False  # of start_from: layers that read or make another number of channels start anew
    wandb: str = ""  # a project of Weights & Biases that gets the losses as well; needs the extra wandb
    parallel: str = "shard_map"  # how the step is mapped over devices; pmap: as it once was
    microbatches: int = 1  # parts in which a device computes its batch, one after another: less memory, the same step
    debug_nans: bool = False  # look after every step for numbers that are none, and name the gradient that they come from
    rematerialize: bool = False  # keep only convolutions' outputs for the backward pass and compute the rest again: less memory


@dataclass
class EvalConfig:
    metrics: str = ""  # what is measured, with commas between; "": all that suits the run and needs no pretrained network
    best_metric: str = "l1"  # the figure that chooses the best checkpoint
    inputs: int = 100  # images evaluated, at most
    samples: int = 10  # translations of each
    batch_size: int = 4  # inputs evaluated at a time, over all devices
    pretrained_dir: str = ""  # folder of pretrained weights ("": the user's cache folder, into which published ones are downloaded)
    segmenter: str = ""  # of the metric segmentation: the run that makes label maps from targets


@dataclass
class SamplingConfig:
    dropout: bool = False  # keep dropout on at test time (pix2pix: its only noise)
    running_average: bool = False  # batch norm: use the training's statistics, not those of the test image


@dataclass
class Config:
    """A whole run. Check it with `validate`; `to_json` and `from_json` keep it in the run's folder."""

    objective: str = "bicycle_gan"  # the system
    update: str = "simultaneous"  # alternating: the discriminator steps first, the generator against the new one
    gan_loss: str = "lsgan"  # wgan: with gradient penalty
    kl_reduction: str = "mean"  # over the batch; sum: as BicycleGAN's code, where the weight grows with the batch
    latent_trains_encoder: bool = False  # BicycleGAN: the latent loss trains the encoder too, as the paper warns against
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


class ConfigError(ValueError):
    """An option that cannot be: the message names it, what was found and what would do."""


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names to values, in the order of declaration."""
    flat = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        nested = dataclasses.is_dataclass(value)
        flat |= flatten(value, f"{prefix}{f.name}.") if nested else {prefix + f.name: value}
    return flat


def override(config: Config, options: dict[str, Any]) -> Config:
    """Sets options by their dotted names, in place, and returns `config`. Raises ConfigError on a name that is no option."""
    known = flatten(config)
    for name, value in options.items():
        if name not in known:
            raise ConfigError(f"unknown option {name}{nearest(name, known)}")
        *sections, option = name.split(".")
        setattr(functools.reduce(getattr, sections, config), option, value)
    return config


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing."""
    matches = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def validate(config: Config) -> Config:
    """Returns `config`; raises ConfigError naming the first option that is out of its choices or bounds."""
    flat = flatten(config)
    for name, choices in CHOICES.items():
        if flat[name] not in choices:
            raise ConfigError(f"unknown {name} {flat[name]!r}: one of {', '.join(choices)}{nearest(str(flat[name]), choices)}")
    for name, (low, high) in BOUNDS.items():
        value = flat[name]
        if value is not None and not ((low is None or value >= low) and (high is None or value <= high)):
            bounds = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ConfigError(f"{name} is {value}: must be {bounds}")
    if config.data.path and config.data.name != "folder":
        train_there = f"data.name=folder trains on the pairs in {config.data.path}, data.prepared_dir says where {config.data.name} is kept"
        raise ConfigError(f"data.path is {config.data.path!r}, but data.name {config.data.name!r}: {train_there}")
    if config.data.load_size < config.data.crop_size:
        raise ConfigError(f"data.load_size {config.data.load_size} is smaller than data.crop_size {config.data.crop_size}")
    if config.objective not in WITHOUT_LATENT and config.model.latent_dim == 0:
        raise ConfigError(f"model.latent_dim is 0: {config.objective} needs at least 1")
    if config.objective == "segmenter" and config.data.target_channels != 3:
        raise ConfigError(f"data.target_channels is {config.data.target_channels}: label maps are told apart by colour: must be 3")
    if config.data.batch_size % (least := least_batch(config)):
        halves = f"{config.objective} splits a batch in two halves" if config.objective in WITH_ENCODER else ""
        parts = f"train.microbatches is {config.train.microbatches}" if config.train.microbatches > 1 else ""
        why = " and ".join(filter(None, (halves, parts)))
        raise ConfigError(f"data.batch_size is {config.data.batch_size}: {why}: must be a multiple of {least}")
    _validate_sizes(config)
    _validate_best(config)
    return config


def _validate_sizes(config: Config) -> None:
    """Every network has at least one pixel, or patch, to compute with."""
    size, model = config.data.crop_size, config.model
    multiple = SIZE_MULTIPLES[model.generator]
    if size % multiple:
        near = max(multiple, round(size / multiple) * multiple)
        fitting = max((name for name, of in SIZE_MULTIPLES.items() if size % of == 0), key=SIZE_MULTIPLES.__getitem__, default="")
        other = f", or model.generator={fitting}" if fitting else ""
        why = f"model.generator {model.generator} takes multiples of {multiple}"
        raise ConfigError(f"data.crop_size is {size}: {why}: data.crop_size={near} would do{other}")
    if model.generator.startswith("resnet") and size < 8:
        raise ConfigError(f"data.crop_size is {size}: model.generator {model.generator} needs at least 8")
    if has_encoder(config) and size < (smallest := int(model.encoder.split("_")[1]) // 8):
        raise ConfigError(f"data.crop_size is {size}: model.encoder {model.encoder} needs at least {smallest}")
    if model.discriminator == "patchgan":
        last = -(-size // 2 ** (model.discriminator_scales - 1))  # pixels of the smallest scale
        if last // 2**model.discriminator_layers < 3:  # two convolutions of 4 pixels, without a stride, follow the halvings
            most = next((layers for layers in range(model.discriminator_layers, 0, -1) if last // 2**layers >= 3), 0)
            fewer = f"model.discriminator_layers={most} would do" if most else "model.discriminator=pixel would do"
            at = f"data.crop_size {size}, {last} at the smallest of {model.discriminator_scales} model.discriminator_scales"
            raise ConfigError(f"model.discriminator_layers is {model.discriminator_layers}: too many for {at}: {fewer}")


def least_batch(config: Config) -> int:
    """The number of pairs of which every device's batch is a multiple."""
    return config.train.microbatches * (2 if config.objective in WITH_ENCODER else 1)


def batch_for(config: Config, devices: int) -> int:
    """The smallest batch, of no fewer pairs than data.batch_size, that can be dealt to so many devices."""
    return config.data.batch_size + -config.data.batch_size % (least_batch(config) * devices)


def metrics(config: Config) -> tuple[str, ...]:
    """Those measured: the ones named, else all that suit the run and need no pretrained network. Raises ConfigError."""
    suitable = ("l1", "psnr", "ssim", *(ENCODER_METRICS if has_encoder(config) else ()), *(("modes",) if knows_modes(config) else ()))
    return metric_names(config.eval.metrics) if config.eval.metrics else suitable


def metric_names(text: str) -> tuple[str, ...]:
    """Of metrics with commas between. Raises ConfigError naming the first that does not exist."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"unknown metric {name!r}: one of {', '.join(METRICS)}{nearest(name, METRICS)}")
    return names


def knows_modes(config: Config) -> bool:
    """Whether every right answer to an input is known."""
    return config.data.name == "shapes" and config.data.direction == "AtoB" and config.data.target_channels == 3


def has_encoder(config: Config) -> bool:
    return config.objective in WITH_ENCODER


def validate_metrics(config: Config) -> tuple[str, ...]:
    """Those measured. Raises ConfigError naming the first that does not suit the run."""
    chosen = metrics(config)
    for name in chosen:
        if name == "modes" and not knows_modes(config):
            raise ConfigError(f"metric {name!r} can be measured on data.name 'shapes', AtoB, in colour only: l1 would do")
        if name in ENCODER_METRICS and not has_encoder(config):
            raise ConfigError(f"metric {name!r}: {config.objective} has no encoder: l1 would do")
        if name.startswith("diversity_") and config.eval.samples < 2:
            raise ConfigError(f"metric {name!r} compares samples of one input: eval.samples must be at least 2")
        if name.startswith("diversity_") and config.objective in WITHOUT_LATENT and not config.sampling.dropout:
            raise ConfigError(f"metric {name!r}: pix2pix without sampling.dropout has one output an input")
    return chosen


def _validate_best(config: Config) -> None:
    figures = [figure for name in validate_metrics(config) for figure in METRICS[name]]
    if config.eval.best_metric not in figures:
        raise ConfigError(
            f"eval.best_metric is {config.eval.best_metric!r}, which this run does not measure: one of {', '.join(figures)} would do"
        )


def to_json(config: Config) -> str:
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> Config:
    """Inverse of `to_json`; raises ConfigError on text that is no such config."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON: {error}") from None
    return validate(_from_dict(Config, _in_todays_words(values)))


def _in_todays_words(values: Any) -> Any:
    """Of runs of version 0.1 too, whose data.path said where a prepared set was kept."""
    data = values.get("data") if isinstance(values, dict) else None
    if (
        isinstance(data, dict)
        and "prepared_dir" not in data
        and data.get("name", "shapes") != "folder"
        and isinstance(data.get("path"), str)
    ):
        data["prepared_dir"] = data.pop("path")
    return values


def _from_dict(cls: type, values: Any, prefix: str = "") -> Any:
    hints = typing.get_type_hints(cls)
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.') or 'config'} is {values!r}: must be an object")
    if unknown := set(values) - set(hints):
        name = sorted(unknown)[0]
        shown = f"{prefix}{name}"
        raise ConfigError(f"unknown option {shown if shown.isprintable() else repr(shown)}{nearest(name, hints)}")
    kwargs = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            kwargs[name] = _from_dict(typing.cast(type, hint), value, f"{prefix}{name}.")
            continue
        allowed = typing.get_args(hint) or (hint,)
        if float in allowed and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) not in allowed:
            expected = " or ".join(t.__name__ for t in allowed if t is not type(None))
            raise ConfigError(f"{prefix}{name} is {value!r}: must be {expected}")
        kwargs[name] = value
    return cls(**kwargs)


def changed(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """The options that differ and that a resumed run may not change: name to (old, new)."""
    before, after = flatten(old), flatten(new)
    return {name: (before[name], after[name]) for name in before if before[name] != after[name] and name not in RESUMABLE}
