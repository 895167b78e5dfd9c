"""Checks a folder of pairs before you train on it for hours: python -m i2i_jax check DIR [--sheet=FILE]

i2i check PAIRS
i2i check PAIRS --sheet=pairs.png        also writes a contact sheet of some pairs
i2i check PAIRS --input_range=0,4095     also counts the values of the inputs outside this range, --target_range those of the targets
i2i check PAIRS --input_labels=8         reads the inputs as label maps, as training does with --config.data.input_labels=8

PAIRS is a folder, or a list of pairs (.csv). Reports the number of pairs in each split, sizes, proportions and types of the images, what
each data.resize makes of them, the range and a histogram of their values, the option that would use the range better, whether all are grey,
the classes of label maps, files and folders that are not used, pairs that cannot be used, and near-duplicates. Inputs are A, or B with
--direction=BtoA. Exits with 1 if a pair cannot be used.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import ConfigError, DataConfig, value_range

_SHEET = flags.DEFINE_string("sheet", None, "Write a contact sheet to this file, for example pairs.png.")
_MAX_PIXELS = flags.DEFINE_integer("max_pixels", DataConfig.max_pixels, "Refuse images with more pixels than this.", lower_bound=1)
_INPUT_RANGE = flags.DEFINE_string("input_range", "auto", "The data.input_range of the training: counts the values of inputs outside it.")
_TARGET_RANGE = flags.DEFINE_string("target_range", "auto", "The data.target_range of the training: likewise for targets.")
_INPUT_LABELS = flags.DEFINE_string(
    "input_labels", None, "Read the inputs as label maps: a number of classes, facades, cityscapes, or a JSON file of colours."
)
_DIRECTION = flags.DEFINE_enum(
    "direction",
    "AtoB",
    ["AtoB", "BtoA"],
    "With --input_labels, --input_range or --target_range: which side the inputs are, A (AtoB) or B (BtoA).",
)


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        raise ConfigError("name one folder of pairs")
    flag_values = {"--input_range": _INPUT_RANGE.value, "--target_range": _TARGET_RANGE.value}
    limits = {name: value_range(name, text) or (None, None) for name, text in flag_values.items()}
    _check_flags()
    inputs_are_a = _DIRECTION.value == "AtoB"
    from i2i_jax.data import inspect_pairs, labels, values

    label_maps = None
    if _INPUT_LABELS.value is not None:
        label_maps = inspect_pairs.LabelMaps("A" if inputs_are_a else "B", *labels.of_option(_INPUT_LABELS.value))
    inputs, targets = (values.Scale(*ends, name) for name, ends in limits.items())
    scales = (inputs, targets) if inputs_are_a else (targets, inputs)
    survey = inspect_pairs.survey(Path(argv[1]), max_pixels=_MAX_PIXELS.value, scales=scales, label_maps=label_maps)
    with app.ignore_closed_pipe():
        print(*inspect_pairs.report(survey), sep="\n")
    if _SHEET.value and survey.good:
        inspect_pairs.save_sheet(Path(_SHEET.value), survey, max_pixels=_MAX_PIXELS.value)
        print(f"written: {_SHEET.value}")
    if survey.problems:
        app.fail(f"{argv[1]}: {len(survey.problems)} of {len(survey.seen)} pairs cannot be used", 1)


def _check_flags() -> None:
    """Raises ConfigError for flags that do not go together."""
    if _INPUT_LABELS.value is not None and _INPUT_RANGE.value != "auto":
        raise ConfigError(f"--input_range is {_INPUT_RANGE.value!r}, but --input_labels has classes, not values: leave it out")
    is_used = _INPUT_LABELS.value is not None or {_INPUT_RANGE.value, _TARGET_RANGE.value} != {"auto"}
    if flags.FLAGS["direction"].present and not is_used:
        raise ConfigError("--direction applies only together with --input_labels, --input_range or --target_range: leave it out")


def cli() -> None:
    app.run(main, files=True)
