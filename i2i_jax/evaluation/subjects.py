"""What is evaluated: a trained run on pairs, or a folder of generated images against real ones."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from absl import logging

from i2i_jax import build
from i2i_jax.config import Config, ConfigError, DataConfig, EvalConfig, metric_names, sides, validate_metrics, value_range
from i2i_jax.data import folder, labels, outputs, splits, values
from i2i_jax.data.crops import TrainingSize
from i2i_jax.data.images import MAX_PIXELS
from i2i_jax.data.pairs import Pairs
from i2i_jax.data.values import Scale
from i2i_jax.evaluation import build_metrics, evaluate
from i2i_jax.evaluation.evaluate import EvalBatch
from i2i_jax.metrics import Metric
from i2i_jax.storage import hub

IMAGE_METRICS = "l1,psnr,ssim"  # the default for folders


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the evaluation that replace those of the config; None keeps the config's. See `config.EvalConfig`."""

    metrics: str | None = None
    inputs: int | None = None
    samples: int | None = None
    batch_size: int | None = None
    pretrained_dir: str | None = None
    segmenter: str | None = None

    def applied_to(self, config: EvalConfig) -> EvalConfig:
        """Returns a copy of `config` with these options."""
        return dataclasses.replace(config, **{name: value for name, value in vars(self).items() if value is not None})


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A trained run to evaluate.

    Attributes:
        run: its folder, a packed file, hf://USER/NAME, or the name of a model in the package.
        step: the checkpoint; defaults to the newest.
        data: the folder of pairs to evaluate on; defaults to the run's own.
        direction: of the pairs in `data`; defaults to the run's own.
        split: the pairs to evaluate on; `all` is every pair of a folder.
        seed: seed of the latents and of dropout.
        options: replace those of the run's config.
        output: the folder for the results; defaults to the run's.
    """

    run: str
    step: int | Literal["best"] | None = None
    data: str | None = None
    direction: str | None = None
    split: str = "test"
    seed: int = 0
    options: Options = Options()
    output: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldersRequest:
    """Generated images to evaluate against real ones, whatever model made them.

    Attributes:
        real: the folder of real images.
        fake: the folder of generated images, named NAME or NAME_anything after their real image NAME.
        direction: if the real images are side-by-side pairs, which half is the target: AtoB the right one, BtoA the left one.
        max_pixels: refuse larger images.
        range: the values that become -1 and 1, LOW,HIGH in the files' units; auto: by the type of the samples.
        options: replace the defaults.
        output: the folder for the results; if None, nothing is written.
    """

    real: str
    fake: str
    direction: str | None = None
    max_pixels: int = MAX_PIXELS
    range: str = "auto"
    options: Options = Options()
    output: Path | None = None


class Subject(NamedTuple):
    """What is evaluated, ready to be measured.

    Attributes:
        batches: the examples to measure.
        total: the number of examples.
        examples_at: returns the examples at some indices, for contact sheets; None if there are no pairs.
        metrics: the metrics by name.
        protocol: what the figures depend on, as it is printed and written.
        title: the title of the page.
        destination: where the results are written, without extension; None if they are not.
        run_folder: the run whose page lists the evaluation; None if there is none.
        notes: caveats about the choice of pairs.
    """

    batches: Iterator[EvalBatch]
    total: int
    examples_at: Callable[[Iterable[int]], Iterator[EvalBatch]] | None
    metrics: dict[str, Metric]
    protocol: dict[str, Any]
    title: str
    destination: Path | None
    run_folder: Path | None = None
    notes: tuple[str, ...] = ()


def of_run(request: RunRequest) -> Subject:
    """Loads a run and its pairs.

    Raises:
        ConfigError: if the run does not exist, its pairs cannot be found, or the options do not fit it.
        WeightsError: if pretrained weights of a metric cannot be loaded.
        FolderError, ImageError: if the pairs cannot be used.
        CheckpointError, PackedError, HubError: if the run cannot be loaded.
    """
    config = _with_pairs(build.read_config(request.run), request)
    if not (request.output or Path(hub.local(request.run)).is_dir()):
        raise ConfigError(f"--run: {request.run} is not a folder, so the results cannot be written into it: give --output=DIR")
    config.eval = request.options.applied_to(config.eval)
    metrics = build_metrics.metrics(config.eval, validate_metrics(config))
    pairs, split = _pairs(config, request), build.split_used(config, request.split)
    game, state = build.load(request.run, step=request.step)
    mode, size, count = build.mode(config), sides(config.data.crop_size), min(config.eval.inputs, len(pairs))
    samples = evaluate.distinct(game.networks, mode, config.eval.samples)
    translate = evaluate.translations(
        game.networks, mode, pairs, size=size, samples=samples, batch_size=config.eval.batch_size, seed=request.seed,
        input_labels=labels.of_config(config.data), training_size=TrainingSize.of_config(config.data),
    )  # fmt: skip
    data = {"data": request.data} if request.data else {}
    protocol = {"step": int(state.step), **data, "split": split, "inputs": count, "samples": samples, "size": _size(config.data)}
    protocol["seed"] = request.seed
    examples_at = functools.partial(translate, state)
    return Subject(
        batches=examples_at(range(count)),
        total=count,
        examples_at=examples_at,
        metrics=metrics,
        protocol=protocol,
        title=Path(request.run).resolve().name,
        destination=request.output / "evaluation" if request.output else _destination_in_run(request.run, protocol),
        run_folder=None if request.output else Path(request.run),
        notes=tuple(_notes(config, request, split)),
    )


def _size(data: DataConfig) -> int | str:
    """The size at which images are evaluated: that of the crops, or how the proportions are kept."""
    kept = {"width": f"{data.load_size} wide", "none": "native", "pad": f"within {data.load_size}"}
    return kept.get(data.resize, data.crop_size)


def _with_pairs(config: Config, request: RunRequest) -> Config:
    """The config with the folder of --data. Raises ConfigError if the run's own folder does not exist."""
    if request.data:
        config.data.name, config.data.path = "folder", request.data
        config.data.direction = request.direction or config.data.direction
    elif config.data.name == "folder" and not Path(config.data.path or "/none").expanduser().exists():
        reason = f"its folder of pairs, {config.data.path}, does not exist" if config.data.path else "it does not say where its pairs are"
        raise ConfigError(f"--run: {request.run}: {reason}: give --data=DIR")
    elif request.split == "all" and config.data.name != "folder":
        raise ConfigError(f"--split=all is for folders of pairs, but this run's data are {config.data.name}: use train, val or test")
    return config


def _pairs(config: Config, request: RunRequest) -> Pairs:
    """The pairs to evaluate on; those that the run held out from training stay in its val split."""
    run_splits = splits.read(request.run)
    return build.pairs(config, request.split, held_out=None if run_splits is None else run_splits.val.keys())


def _destination_in_run(run: str, protocol: dict[str, Any]) -> Path:
    split = "" if protocol["split"] == "test" else f"_{protocol['split']}"
    return Path(run) / "evaluation" / f"{protocol['step']:08d}{split}"


def _notes(config: Config, request: RunRequest, split: str) -> Iterator[str]:
    """Reasons why figures on this split are better than on new pairs."""
    if split == "train" and request.split != "train":
        yield f"measured on the training pairs: there is no {request.split} split, and data.val_fraction is 0"
    if split == "val" and request.split == "test":
        yield "measured on the val split, which also selects the best checkpoint: there is no test split"
    if split == "val" and request.data and "val" not in folder.layout(Path(request.data).expanduser()):
        yield f"the val split is the pairs of {request.data} that training would hold out: --split=all measures all pairs"


def of_folders(request: FoldersRequest) -> Subject:
    """Matches generated images with real ones.

    Raises:
        ConfigError: if a metric cannot be computed from images alone.
        WeightsError: if pretrained weights of a metric cannot be loaded.
        FolderError, ImageError: if the images cannot be used.
    """
    options = request.options.applied_to(EvalConfig(metrics=IMAGE_METRICS))
    metrics = build_metrics.metrics(options, metric_names(options.metrics))
    scale = Scale(*(value_range("--range", request.range) or (None, None)), "--range")
    reading = {"direction": request.direction, "batch_size": options.batch_size, "max_pixels": request.max_pixels, "scale": scale}
    limit = request.options.inputs
    if all(metric.unpaired for metric in metrics.values()):
        reals, fakes = outputs.files(request.real)[:limit], outputs.files(request.fake)[:limit]
        batches, examples_at = evaluate.of_images(reals, fakes, **reading), None
        total, counts = len(reals) + len(fakes), {"reals": len(reals), "fakes": len(fakes)}
    else:
        matched = outputs.matched(request.real, request.fake)[:limit]
        _refuse_metrics_of_runs(metrics, with_input=request.direction is not None)
        examples_at = evaluate.of_outputs(matched, **reading)
        batches, total = examples_at(range(len(matched))), len(matched)
        counts = {"inputs": len(matched), "samples": len(matched[0].fakes)}
    direction = {"direction": request.direction} if request.direction else {}
    return Subject(
        batches=_naming_clipped(batches),
        total=total,
        examples_at=examples_at,
        metrics=metrics,
        protocol={"real": request.real, "fake": request.fake, **direction, **counts},
        title=Path(request.fake).resolve().name,
        destination=request.output / "evaluation" if request.output else None,
    )


def _naming_clipped(batches: Iterator[EvalBatch]) -> Iterator[EvalBatch]:
    """The batches; warns about values that were clipped once all are read."""
    with values.counting() as counts:
        yield from batches
    for message in values.clipped(counts):
        logging.warning("%s", message)


def _refuse_metrics_of_runs(metrics: dict[str, Metric], *, with_input: bool) -> None:
    """Raises ConfigError if a metric needs more than the images, such as latents."""
    available = {"target", "samples"} | ({"input"} if with_input else set())
    if "modes" in metrics:
        raise ConfigError("--metrics: 'modes' can be measured for runs only")
    for name, metric in metrics.items():
        if missing := [need for need in metric.needs if need not in available]:
            advice = "; side-by-side real images have one, with --direction" if missing[0] == "input" else ""
            raise ConfigError(f"--metrics: {name!r} needs the {missing[0]} of each example, which a folder of images does not have{advice}")
