"""Measures a run, or images that some model wrote, on pairs that it was not trained on:

python -m i2i_jax evaluate --run=RUN [--split=test --samples=N --metrics=a,b]
python -m i2i_jax evaluate --real=DIR --fake=DIR [--metrics=a,b --output=DIR]

i2i evaluate --run=runs/bicycle-shapes --step=best
i2i evaluate --run=RUN --metrics=fid,lpips_v0.1_alex --samples=20
i2i evaluate --run=RUN --data=PAIRS --split=all
i2i evaluate --real=photos/test --fake=OUT --metrics=ssim,fid --output=REPORT
"""

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import HIGHER_IS_BETTER, METRICS, Config, ConfigError, DataConfig, EvalConfig, metric_names, validate_metrics

SHOWN = 6  # cases on each sheet of pictures
LIBRARIES = ("i2i-jax", "jax", "flax", "numpy")
OF_IMAGES = "l1,psnr,ssim"

_RUN = flags.DEFINE_string("run", "", "The trained run: its folder, packed in a file, or hf://USER/NAME.")
_DATA = flags.DEFINE_string("data", None, "Of a run: the folder of pairs to measure on (default: where those that it was trained on lie).")
_REAL = flags.DEFINE_string("real", "", "Instead of a run: a folder of real images, ...")
_FAKE = flags.DEFINE_string("fake", "", "... and one of images made in their place, named NAME or NAME_anything.")
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "val", "test", "all"], "The pairs to measure on; all: every pair of a folder.")
_STEP = flags.DEFINE_string("step", None, "The checkpoint: a step or `best` (default: the newest).")
_SAMPLES = flags.DEFINE_integer("samples", None, "Translations of each input (default: the config's).", lower_bound=1)
_INPUTS = flags.DEFINE_integer("inputs", None, "Pairs measured, at most (default: the config's; of folders, all).", lower_bound=1)
_METRICS = flags.DEFINE_string("metrics", None, f"What to measure (default: the config's): {', '.join(METRICS)}.")
_WEIGHTS = flags.DEFINE_string("weights", None, "Folder of pretrained weights (default: downloaded into the user's cache folder).")
_SEGMENTER = flags.DEFINE_string("segmenter", None, "Of the metric segmentation: the run that makes label maps.")
_DIRECTION = flags.DEFINE_enum(
    "direction", None, ["AtoB", "BtoA"], "Of side-by-side --real images, or of --data: the real half is right or left."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Inputs at a time, over all devices; changes no figure.", lower_bound=1)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", DataConfig.max_pixels, "Of folders: refuse an image of more pixels than this.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the latents and of dropout.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", "", "Where the figures and the page are written (default: of a run's folder, there).")


_OF_RUNS, _OF_FOLDERS = ("data", "split", "step", "samples", "seed"), ("max_pixels",)
_GIVEN = {"metrics": _METRICS, "inputs": _INPUTS, "samples": _SAMPLES, "batch_size": _BATCH_SIZE, "weights": _WEIGHTS,
          "segmenter": _SEGMENTER}  # fmt: skip


class Subject(NamedTuple):
    """What is measured, how and under which protocol; `at` gives the cases at some places, where there are pairs.

    `notes` are what is to be known of the pairs.
    """

    batches: Iterator[Any]
    total: int
    at: Callable[[Iterable[int]], Iterator[Any]] | None
    metrics: dict[str, Any]
    protocol: dict[str, Any]
    notes: tuple[str, ...] = ()


def main(argv: Sequence[str]) -> None:
    from tqdm import tqdm

    from i2i_jax.evaluation import evaluate

    if bool(_RUN.value) == bool(_REAL.value) or bool(_REAL.value) != bool(_FAKE.value):
        raise ConfigError("give --run=RUN, or --real=DIR and --fake=DIR")
    for name in _OF_FOLDERS if _RUN.value else _OF_RUNS:
        if flags.FLAGS[name].present:
            raise ConfigError(f"--{name} says nothing of {'a run' if _RUN.value else 'two folders'}: leave it out")
    if _RUN.value and _DIRECTION.value and not _DATA.value:
        raise ConfigError("--direction says how the pairs of --data lie, or real images: the run knows its own")
    subject = _of_run() if _RUN.value else _of_folders()
    with tqdm(total=subject.total, unit="case", leave=False, disable=None) as progress:
        found = evaluate.evaluate(_counted(subject.batches, progress), subject.metrics)
    found = found._replace(notes=[*subject.notes, *found.notes])
    with app.listing():
        print(", ".join(f"{name} {value}" for name, value in subject.protocol.items()))
        errors = found.standard_errors()
        for name, value in found.figures.items():
            if isinstance(value, float):
                print(f"{name:<24} {value:.4f}" + (f"  ± {errors[name]:.4f}" if name in errors else ""))
        for note in found.notes:
            print(f"note: {note}")
    _write(subject, found)


def _counted(batches: Iterator[Any], progress: Any) -> Iterator[Any]:
    for batch in batches:
        yield batch
        progress.update(batch.count)


def _of_run() -> Subject:
    from i2i_jax import build
    from i2i_jax.data import splits
    from i2i_jax.evaluation import build_metrics, evaluate

    config = _where_pairs_are(build.read_config(_RUN.value))
    if not (_OUTPUT.value or Path(_RUN.value).is_dir()):
        raise ConfigError(f"--run: {_RUN.value} is no folder, in which figures could be kept: --output=DIR says where they are written")
    options = _options(config.eval)
    metrics = build_metrics.metrics(options, validate_metrics(config))
    of_run = splits.read(_RUN.value)
    pairs = build.pairs(config, _SPLIT.value, held_out=None if of_run is None else of_run.val.keys())
    split = build.split_used(config, _SPLIT.value)
    game, state = build.load(_RUN.value, step=app.checkpoint(_STEP.value))
    mode, size, count = build.mode(config), config.data.crop_size, min(options.inputs, len(pairs))
    samples = evaluate.distinct(game.networks, mode, options.samples)
    translate = evaluate.translations(
        game.networks, mode, pairs, size=size, samples=samples, batch_size=options.batch_size, seed=_SEED.value
    )
    at = functools.partial(translate, state)
    elsewhere = {"data": _DATA.value} if _DATA.value else {}
    protocol = {"step": int(state.step), **elsewhere, "split": split, "inputs": count, "samples": samples, "size": size}
    return Subject(at(range(count)), count, at, metrics, protocol | {"seed": _SEED.value}, tuple(_notes(config, split)))


def _where_pairs_are(config: Config) -> Config:
    """With the folder of --data. Raises ConfigError where the run's own is not there."""
    if _DATA.value:
        config.data.name, config.data.path = "folder", _DATA.value
        config.data.direction = _DIRECTION.value or config.data.direction
    elif config.data.name == "folder" and not Path(config.data.path or "/none").expanduser().is_dir():
        lost = f"{config.data.path}, where its pairs were, is no folder" if config.data.path else "it does not say where pairs are"
        raise ConfigError(f"--run: {_RUN.value}: {lost}: --data=DIR says where they are")
    elif _SPLIT.value == "all" and config.data.name != "folder":
        raise ConfigError(f"--split=all is for folders of pairs, and this run's are {config.data.name}: train, val or test would do")
    return config


def _notes(config: Config, split: str) -> Iterator[str]:
    """Why figures on a split that stands for another one are better than those on new pairs."""
    if split == "train" and _SPLIT.value != "train":
        yield f"measured on the pairs that it was trained on: there is no {_SPLIT.value} split, and data.val_fraction is 0"
    if split == "val" and _SPLIT.value == "test":
        yield "measured on the val split, by which the best checkpoint is chosen: there is no test split"
    if split == "val" and _DATA.value and not _has_val(_DATA.value):
        yield f"val are the pairs of {_DATA.value} that training would hold out: --split=all measures every pair"


def _has_val(root: str) -> bool:
    from i2i_jax.data import folder

    return "val" in folder.layout(Path(root).expanduser())


def _of_folders() -> Subject:
    from i2i_jax.data import outputs
    from i2i_jax.evaluation import build_metrics, evaluate

    options = _options(EvalConfig(metrics=OF_IMAGES))
    folders = {"real": _REAL.value, "fake": _FAKE.value} | ({"direction": _DIRECTION.value} if _DIRECTION.value else {})
    metrics = build_metrics.metrics(options, metric_names(options.metrics))
    how = {"direction": _DIRECTION.value, "batch_size": options.batch_size, "max_pixels": _MAX_PIXELS.value}
    if all(metric.unpaired for metric in metrics.values()):
        reals, fakes = (outputs.files(folder)[: _INPUTS.value] for folder in (_REAL.value, _FAKE.value))
        batches = evaluate.of_images(reals, fakes, **how)
        return Subject(batches, len(reals) + len(fakes), None, metrics, folders | {"reals": len(reals), "fakes": len(fakes)})
    found = outputs.matched(_REAL.value, _FAKE.value)[: _INPUTS.value]
    at = evaluate.of_outputs(found, **how)
    has = {"target", "samples"} | ({"input"} if _DIRECTION.value else set())
    if "modes" in metrics:
        raise ConfigError("--metrics: 'modes' can be measured of runs only")
    for name, metric in metrics.items():
        if missing := [need for need in metric.needs if need not in has]:
            advice = "; side-by-side real images have one, with --direction" if missing[0] == "input" else ""
            raise ConfigError(f"--metrics: {name!r} needs the {missing[0]} of each case, which a folder of images has not{advice}")
    return Subject(at(range(len(found))), len(found), at, metrics, folders | {"inputs": len(found), "samples": len(found[0].fakes)})


def _options(options: EvalConfig) -> EvalConfig:
    """Those of the flags before those of the config."""
    for name, flag in _GIVEN.items():
        if flag.value is not None:
            setattr(options, name, flag.value)
    return options


def _write(subject: Subject, found: Any) -> None:
    """Figures and page of a run into RUN/evaluation; of folders into --output, if given."""
    from i2i_jax.evaluation import contact_sheets
    from i2i_jax.pages.evaluation import write_evaluation
    from i2i_jax.pages.run import write_run
    from i2i_jax.storage import files
    from i2i_jax.storage.metrics_file import as_json

    weights = {file: sha256 for metric in subject.metrics.values() for file, sha256 in metric.weights.items()}
    question = {**subject.protocol, "metrics": list(subject.metrics), "weights": weights}
    if _OUTPUT.value:
        place = _place(Path(_OUTPUT.value) / "evaluation", question)
    elif _RUN.value:
        split = "" if subject.protocol["split"] == "test" else f"_{subject.protocol['split']}"
        place = _place(Path(_RUN.value) / "evaluation" / f"{subject.protocol['step']:08d}{split}", question)
    else:
        return
    sheets = {}
    if at := subject.at:
        for title, places in _places(subject.total, found).items():
            sheets[title] = place / f"{title.split()[0]}.png"
            contact_sheets.save(sheets[title], at(places))
    figures = {name: [as_json(x) for x in f] if isinstance(f, list) else as_json(f) for name, f in found.figures.items()}
    written = {**question, "figures": figures, "standard_errors": found.standard_errors(), "notes": found.notes, "versions": _versions()}
    files.atomic_write(Path(f"{place}.json"), (json.dumps(written, indent=2, allow_nan=False) + "\n").encode())
    write_evaluation(Path(f"{place}.html"), written, sheets, title=Path(_RUN.value or _FAKE.value).resolve().name)
    if _RUN.value and not _OUTPUT.value:
        write_run(_RUN.value)
    print(f"written: {place}.json; open {place}.html")


def _place(first: Path, question: dict[str, Any]) -> Path:
    """The first of FIRST, FIRST_2, FIRST_3 ... whose JSON is not there, or answers the same question, which is then replaced."""
    places = itertools.chain([first], (first.with_name(f"{first.name}_{number}") for number in itertools.count(2)))
    return next(place for place in places if _is_free(Path(f"{place}.json"), question))


def _is_free(path: Path, question: dict[str, Any]) -> bool:
    try:
        kept = json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return isinstance(kept, dict) and question.items() <= kept.items()


def _places(total: int, found: Any) -> dict[str, list[int]]:
    """EvalExamples to look at: the first, and the best and worst by the first figure that each case has by itself."""
    places = {"first": list(range(min(SHOWN, total)))}
    ranked = next((name for name in found.by_case if name in HIGHER_IS_BETTER), None)
    if ranked is not None:
        rising = found.by_case[ranked].argsort(kind="stable").tolist()
        order = rising[::-1] if HIGHER_IS_BETTER[ranked] else rising
        places |= {f"best by {ranked}": order[:SHOWN], f"worst by {ranked}": order[: -SHOWN - 1 : -1]}
    return places


def _versions() -> dict[str, str]:
    found = {distribution.name: distribution.version for distribution in distributions()}
    return {name: found[name] for name in LIBRARIES if name in found}


def cli() -> None:
    app.run(main, less_memory="--batch_size=1 measures one input at a time; fewer --samples need less too")
