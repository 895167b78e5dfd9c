"""Reproduces the papers' tables: every system with the same budget and several seeds, as Markdown, JSON and plots (extra `plots`).

    python benchmarks/paper_tables.py --scale=shapes                          a CPU; needs no data
    python benchmarks/paper_tables.py --scale=facades64 --data=FACADES        64 x 64, on a CPU
    python benchmarks/paper_tables.py --scale=facades128 --data=FACADES --jobs=2   128 x 128, width 32: hours on a CPU
    python benchmarks/paper_tables.py --scale=facades256 --data=FACADES       256 x 256, on a GPU

(a) realism against diversity of the BicycleGAN family (figure 6 and table 1 of Zhu 2017); (b) pix2pix's losses (table 1 of Isola
2017); (c) the discriminator's receptive field (table 3 there); (d) BicycleGAN ablations; (e) settings of BicycleGAN on `shapes`.
FACADES is a folder with train/ and test/, photo left, labels right. Runs are kept in --workdir: interrupted ones are resumed, finished
ones are only measured.
"""

import contextlib
import multiprocessing
import os
from collections import ChainMap
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lists
import tables
from absl import flags
from tqdm import tqdm

from i2i_jax import build, presets, training
from i2i_jax.commands import app
from i2i_jax.config import Config, ConfigError, has_encoder, knows_modes, override
from i2i_jax.evaluation import build_metrics, evaluate

_SCALE = flags.DEFINE_enum("scale", "shapes", ["shapes", "facades64", "facades128", "facades256"], "Dataset and image size.")
_TABLES = flags.DEFINE_list("tables", None, "Tables to make (default: all of the scale).")
_SYSTEMS = flags.DEFINE_list("systems", None, "Rows to make (default: all of the tables).")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the runs.")
_DATA = flags.DEFINE_string("data", None, "Folder of the facades.")
_WEIGHTS = flags.DEFINE_string("weights", None, "Folder with squeezenet1_1_caffe.npz: adds figures of its features, except on shapes.")
_STEPS = flags.DEFINE_integer("steps", None, "Steps of every run (default: the scale's).", lower_bound=1)
_JOBS = flags.DEFINE_integer("jobs", 1, "Runs trained at a time; each gets its share of the CPU's cores.", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", "runs/paper_tables", "Where the runs are kept.")

Options = dict[str, Any]
Run = tuple[str, int]  # a system and a seed
Configs = dict[Run, Config]
SEGMENTER = "segmenter"
SEGMENTER_RUN = (SEGMENTER, 0)
REAL = "real photos"
REALISM = ("kernel_squeezenet_caffe", "fjd_squeezenet_caffe")
DIVERSITY = "diversity_squeezenet_caffe"


class System(NamedTuple):
    """A row of a table: a preset and what differs from it."""

    preset: Callable[[str], Config]
    options: Options = {}


def _family(objective: str, options: Options | None = None) -> System:
    return System(partial(presets.bicycle_family, objective), options or {})


# Of the BicycleGAN of `shapes`: what its settings were before, and each of them by itself.
BEFORE: dict[str, Options] = {
    "predicted std": {"model.posterior_std": 0.0},
    "KL weight 0.005": {"weights.kl": 0.005},
    "two scales of D": {"model.discriminator_scales": 2},
    "transposed convolutions": {"model.upsample": "transposed"},
}
SYSTEMS = {
    SEGMENTER: System(presets.segmenter, {"optimizer.learning_rate": 1e-3}),
    "pix2pix+noise": _family("pix2pix_noise"),
    "cAE-GAN": _family("cae_gan"),
    "cVAE-GAN": _family("cvae_gan"),
    "cLR-GAN": _family("clr_gan"),
    "BicycleGAN": _family("bicycle_gan"),
    "MSGAN": _family("pix2pix_noise", {"weights.mode_seeking": 1.0}),
    "tuned": System(lambda dataset: presets.tuned(presets.bicycle_family("bicycle_gan", dataset))),
    "D sees B alone": _family("bicycle_gan", {"model.conditional": False}),
    "one D": _family("bicycle_gan", {"model.shared_discriminator": True}),
    "latent loss reaches E": _family("bicycle_gan", {"latent_trains_encoder": True}),
    "nz 2": _family("bicycle_gan", {"model.latent_dim": 2}),
    "nz 8": _family("bicycle_gan", {"model.latent_dim": 8}),
    "nz 64": _family("bicycle_gan", {"model.latent_dim": 64}),
    "z at the input": _family("bicycle_gan", {"model.latent_at": "input"}),
    "all settings as before": _family("bicycle_gan", dict(ChainMap(*BEFORE.values()))),
    **{f"only {name}": _family("bicycle_gan", options) for name, options in BEFORE.items()},
    "mode seeking": _family("bicycle_gan", {"weights.mode_seeking": 0.15, "weights.mode_seeking_until": 0.7}),
    "average of weights": _family("bicycle_gan", {"train.ema": 0.999}),
    "L1": System(presets.pix2pix, {"weights.gan": 0.0}),
    "GAN": System(presets.pix2pix, {"weights.l1": 0.0, "model.conditional": False}),
    "cGAN": System(presets.pix2pix, {"weights.l1": 0.0}),
    "L1+GAN": System(presets.pix2pix, {"model.conditional": False}),
    "L1+cGAN": System(presets.pix2pix),
    "L1+cGAN tuned": System(lambda dataset: presets.tuned(presets.pix2pix(dataset))),
    "receptive field 1": System(presets.pix2pix, {"model.discriminator": "pixel"}),
    "receptive field 16": System(presets.pix2pix, {"model.discriminator_layers": 1}),
    "receptive field 34": System(presets.pix2pix, {"model.discriminator_layers": 2}),
    "receptive field 70": System(presets.pix2pix, {"model.discriminator_layers": 3}),
    "receptive field 286": System(presets.pix2pix, {"model.discriminator_layers": 5}),
}

OF_64 = {"model.generator": "unet_64", "model.encoder": "resnet_64", "data.load_size": 72, "data.crop_size": 64}
OF_128 = {"model.generator": "unet_128", "model.encoder": "resnet_128", "data.load_size": 144, "data.crop_size": 128}
INSTANCE = {"model.norm": "instance"}  # batch norm's statistics would differ between training and test
SCALES: dict[str, Options] = {
    "shapes": {"train.steps": 5000, "train.eval_every": 500},
    "facades64": OF_64 | INSTANCE | {"model.width": 16, "optimizer.learning_rate": 5e-4},
    "facades128": OF_128 | INSTANCE | {"model.width": 32},
    "facades256": {"train.steps": 80_000},
}
# Trained at twice the size it segments real photos of 64 pixels better than one trained at 64 pixels.
SEGMENTER_OPTIONS = OF_128 | {"model.width": 16, "data.batch_size": 4, "train.steps": 3000}
BY_OBJECTIVE: dict[str, dict[str, Options]] = {
    "facades64": {
        # The second discriminator has a receptive field of 32 pixels.
        "family": {"model.width": 32, "train.steps": 8000, "train.eval_every": 2000, "model.discriminator_layers": 2},
        # A receptive field of 16 pixels, a quarter of the side, like the paper's 70 of 256. For the same time a batch size of 1 was better.
        "pix2pix": {"train.steps": 14_000, "train.eval_every": 3500, "train.checkpoint_every": 3500, "model.discriminator_layers": 1},
        SEGMENTER: SEGMENTER_OPTIONS,
    },
    "facades128": {
        "family": {"train.steps": 20_000, "train.eval_every": 5000},
        "pix2pix": {"train.steps": 20_000, "train.eval_every": 5000, "model.discriminator_layers": 2},
        SEGMENTER: SEGMENTER_OPTIONS,
    },
}
FIELDS = {"shapes": (1, 16, 34), "facades64": (1, 16, 34, 70), "facades128": (1, 16, 34, 70), "facades256": (1, 16, 70, 286)}
SAMPLES = 10  # of each input
SAMPLES_OF_SHAPES = 32


def layout(scale: str) -> dict[str, tables.Table]:
    known = scale == "shapes"
    realism, diversity = (REALISM, (DIVERSITY,)) if _WEIGHTS.value else ((), ())
    plane = ("modes", "valid") if known else ((DIVERSITY, REALISM[0]) if diversity else None)
    family_figures = (*(("modes", "valid", "total_variation") if known else (*realism, "iou", *diversity)), "l1", "l1_encoded")
    pix2pix_figures = ("valid", "l1", "ssim") if known else (*realism, "iou", "pixel_accuracy", "class_accuracy", "l1", "ssim")
    family = ("pix2pix+noise", "MSGAN", "cAE-GAN", "cVAE-GAN", "cLR-GAN", "BicycleGAN", *(() if known else ("tuned",)))
    losses = ("L1", "GAN", "cGAN", "L1+GAN", "L1+cGAN", "L1+cGAN tuned")
    fields = tuple(f"receptive field {pixels}" for pixels in FIELDS[scale])
    ceiling = () if known else (REAL,)
    settings = ("BicycleGAN", "all settings as before", *(f"only {name}" for name in BEFORE), "mode seeking", "average of weights")
    ablations = ("BicycleGAN", "D sees B alone", "one D", "latent loss reaches E", "nz 2", "nz 8", "nz 64", "z at the input")
    shown = {
        "a": tables.Table("(a) Realism against diversity", family, family_figures, plane),
        "b": tables.Table("(b) pix2pix's losses", (*losses, *ceiling), pix2pix_figures),
        "c": tables.Table("(c) The discriminator's receptive field, pixels", (*fields, *ceiling), pix2pix_figures),
        "d": tables.Table("(d) BicycleGAN ablations", ablations, family_figures, plane),
    }
    of_shapes = {"e": tables.Table("(e) Settings of BicycleGAN", settings, family_figures, plane)}
    return shown | (of_shapes if known else {})


def config_of(name: str, seed: int) -> Config:
    """The config of one system and seed at --scale."""
    scale, system = _SCALE.value, SYSTEMS[name]
    config = system.preset("shapes" if scale == "shapes" else "folder")
    options: Options = {"train.seed": seed}
    if scale != "shapes":
        config.data.direction = "AtoB" if name == SEGMENTER else "BtoA"
        options |= {"data.path": _DATA.value}
    by_objective = BY_OBJECTIVE.get(scale, {"family": {}})
    options |= SCALES[scale] | by_objective.get(config.objective, by_objective["family"])
    return override(config, options | system.options | ({"train.steps": _STEPS.value} if _STEPS.value else {}))


def train(config: Config, workdir: Path) -> str:
    """Trains a run to its end, with its output in WORKDIR/log.txt. Returns why it ended early if it diverged, else ""."""
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "log.txt").open("a") as log, contextlib.redirect_stdout(log):
        try:
            training.train(config, workdir)
        except training.Diverged as error:
            return str(error)
    return ""


def measure(config: Config, workdir: Path, metrics: tuple[str, ...], options: Options) -> dict[str, Any]:
    """The figures of a trained run on the whole test split."""
    override(config, {f"eval.{name}": value for name, value in options.items()})
    game, state = build.load(workdir)
    pairs = build.pairs(config, "test")
    size, samples = config.data.crop_size, config.eval.samples
    translate = evaluate.translations(game.networks, build.mode(config), pairs, size=size, samples=samples, batch_size=4)
    return evaluate.evaluate(translate(state, range(len(pairs))), build_metrics.metrics(config.eval, metrics)).figures


def metrics_of(config: Config) -> tuple[str, ...]:
    names = ["l1", "ssim", *(["l1_encoded"] if has_encoder(config) else []), *(["modes"] if knows_modes(config) else [])]
    if config.data.name == "shapes":
        return tuple(names)
    if _WEIGHTS.value:
        names += [*REALISM, *([] if config.objective == "pix2pix" else [DIVERSITY])]
    return (*names, "segmentation")


def _pin(cores: Any) -> None:
    os.sched_setaffinity(0, cores.get())


@contextlib.contextmanager
def _pool() -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, each pinned to an equal share of the cores."""
    context = multiprocessing.get_context("spawn")
    cores, available = context.Queue(), sorted(os.sched_getaffinity(0))
    for job in range(_JOBS.value):
        cores.put(available[job :: _JOBS.value])
    with ProcessPoolExecutor(_JOBS.value, mp_context=context, initializer=_pin, initargs=(cores,)) as pool:
        yield pool


def _all(jobs: dict[Any, Future], unit: str) -> dict[Any, Any]:
    """Waits for all jobs, with a progress bar, and returns their results."""
    for _ in tqdm(as_completed(jobs.values()), total=len(jobs), unit=unit):
        pass
    return {run: job.result() for run, job in jobs.items()}


def folders_of(configs: Configs) -> dict[Run, Path]:
    """The folder of each run; systems with equal configs share one."""
    folders: dict[Run, Path] = {}
    for (name, seed), config in configs.items():
        twin = next((run for run in folders if configs[run] == config), None)
        own = Path(_WORKDIR.value) / _SCALE.value / f"{name.replace('+', '_').replace(' ', '_')}_{seed}"
        folders[name, seed] = folders[twin] if twin else own
    return folders


def train_all(pool: ProcessPoolExecutor, configs: Configs, folders: dict[Run, Path]) -> dict[Run, str]:
    """Trains all runs; returns why each ended early, or "" if it did not."""
    by_folder = {folders[run]: config for run, config in configs.items()}
    ends = _all({folder: pool.submit(train, config, folder) for folder, config in by_folder.items()}, "run trained")
    print(*(f"{folder}: {end}" for folder, end in ends.items() if end), sep="\n")
    return {run: ends[folders[run]] for run in configs}


def measure_all(pool: ProcessPoolExecutor, configs: Configs, folders: dict[Run, Path]) -> dict[Run, dict[str, Any]]:
    options = {"pretrained_dir": _WEIGHTS.value or "", "segmenter": str(folders.get(SEGMENTER_RUN, ""))}

    def job(run: Run, config: Config) -> Future:
        samples = 1 if config.objective == "pix2pix" else SAMPLES_OF_SHAPES if config.data.name == "shapes" else SAMPLES
        return pool.submit(measure, config, folders[run], metrics_of(config), options | {"samples": samples})

    return _all({run: job(run, config) for run, config in configs.items()}, "run measured")


def scores_of_real(measured: dict[Run, dict[str, Any]]) -> dict[str, Any]:
    """The segmenter's scores of the targets, which are the same in every run that it scored."""
    figures = next(figures for figures in measured.values() if "iou_real" in figures)
    return {name.removesuffix("_real"): value for name, value in figures.items() if name.endswith("_real")}


def chosen_tables() -> dict[str, tables.Table]:
    """The tables of --tables that have rows of --systems, with these only. Raises ConfigError."""
    known = layout(_SCALE.value)
    chosen = {name: known[name] for name in lists.names(_TABLES, known)}
    rows = lists.names(_SYSTEMS, dict.fromkeys(system for table in chosen.values() for system in table.systems))
    wanted = {name: table._replace(systems=tuple(row for row in table.systems if row in rows)) for name, table in chosen.items()}
    return {name: table for name, table in wanted.items() if table.systems}


def main(argv: list[str]) -> None:
    if _SCALE.value != "shapes" and not _DATA.value:
        raise ConfigError("--data: name the folder of the facades")
    shown = chosen_tables()
    systems = dict.fromkeys(system for table in shown.values() for system in table.systems if system != REAL)
    configs = {(system, seed): config_of(system, seed) for seed in lists.whole_numbers(_SEEDS) for system in systems}
    segmenter = {} if _SCALE.value == "shapes" else {SEGMENTER_RUN: config_of(*SEGMENTER_RUN)}
    folders = folders_of(segmenter | configs)
    with _pool() as pool:
        ends = train_all(pool, segmenter | configs, folders)
        measured = measure_all(pool, {run: config for run, config in configs.items() if not ends[run]}, folders)
    if segmenter:
        measured[REAL, 0], folders[REAL, 0] = scores_of_real(measured), folders[SEGMENTER_RUN]
    for name, table in shown.items():
        print(tables.write(Path(__file__).parent / "results" / f"{_SCALE.value}_{name}", table, measured, folders))


if __name__ == "__main__":
    app.start(main)
