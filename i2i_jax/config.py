"""The configuration of a run: every option with its type, default, choices, bounds and meaning."""

import contextlib
import dataclasses
import difflib
import functools
import json
import math
import re
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

DATASETS = ("shapes", "folder", "facades", "maps", "cityscapes", "edges2shoes", "edges2handbags", "night2day")
OBJECTIVES = ("pix2pix", "pix2pix_noise", "cae_gan", "cvae_gan", "clr_gan", "bicycle_gan", "segmenter")
WITHOUT_LATENT = ("pix2pix", "segmenter")
WITH_ENCODER = ("cae_gan", "cvae_gan", "clr_gan", "bicycle_gan")  # these split a batch in two halves
WITH_PRIOR = ("pix2pix_noise", "clr_gan", "bicycle_gan")  # these generate images from a random z

PERCEPTUAL = (*(f"lpips_{v}_{net}" for v in ("v0.0", "v0.1") for net in ("alex", "vgg", "squeeze")), "squeezenet_caffe")

# Every metric, and its values that can be compared; True: higher is better.
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
    "fjd": {"fjd": False},
    "precision_recall": {"precision": True, "recall": True},
    "frechet_squeezenet_caffe": {"frechet_squeezenet_caffe": False},
    "kernel_squeezenet_caffe": {"kernel_squeezenet_caffe": False},
    "fjd_squeezenet_caffe": {"fjd_squeezenet_caffe": False},
    "precision_recall_squeezenet_caffe": {"precision_squeezenet_caffe": True, "recall_squeezenet_caffe": True},
    "segmentation": {"pixel_accuracy": True, "class_accuracy": True, "iou": True},
}
HIGHER_IS_BETTER = {figure: higher for figures in METRICS.values() for figure, higher in figures.items()}
ENCODER_METRICS = ("l1_encoded", "latent")

# Height and width of the images that a generator takes are multiples of this.
SIZE_MULTIPLES = {"unet_64": 64, "unet_128": 128, "unet_256": 256, "unet_512": 512, "resnet_6": 4, "resnet_9": 4}

# What versions before 0.3 called options, networks and loss terms: their runs, packed models and command lines still load.
OLD_NAMES = {
    "weights.gan_lr": "weights.gan_prior",
    "eval.weights": "eval.pretrained_dir",
    "discriminator_lr": "discriminator_prior",
    "generator/gan_lr": "generator/gan_prior",
    "discriminator/gan_lr": "discriminator/gan_prior",
}


@functools.lru_cache(maxsize=4096)  # every row of metrics.jsonl has the same names
def current_name(name: str) -> str:
    """Today's name of an option, of a network or its parameter (params.NETWORK.LAYER), or of a loss term (PLAYER/TERM)."""
    return OLD_NAMES.get(name) or "".join(OLD_NAMES.get(part, part) for part in re.split(r"([./])", name))


class ConfigError(ValueError):
    """An option that cannot be used: the message names it, what was found and what would do."""


class Option(NamedTuple):
    """The meaning, choices and bounds of an option, kept in the metadata of its field."""

    help: str
    choices: tuple[str, ...] = ()
    low: float | None = None  # inclusive bounds; None is no bound
    high: float | None = None
    resumable: bool = False  # a resumed run may change it; everything else is part of what the run is

    def allowed(self) -> str:
        """Its choices or bounds in words; "" if any value of its type is allowed."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return "" if self.low is None else f"at least {self.low}" if self.high is None else f"from {self.low} to {self.high}"

    def allows(self, value: Any) -> bool:
        """Whether `value` is one of the choices, or within the bounds; None always is."""
        if self.choices:
            return value in self.choices
        value = min(sides(value)) if isinstance(value, str) and self.low is not None else value
        return value is None or ((self.low is None or value >= self.low) and (self.high is None or value <= self.high))


if typing.TYPE_CHECKING:
    Size = int | str
else:

    class _SizeType(type):
        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, int | str)

    class Size(metaclass=_SizeType):
        """The type of an option that is a number of pixels or the text HEIGHTxWIDTH; ml_collections accepts no `int | str`."""


def sides(size: int | str) -> tuple[int, int]:
    """Height and width of a size in pixels: a number for a square, or the text HEIGHTxWIDTH. Raises ConfigError."""
    if isinstance(size, int):
        return size, size
    numbers = size.strip().split("x")
    if not all(number.isdecimal() for number in numbers) or len(numbers) > 2:
        raise ConfigError(f"is {size!r}: must be a number of pixels, or HEIGHTxWIDTH, for example 256x512")
    return int(numbers[0]), int(numbers[-1])


def size_text(height: int, width: int) -> int | str:
    """The value of an option for this height and width; the inverse of `sides`."""
    return height if height == width else f"{height}x{width}"


def option(default: Any, help: str, **known: Any) -> Any:
    """A field of the config: its default, its meaning, and the rest of `Option` by name."""
    return field(default=default, metadata={"option": Option(help, **known)})


class Section:
    """Options that belong together. Setting an unknown one raises ConfigError; names from before version 0.3 still work."""

    def __setattr__(self, name: str, value: Any) -> None:
        known = [f.name for f in dataclasses.fields(typing.cast(Any, self))]
        if name not in known:
            renamed = {old.rpartition(".")[2]: new.rpartition(".")[2] for old, new in OLD_NAMES.items() if "." in old}
            if renamed.get(name) not in known:
                raise ConfigError(f"unknown option {name} of {type(self).__name__}{nearest(name, known)}")
            name = renamed[name]
        super().__setattr__(name, value)


SIZES = ("data.load_size", "data.crop_size")  # options that are a number of pixels or HEIGHTxWIDTH
RESIZES = ("square", "width", "none", "pad")


@dataclass
class DataConfig(Section):
    name: str = option("shapes", "shapes (generated), folder (your pairs), or a public set", choices=DATASETS)
    path: str = option("", "the folder of your pairs, for data.name=folder", resumable=True)
    prepared_dir: str = option(
        "", "where a set that is generated or downloaded is kept (empty: the user's cache directory)", resumable=True
    )
    direction: str = option(
        "AtoB", "the input: AtoB, the left half (or folder A); BtoA, the right half (or folder B)", choices=("AtoB", "BtoA")
    )
    resize: str = option(
        "square",
        "square: both images are resized to data.load_size, whatever their proportions; width: scaled until data.load_size wide; none: "
        "crops of the images as they are; pad: scaled to fit into data.load_size, the rest filled by reflection",
        choices=RESIZES,
    )
    load_size: Size = option(286, "size of the resized images before the crop, in pixels, or HEIGHTxWIDTH; see data.resize", low=1)
    crop_size: Size = option(
        256, "random crop after the resize, in pixels, or HEIGHTxWIDTH such as 256x512: the size that the networks train at", low=1
    )
    batch_size: int = option(2, "pairs per step, over all devices", low=1)
    flip: bool = option(True, "mirror half of the pairs left to right")
    flip_vertical: bool = option(False, "mirror half of the pairs top to bottom")
    rotate: bool = option(False, "rotate each pair by a random multiple of 90 degrees")
    input_channels: int = option(3, "channels of the input; 1: read as grey", low=1)
    target_channels: int = option(3, "channels of the target; 1: read as grey", low=1)
    input_range: str = option(
        "auto",
        "the values of the inputs that become -1 and 1: LOW,HIGH in the files' units, such as 0,4095; auto: by type, 0,255 or 0,65535 or "
        "-32768,32767; floats need LOW,HIGH",
    )
    target_range: str = option("auto", "the values of the targets that become -1 and 1, like data.input_range")
    input_labels: str = option(
        "",
        "inputs are label maps, one channel for each class: N (grey or palette PNGs with class ids 0 to N - 1), facades, cityscapes, or a "
        "JSON file of colours",
    )
    palette: str = option("facades", "the colours of the label maps, for objective=segmenter", choices=("facades", "cityscapes"))
    val_fraction: float = option(
        0.1,
        "fraction of the training pairs held out where a folder has no val split; 0: evaluation uses the training pairs",
        low=0,
        high=0.5,
    )
    max_pairs: int | None = option(None, "use at most this many training pairs", low=1)
    max_pixels: int = option(100_000_000, "refuse an image file with more pixels than this", low=1, resumable=True)
    skip_bad: bool = option(False, "leave out pairs that cannot be read, and list them; False: they are an error", resumable=True)
    cache_gb: float = option(4.0, "a set that fits in this many GB is decoded once and kept in memory", low=0, resumable=True)
    disk_cache_gb: float = option(
        100.0, "a larger set is decoded once and kept in the user's cache directory, in at most this many GB; 0: off", low=0, resumable=True
    )

    def __setattr__(self, name: str, value: Any) -> None:
        if f"data.{name}" in SIZES and isinstance(value, str):
            with contextlib.suppress(ConfigError):  # `validate` reports it
                value = size_text(*sides(value))
        super().__setattr__(name, value)


@dataclass
class ModelConfig(Section):
    generator: str = option(
        "unet_256",
        "unet_N halves an N-pixel image down to one pixel; resnet_N has N residual blocks",
        choices=("unet_64", "unet_128", "unet_256", "unet_512", "resnet_6", "resnet_9"),
    )
    width: int = option(64, "channels of the generator's first layer, and of networks whose own width is None", low=1)
    norm: str = option("instance", "normalization of all networks; instance: each image by itself", choices=("batch", "instance", "none"))
    norm_over: str = option(
        "device",
        "batch norm's statistics are those of each device's rows, or of the whole batch over all devices",
        choices=("device", "batch"),
    )
    latent_dim: int = option(8, "dimensions of z; systems without z ignore it", low=0)
    latent_at: str = option("all", "z is fed to every down-convolution, or to the first only", choices=("all", "input"))
    skip: bool = option(True, "skip connections of the U-Net; False: the encoder-decoder of pix2pix's ablation")
    skip_order: str = option(
        "decoder_first",
        "channel order at a skip connection: decoder_first as BicycleGAN and the Lua pix2pix, encoder_first as the PyTorch pix2pix",
        choices=("encoder_first", "decoder_first"),
    )
    upsample: str = option(
        "transposed",
        "upsampling layers: transposed convolution, as the originals; or a resize, bilinear or nearest, and a convolution, which leaves no "
        "checkerboards (nearest is computed as one transposed convolution)",
        choices=("transposed", "bilinear", "nearest"),
    )
    dropout: bool = option(False, "drop half the activations in the decoder (U-Net) or blocks (ResNet)")
    encoder: str = option(
        "resnet_256",
        "KIND_SIZE: the image size in pixels that it is made for; systems without z have none",
        choices=("resnet_64", "resnet_128", "resnet_256", "resnet_512", "conv_64", "conv_128", "conv_256", "conv_512"),
    )
    encoder_width: int | None = option(None, "channels of the encoder's first layer; None: the same as model.width", low=1)
    posterior_std: float = option(
        0.0,
        "standard deviation of the latent that is sampled for a target, the same for all (Ghosh 2020); 0: the encoder predicts it",
        low=0,
    )
    discriminator: str = option(
        "patchgan", "patchgan: classifies overlapping patches; pixel: each pixel by itself", choices=("patchgan", "pixel")
    )
    discriminator_width: int | None = option(None, "channels of the discriminator's first layer; None: the same as model.width", low=1)
    discriminator_layers: int = option(
        3, "number of stride-2 convolutions of patchgan; with 1..6 it sees 16, 34, 70, 142, 286, 574 pixels", low=1, high=6
    )
    discriminator_scales: int = option(2, "number of discriminators, at full, half, quarter ... image size", low=1, high=4)
    conditional: bool = option(True, "the discriminator sees the input too")
    shared_discriminator: bool = option(False, "one discriminator for both branches of BicycleGAN")
    initializer: str = option("xavier", "initializer of the convolutions' weights", choices=("normal", "xavier", "kaiming", "orthogonal"))
    init_gain: float = option(0.02, "standard deviation (normal) or gain of the initial weights", low=0)
    dtype: str = option(
        "float32", "number format of the computation; parameters and statistics stay float32", choices=("float32", "bfloat16")
    )


@dataclass
class WeightsConfig(Section):
    gan: float = option(1.0, "weight of the GAN loss on the image from the encoded z (cVAE-GAN branch), or on pix2pix's output", low=0)
    gan_prior: float = option(1.0, "weight of the GAN loss on the image from a random z (cLR-GAN branch)", low=0)
    l1: float = option(
        10.0, "weight of the L1 distance between target and output (with an encoder: the output from the target's own z)", low=0
    )
    kl: float = option(0.01, "weight of the KL divergence of the encoder's posterior from N(0, I)", low=0)
    latent: float = option(0.5, "weight of the L1 distance between a random z and the z that the encoder recovers from its image", low=0)
    mode_seeking: float = option(
        0.0, "weight of the mode seeking loss (Mao 2019), which makes the images of one input from two latents differ", low=0
    )
    mode_seeking_until: float = option(
        0.0, "the weight of mode seeking falls linearly to 0 over this first fraction of the steps; 0: it is constant", low=0, high=1
    )
    gradient_penalty: float = option(10.0, "weight of the gradient penalty, with gan_loss=wgan", low=0)


@dataclass
class OptimizerConfig(Section):
    learning_rate: float = option(2e-4, "Adam's step size, for every network", low=0)
    beta1: float = option(0.5, "Adam's decay rate of the mean gradient", low=0, high=0.9999)
    beta2: float = option(0.999, "Adam's decay rate of the mean squared gradient", low=0, high=0.999999)
    decay_fraction: float = option(0.5, "the learning rate decays linearly to zero over this last fraction of the steps", low=0, high=1)
    held_for: int = option(
        1, "steps between two changes of the learning rate: one epoch on the public sets, if train.steps is a whole number of epochs", low=1
    )
    decay_early: bool = option(
        False, "decay begins one held_for earlier, as in pytorch-CycleGAN-and-pix2pix, whose last epoch has learning rate 0"
    )


@dataclass
class TrainConfig(Section):
    steps: int = option(100_000, "training steps, one batch each", low=1, resumable=True)
    log_every: int = option(100, "steps between two lines of losses", low=1, resumable=True)
    sample_every: int = option(1_000, "steps between two sample grids", low=1, resumable=True)
    checkpoint_every: int = option(1_000, "steps between two checkpoints; one is saved at every evaluation too", low=1, resumable=True)
    eval_every: int = option(5_000, "steps between two evaluations on held-out pairs", low=1, resumable=True)
    keep: int = option(3, "number of newest checkpoints kept, in addition to the best one", low=1, resumable=True)
    samples: int = option(4, "random translations of each input in a sample grid", low=1)
    seed: int = option(0, "seed of everything random in the run", low=0, high=2**32 - 1)
    start_from: str = option("", "a run whose trained networks this one starts from; optimizer state and step count start from zero")
    adapt_channels: bool = option(False, "with start_from: layers whose number of channels differs are initialized again")
    wandb: str = option("", "a Weights & Biases project that receives the losses too; needs the extra wandb", resumable=True)
    ema: float = option(
        0.0,
        "decay of the moving average of the generator's and the encoder's weights that samples, evaluation and inference use, such as"
        " 0.999 (0: none)",
        low=0,
        high=0.999999,
    )
    parallel: str = option("shard_map", "how the step is mapped over devices: shard_map, or the older pmap", choices=("shard_map", "pmap"))
    microbatches: int = option(
        1,
        "number of parts in which each device computes its batch: less memory; the same step, except with batch norm or mode seeking",
        low=1,
    )
    profile: str = option("", "START:COUNT: write a trace of COUNT steps from step START on to RUN/profile, such as 100:20", resumable=True)
    debug_nans: bool = option(False, "check for NaN and Inf after every step, and name the gradient they come from", resumable=True)
    rematerialize: bool = option(False, "keep only the convolutions' outputs for the backward pass and recompute the rest: less memory")


@dataclass
class EvalConfig(Section):
    metrics: str = option("", "metrics to evaluate, comma-separated (empty: all that apply to the run and need no pretrained network)")
    best_metric: str = option("l1", "the figure by which the best checkpoint is chosen")
    inputs: int = option(100, "maximum number of inputs evaluated", low=1)
    samples: int = option(10, "random translations of each input", low=1)
    batch_size: int = option(4, "inputs evaluated at a time, over all devices", low=1, resumable=True)
    pretrained_dir: str = option(
        "",
        "folder of pretrained weights for metrics (empty: the user's cache directory, where published weights are downloaded)",
        resumable=True,
    )
    segmenter: str = option("", "for the metric segmentation: a run trained to turn targets into label maps", resumable=True)


@dataclass
class SamplingConfig(Section):
    dropout: bool = option(False, "keep dropout on at test time (pix2pix's only source of noise)")
    running_average: bool = option(False, "batch norm uses the running averages of training, not the statistics of the test image")


@dataclass
class Config(Section):
    """All options of a run. `validate` checks them; `to_json` and `from_json` keep them in the run's folder."""

    objective: str = option("bicycle_gan", "the objective to train", choices=OBJECTIVES)
    update: str = option(
        "simultaneous",
        "simultaneous: all networks step at once; alternating: the discriminator first, then the generator against the new one",
        choices=("simultaneous", "alternating"),
    )
    gan_loss: str = option("lsgan", "GAN loss; wgan comes with a gradient penalty", choices=("vanilla", "lsgan", "hinge", "wgan"))
    kl_reduction: str = option(
        "mean",
        "reduction of the KL term over the batch; sum: as in BicycleGAN's code, where its weight grows with the batch size",
        choices=("mean", "sum"),
    )
    latent_trains_encoder: bool = option(False, "BicycleGAN: the latent loss trains the encoder too, which the paper warns against")
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


def flatten(config: Any) -> dict[str, Any]:
    """The options of a config, or of one of its sections, by dotted name and in the order of declaration."""
    return {name: value for name, value, _ in _fields(config)}


def _fields(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field]]:
    """The dotted name, the value and the field of every option."""
    for f in dataclasses.fields(section):
        value, name = getattr(section, f.name), prefix + f.name
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{name}.")
        else:
            yield name, value, f


OPTIONS: dict[str, Option] = {name: f.metadata["option"] for name, _, f in _fields(Config())}
TYPES: dict[str, str] = {
    name: "int | str" if f.type is Size else getattr(f.type, "__name__", str(f.type)) for name, _, f in _fields(Config())
}


def override(config: Config, options: dict[str, Any]) -> Config:
    """Sets options by dotted name, in place, and returns `config`. Raises ConfigError if a name is not an option."""
    known = flatten(config)
    for name, value in options.items():
        if name not in known:
            raise ConfigError(f"unknown option {name}{nearest(name, known)}")
        *sections, option = name.split(".")
        setattr(functools.reduce(getattr, sections, config), option, value)
    return config


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a message about a misspelt name: ` (did you mean 'x'?)`, or "" if no name is close."""
    matches = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def validate(config: Config) -> Config:
    """Checks every option by itself, then those that depend on each other.

    Returns:
        `config`, unchanged.

    Raises:
        ConfigError: an option is not one of its choices, out of bounds, or does not go with another one.
    """
    _validate_syntax(config)
    for name, value in flatten(config).items():
        known = OPTIONS[name]
        if known.choices and value not in known.choices:
            raise ConfigError(f"unknown {name} {value!r}: {known.allowed()}{nearest(str(value), known.choices)}")
        if not known.allows(value):
            raise ConfigError(f"{name} is {value}: must be {known.allowed()}")
    profiled_steps(config.train.profile)
    _validate_data(config)
    _validate_batch(config)
    _validate_sizes(config)
    _validate_best(config)
    return config


def _validate_syntax(config: Config) -> None:
    for name in SIZES:
        value = flatten(config)[name]
        if not isinstance(value, int | str):
            raise ConfigError(f"{name} is {value!r}: must be a number of pixels, or HEIGHTxWIDTH, for example 256x512")
        try:
            sides(value)
        except ConfigError as error:
            raise ConfigError(f"{name} {error}") from None


def value_range(name: str, text: str) -> tuple[float, float] | None:
    """The limits of data.input_range or data.target_range; None: by the type of the samples. Raises ConfigError."""
    if text == "auto":
        return None
    try:
        low, high = map(float, text.split(","))
        if -math.inf < low < high < math.inf:
            return low, high
    except ValueError:
        pass
    raise ConfigError(f"{name} is {text!r}: must be auto, or LOW,HIGH in the files' units with LOW below HIGH, such as 0,4095")


def profiled_steps(text: str) -> range:
    """The steps of train.profile, START:COUNT; none if it is empty. Raises ConfigError."""
    if not text:
        return range(0)
    start, _, count = text.partition(":")
    if start.isdecimal() and count.isdecimal() and int(start) > 0 and int(count) > 0:
        return range(int(start), int(start) + int(count))
    raise ConfigError(f"train.profile is {text!r}: must be START:COUNT, the first step to trace and how many, such as 100:20")


def _validate_ranges(data: DataConfig) -> None:
    for side in ("input", "target"):
        name, text = f"data.{side}_range", getattr(data, f"{side}_range")
        if value_range(name, text) and data.name != "folder":
            raise ConfigError(f"{name} is {text!r}, but data.name {data.name!r} has 8-bit images: {name}=auto would do")
    if data.input_labels and data.input_range != "auto":
        raise ConfigError(f"data.input_range is {data.input_range!r}, but data.input_labels has classes, not values: auto would do")


def _validate_data(config: Config) -> None:
    data = config.data
    _validate_ranges(data)
    if data.path and data.name != "folder":
        train_there = f"data.name=folder trains on the pairs there, data.prepared_dir says where {data.name} is kept"
        raise ConfigError(f"data.path is {data.path!r}, but data.name {data.name!r}: {train_there}")
    if data.input_labels and data.name != "folder" and (data.name != data.input_labels or data.direction != "BtoA"):
        known = data.name in OPTIONS["data.palette"].choices
        advice = f"data.input_labels={data.name} with data.direction=BtoA would do" if known else "data.name=folder has your own"
        raise ConfigError(
            f"data.input_labels is {data.input_labels!r}, but data.name {data.name!r} has no such label maps as inputs: {advice}"
        )
    _validate_resize(data)
    if config.objective not in WITHOUT_LATENT and config.model.latent_dim == 0:
        raise ConfigError(f"model.latent_dim is 0: {config.objective} needs at least 1")
    if config.model.norm_over == "batch" and config.model.norm != "batch":
        found = f"model.norm_over is 'batch', but model.norm {config.model.norm!r} has no statistics of several images"
        raise ConfigError(f"{found}: model.norm_over=device would do")
    if config.weights.mode_seeking and config.objective not in WITH_PRIOR:
        raise ConfigError(f"weights.mode_seeking is {config.weights.mode_seeking}: {config.objective} draws no random z: must be 0")
    if config.objective == "segmenter" and data.target_channels != 3:
        raise ConfigError(f"data.target_channels is {data.target_channels}: label maps are told apart by colour: must be 3")


def _validate_resize(data: DataConfig) -> None:
    load, crop = sides(data.load_size), sides(data.crop_size)
    if data.resize == "width" and load[0] != load[1]:
        raise ConfigError(f"data.load_size is {data.load_size}: data.resize=width needs one number, the width: {load[1]} would do")
    compared = {"none": (), "width": (1,)}.get(data.resize, (0, 1))
    if any(load[axis] < crop[axis] for axis in compared):
        raise ConfigError(f"data.load_size {data.load_size} is smaller than data.crop_size {data.crop_size}")
    if data.rotate and crop[0] != crop[1]:
        raise ConfigError(f"data.rotate turns crops by 90 degrees, but data.crop_size is {data.crop_size}: {min(crop)} would do")


def _validate_batch(config: Config) -> None:
    if config.data.batch_size % (least := batch_multiple(config)):
        halves = f"{config.objective} splits a batch in two halves" if config.objective in WITH_ENCODER else ""
        parts = f"train.microbatches is {config.train.microbatches}" if config.train.microbatches > 1 else ""
        why = " and ".join(filter(None, (halves, parts)))
        raise ConfigError(f"data.batch_size is {config.data.batch_size}: {why}: must be a multiple of {least}")


def _validate_sizes(config: Config) -> None:
    """Raises ConfigError if a network is too deep for the crop, or the crop is not a size that the generator takes."""
    size, model = config.data.crop_size, config.model
    crop = sides(size)
    multiple = SIZE_MULTIPLES[model.generator]
    if any(side % multiple for side in crop):
        near = size_text(*(max(multiple, round(side / multiple) * multiple) for side in crop))
        fits = [name for name, divisor in SIZE_MULTIPLES.items() if not any(side % divisor for side in crop)]
        fitting = max(fits, key=SIZE_MULTIPLES.__getitem__, default="")
        other = f", or model.generator={fitting}" if fitting else ""
        why = f"model.generator {model.generator} takes multiples of {multiple}"
        raise ConfigError(f"data.crop_size is {size}: {why}: data.crop_size={near} would do{other}")
    if model.generator.startswith("resnet") and min(crop) < 8:
        raise ConfigError(f"data.crop_size is {size}: model.generator {model.generator} needs at least 8")
    if has_encoder(config) and min(crop) < (smallest := int(model.encoder.split("_")[1]) // 8):
        raise ConfigError(f"data.crop_size is {size}: model.encoder {model.encoder} needs at least {smallest}")
    if model.discriminator == "patchgan":
        last = -(-min(crop) // 2 ** (model.discriminator_scales - 1))  # pixels of the smallest scale
        if last // 2**model.discriminator_layers < 3:  # two convolutions of 4 pixels, without a stride, follow the halvings
            most = next((layers for layers in range(model.discriminator_layers, 0, -1) if last // 2**layers >= 3), 0)
            fewer = f"model.discriminator_layers={most} would do" if most else "model.discriminator=pixel would do"
            where = f"data.crop_size {size}, {last} at the smallest of {model.discriminator_scales} model.discriminator_scales"
            raise ConfigError(f"model.discriminator_layers is {model.discriminator_layers}: too many for {where}: {fewer}")


def batch_multiple(config: Config) -> int:
    """The smallest batch of one device; every device's batch is a multiple of it."""
    return config.train.microbatches * (2 if config.objective in WITH_ENCODER else 1)


def batch_for(config: Config, devices: int) -> int:
    """The smallest batch size, at least data.batch_size, that divides over this number of devices."""
    return config.data.batch_size + -config.data.batch_size % (batch_multiple(config) * devices)


def metrics(config: Config) -> tuple[str, ...]:
    """The metrics to evaluate: those of eval.metrics, by default all that apply and need no pretrained network. Raises ConfigError."""
    suitable = ("l1", "psnr", "ssim", *(ENCODER_METRICS if has_encoder(config) else ()), *(("modes",) if knows_modes(config) else ()))
    return metric_names(config.eval.metrics) if config.eval.metrics else suitable


def metric_names(text: str) -> tuple[str, ...]:
    """Splits comma-separated names of metrics. Raises ConfigError naming the first that does not exist."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"unknown metric {name!r}: one of {', '.join(METRICS)}{nearest(name, METRICS)}")
    return names


def knows_modes(config: Config) -> bool:
    """Whether all right answers to an input are known, so that modes can be counted."""
    return config.data.name == "shapes" and config.data.direction == "AtoB" and config.data.target_channels == 3


def has_encoder(config: Config) -> bool:
    return config.objective in WITH_ENCODER


def validate_metrics(config: Config) -> tuple[str, ...]:
    """The metrics to evaluate. Raises ConfigError naming the first that does not apply to the run."""
    chosen = metrics(config)
    for name in chosen:
        if name == "modes" and not knows_modes(config):
            raise ConfigError(f"metric {name!r} can be measured on data.name 'shapes', AtoB, in colour only: l1 would do")
        if name in ENCODER_METRICS and not has_encoder(config):
            raise ConfigError(f"metric {name!r}: {config.objective} has no encoder: l1 would do")
        if name == "segmentation" and config.data.input_labels.isdecimal():
            ids = f"data.input_labels={config.data.input_labels}"
            raise ConfigError(f"metric {name!r} compares label maps by their colours, which {ids} does not give: a palette would do")
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
    """The config that `to_json`, of this or an earlier version, wrote. Raises ConfigError on anything else."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON: {error}") from None
    return validate(_from_dict(Config, _with_current_names(_with_prepared_dir(values))))


def _with_current_names(values: Any, prefix: str = "") -> Any:
    """Nested objects of options, with the names of version 0.2 and older replaced."""
    if not isinstance(values, dict):
        return values
    names = {name: current_name(f"{prefix}{name}").removeprefix(prefix) for name in values}
    return {names[name]: _with_current_names(value, f"{prefix}{name}.") for name, value in values.items()}


def _with_prepared_dir(values: Any) -> Any:
    """Configs of version 0.1 said by data.path where a prepared set is kept: moves it to data.prepared_dir."""
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
        allowed = (int, str) if hint is Size else typing.get_args(hint) or (hint,)
        if float in allowed and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) not in allowed:
            expected = " or ".join(t.__name__ for t in allowed if t is not type(None))
            raise ConfigError(f"{prefix}{name} is {value!r}: must be {expected}")
        kwargs[name] = value
    return cls(**kwargs)


def changed(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """The options that differ although a resumed run may not change them: name to (old, new)."""
    before, after = flatten(old), flatten(new)
    return {name: (before[name], after[name]) for name in before if before[name] != after[name] and not OPTIONS[name].resumable}
