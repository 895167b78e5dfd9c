"""Translates images with a trained run: python -m i2i_jax translate --run=RUN --input=FILE_OR_DIR --output=DIR

i2i translate --run=RUN --input=photo.jpg --output=OUT --samples=5
i2i translate --run=RUN --input=PHOTOS --output=OUT --samples=5 --sync       the same 5 styles for all inputs
i2i translate --run=RUN --input=PHOTOS --output=OUT --style=target.jpg       in the style of an image
i2i translate --run=RUN --input=PHOTOS --output=OUT --samples=5 --interpolate=mp4
i2i translate --run=RUN --input=LIST.csv --output=OUT                        inputs of several files: a.png|b.png in each line
i2i translate --run=RUN --input=film.mp4 --output=translated.mp4           a film (extra video)

All frames of a film get the same latent and dropout, as all images of a folder do with --sync. Its size, frame rate and sound are kept.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import ConfigError

_RUN = flags.DEFINE_string("run", None, f"The trained run: {app.RUN}.", required=True)
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "An image, a folder of images (inputs only, or see --pairs), a list of inputs (.csv: a file in each line, or several, a.png|b.png, "
    "the channels of which are concatenated), or a film: .mp4, .mov, .mkv, .webm, .avi, .gif.",
    required=True,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The folder to write to; open its index.html. For a film: the .mp4 file to write.", required=True
)
_SAMPLES = flags.DEFINE_integer("samples", 1, "Translations of each input.", lower_bound=1)
_SYNC = flags.DEFINE_bool("sync", False, "Use the same latents and dropout for all inputs, so that column i of the page has one style.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the latents and of dropout.", lower_bound=0)
_STYLE = flags.DEFINE_string("style", None, "A target image whose latent is used for all inputs.")
_SIZE = flags.DEFINE_integer(
    "size",
    None,
    "Resize inputs to a square of this many pixels first, as training does to data.load_size. For runs with data.resize=width or pad: "
    "takes the place of data.load_size; outputs keep the size of their inputs.",
    lower_bound=1,
)
_INTERPOLATE = flags.DEFINE_enum(
    "interpolate",
    None,
    ["mp4", "gif", "webp"],
    "Write a video instead: all inputs along the same path through the latents, from each of the --samples to the next.",
)
_FRAMES = flags.DEFINE_integer("frames", 25, "With --interpolate: frames from one sample to the next; 25 are a second.", lower_bound=1)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", None, "Refuse images with more pixels than this (default: the run's data.max_pixels).", lower_bound=1
)
_TILE = flags.DEFINE_integer(
    "tile", None, "Translate in overlapping square tiles of this many pixels, for images that do not fit in memory.", lower_bound=1
)
_PAIRS = flags.DEFINE_bool(
    "pairs",
    None,
    "Whether the inputs are side-by-side pairs: --pairs translates the input's half of each, --nopairs the whole image "
    "(default: refuse images that look like the pairs the run was trained on).",
)
_STEP = flags.DEFINE_string("step", None, "The checkpoint: a step or `best` (default: the newest).")


def main(argv: Sequence[str]) -> None:
    if flags.FLAGS["frames"].present and not _INTERPOLATE.value:
        raise ConfigError("--frames applies only together with --interpolate: leave it out, or add --interpolate=mp4")
    step = app.parse_step(_STEP.value)
    from i2i_jax.inference import film, folders

    request = folders.Request(
        run=_RUN.value,
        input=Path(_INPUT.value),
        output=Path(_OUTPUT.value),
        step=step,
        samples=_SAMPLES.value,
        sync=_SYNC.value,
        seed=_SEED.value,
        style=Path(_STYLE.value) if _STYLE.value else None,
        size=_SIZE.value,
        tile=_TILE.value,
        max_pixels=_MAX_PIXELS.value,
        pairs=_PAIRS.value,
        video=_INTERPOLATE.value,
        frames=_FRAMES.value,
    )
    (film if film.is_film(request) else folders).translate(request)


def cli() -> None:
    app.run(main, less_memory="--tile=N translates large images in squares of N pixels; fewer --samples need less memory too")
