"""Evaluates a run on held-out pairs, or the images of any model against real ones:

python -m i2i_jax evaluate --run=RUN [--split=test --samples=N --metrics=a,b]
python -m i2i_jax evaluate --real=DIR --fake=DIR [--metrics=a,b --output=DIR]

i2i evaluate --run=runs/bicycle-shapes --step=best
i2i evaluate --run=RUN --metrics=fid,lpips_v0.1_alex --samples=20
i2i evaluate --run=RUN --data=PAIRS --split=all
i2i evaluate --real=photos/test --fake=OUT --metrics=ssim,fid --output=REPORT
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import METRICS, ConfigError, DataConfig

_RUN = flags.DEFINE_string("run", "", f"The trained run: {app.RUN}.")
_DATA = flags.DEFINE_string("data", None, "With --run: the folder of pairs to evaluate on (default: the run's own pairs).")
_REAL = flags.DEFINE_string("real", "", "Instead of --run, with --fake: a folder of real images.")
_FAKE = flags.DEFINE_string("fake", "", "With --real: a folder of generated images, named NAME or NAME_anything after their real image.")
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["train", "val", "test", "all"], "With --run: the pairs to evaluate on; all: every pair of a folder."
)
_STEP = flags.DEFINE_string("step", None, "With --run: the checkpoint, a step or `best` (default: the newest).")
_SAMPLES = flags.DEFINE_integer("samples", None, "With --run: translations of each input (default: the config's).", lower_bound=1)
_INPUTS = flags.DEFINE_integer("inputs", None, "Maximum number of pairs (default: the config's; of folders, all).", lower_bound=1)
_METRICS = flags.DEFINE_string("metrics", None, f"Metrics to compute (default: the config's), comma-separated: {', '.join(METRICS)}.")
_WEIGHTS = flags.DEFINE_string("weights", None, "Folder of pretrained weights (default: downloaded into the user's cache directory).")
_SEGMENTER = flags.DEFINE_string("segmenter", None, "For the metric segmentation: a run trained to turn targets into label maps.")
_DIRECTION = flags.DEFINE_enum(
    "direction",
    None,
    ["AtoB", "BtoA"],
    "Of the pairs in --data, or of side-by-side --real images: the target is B, the right half (AtoB), or A, the left half (BtoA).",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Inputs at a time, over all devices; does not change the figures.", lower_bound=1)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", DataConfig.max_pixels, "With --real and --fake: refuse images with more pixels than this.", lower_bound=1
)
_RANGE = flags.DEFINE_string(
    "range", "auto", "With --real and --fake: the values that become -1 and 1, LOW,HIGH; auto: by type. Images of floats need it."
)
_SEED = flags.DEFINE_integer("seed", 0, "With --run: seed of the latents and of dropout.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", "", "Folder for the figures and the page (default: the run's folder; with --real, none).")

ONLY_WITH_RUN, ONLY_WITH_FOLDERS = ("data", "split", "step", "samples", "seed"), ("max_pixels", "range")


def main(argv: Sequence[str]) -> None:
    _check_flags()
    subject = _subject()
    from i2i_jax.evaluation import report

    evaluation = report.measure(subject)
    with app.ignore_closed_pipe():
        print(*report.lines(subject, evaluation), sep="\n")
    if path := report.write(subject, evaluation):
        print(f"written: {path}; open {path.with_suffix('.html')}")


def _check_flags() -> None:
    if bool(_RUN.value) == bool(_REAL.value) or bool(_REAL.value) != bool(_FAKE.value):
        raise ConfigError("give --run=RUN, or --real=DIR and --fake=DIR")
    subject = "--run" if _RUN.value else "--real and --fake"
    for name in ONLY_WITH_FOLDERS if _RUN.value else ONLY_WITH_RUN:
        if flags.FLAGS[name].present:
            raise ConfigError(f"--{name} does not apply together with {subject}: leave it out")
    if _RUN.value and _DIRECTION.value and not _DATA.value:
        raise ConfigError("--direction applies to the pairs of --data or --real only, as the run stores its own: leave it out")


def _subject() -> Any:
    """The run or the folders to evaluate."""
    step = app.parse_step(_STEP.value)
    from i2i_jax.evaluation import subjects

    output = Path(_OUTPUT.value) if _OUTPUT.value else None
    options = subjects.Options(
        metrics=_METRICS.value,
        inputs=_INPUTS.value,
        samples=_SAMPLES.value,
        batch_size=_BATCH_SIZE.value,
        pretrained_dir=_WEIGHTS.value,
        segmenter=_SEGMENTER.value,
    )
    if _RUN.value:
        run = {"run": _RUN.value, "step": step, "data": _DATA.value, "direction": _DIRECTION.value, "split": _SPLIT.value}
        return subjects.of_run(subjects.RunRequest(**run, seed=_SEED.value, options=options, output=output))
    folders = {"real": _REAL.value, "fake": _FAKE.value, "direction": _DIRECTION.value, "max_pixels": _MAX_PIXELS.value}
    folders |= {"range": _RANGE.value}
    return subjects.of_folders(subjects.FoldersRequest(**folders, options=options, output=output))


def cli() -> None:
    app.run(main, less_memory="--batch_size=1 evaluates one input at a time; fewer --samples need less memory too")
