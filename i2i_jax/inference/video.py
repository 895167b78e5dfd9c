"""Videos (mp4, GIF or WebP) of inputs beside their translations while the latent moves from sample to sample."""

import contextlib
import itertools
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from i2i_jax import models, optional, sampling
from i2i_jax.data import values
from i2i_jax.data.labels import Labels
from i2i_jax.inference import translation
from i2i_jax.pages import grids
from i2i_jax.storage import files
from i2i_jax.train_state import TrainState

FPS = 25
CELL = 256  # longer side of a cell in pixels, at most
MOST = 36  # inputs in a video, at most

Frame = UInt8[np.ndarray, "_h _w 3"]


class VideoError(RuntimeError):
    """A video cannot be read or written; the message is one line that says what would do."""


class Walked(NamedTuple):
    """An input and its translation in each frame."""

    input: Frame
    outputs: list[Frame]


def check(path: Path, *, inputs: int) -> None:
    """Checks, before anything is translated, that a video can be written.

    Args:
        path: the file to write; its suffix is one of `KINDS`.
        inputs: number of inputs to show.

    Raises:
        VideoError: if there are more than `MOST` inputs.
        MissingExtra: if `path` is an mp4 and ffmpeg is not installed (extra `video`).
    """
    if inputs > MOST:
        raise VideoError(f"{path}: a video has room for {MOST} inputs, not {inputs}")
    if path.suffix == ".mp4":
        optional.library("imageio_ffmpeg", "video")


def walked(
    networks: models.Networks,
    state: TrainState,
    mode: sampling.Mode,
    sources: Sequence[translation.Source],
    *,
    samples: int,
    seed: int,
    frames: int,
    input_labels: Labels | None = None,
) -> list[Walked]:
    """Translates the sources along a closed walk through the latents that `translation.run` draws with `sync`.

    Dropout is off, because it would make the video flicker.

    Args:
        networks: the networks; they must have a latent.
        state: their parameters and statistics.
        mode: how the generator runs at inference.
        sources: the inputs, of any sizes, shown in cells of the first one's shape; their `key` and `write` are not used.
        samples: latents that the walk passes through.
        seed: seed of these latents.
        frames: frames from one latent to the next.
        input_labels: the classes of the inputs, if they are label maps; these are shown in the classes' colours.

    Returns:
        The inputs and their `samples * frames` translations; sources that cannot be read are left out.
    """
    walk = sampling.walk(translation.synced(networks, samples=samples, seed=seed), frames)
    inputs, outputs = {}, {}
    first = sources[0].grid.rows.length, sources[0].grid.columns.length
    size = _cell_size(*(sources[0].size_change.size if sources[0].size_change else first))

    def leg(index: int, number: int) -> translation.Source:
        """One source on its way from latent `number` to the next one."""

        def write(image: np.ndarray, translations: np.ndarray) -> None:
            inputs[index] = grids.fitted(input_labels.painted(image) if input_labels else values.to_8_bits(image), size)
            outputs[index, number] = [grids.fitted(output, size) for output in translations]

        return sources[index]._replace(key=number, write=write)

    legs = [leg(index, number) for index in range(len(sources)) for number in range(samples)]
    without_dropout = mode._replace(dropout=False)
    finished = translation.run(networks, state, without_dropout, legs, samples=frames, latents=walk.__getitem__)
    for _ in tqdm(finished, total=len(legs), unit="walk", disable=None):
        pass
    return [Walked(inputs[index], [frame for number in range(samples) for frame in outputs[index, number]]) for index in sorted(inputs)]


def grid(walks: Sequence[Walked]) -> Iterator[Frame]:
    """Yields the frames of one video that shows each input beside its translation, about as wide as high."""
    across = round((len(walks) / 2) ** 0.5) or 1
    down = -(-len(walks) // across)
    filler = [np.full_like(walks[0].input, grids.SHEET)] * (2 * (across * down - len(walks)))
    for outputs in zip(*(walk.outputs for walk in walks), strict=True):
        cells = [image for walk, output in zip(walks, outputs, strict=True) for image in (walk.input, output)] + filler
        yield grids.grid([cells[2 * across * row :][: 2 * across] for row in range(down)], labels=["input", "output"] * across)


def write(path: Path, frames: Iterable[Frame]) -> None:
    """Writes a video atomically.

    Args:
        path: the file to write; its suffix is one of `KINDS`.
        frames: frames of one size.

    Raises:
        VideoError: if ffmpeg fails.
        MissingExtra: if `path` is an mp4 and ffmpeg is not installed (extra `video`).
    """
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / path.name
        KINDS[path.suffix](temporary, frames)
        files.atomic_write(path, temporary.read_bytes())


def _cell_size(height: int, width: int) -> tuple[int, int]:
    """Width and height of the cells of a video whose first input has this size."""
    scale = min(1.0, CELL / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def encode(path: Path, frames: Iterable[Frame], *, rate: str = str(FPS), inputs: Sequence[str] = (), options: Sequence[str] = ()) -> None:
    """Writes an mp4 while its frames are computed; if they raise, an incomplete file is left behind.

    Args:
        path: the file to write.
        frames: frames of one size, at least one.
        rate: frames per second, as a number or a fraction.
        inputs: options of ffmpeg that name more inputs.
        options: options of ffmpeg for the output.

    Raises:
        VideoError: if ffmpeg fails.
        MissingExtra: if ffmpeg is not installed (extra `video`).
    """
    # H.264 needs even sides; with the index first (faststart) playback starts while the file loads.
    # ffmpeg is called directly because imageio's own writer forks, which JAX warns about.
    even = (np.pad(frame, [(0, side % 2) for side in frame.shape[:2]] + [(0, 0)], mode="edge") for frame in frames)
    first = next(even)
    input_options = f"-f rawvideo -pix_fmt rgb24 -s {first.shape[1]}x{first.shape[0]} -r {rate} -i -"
    output_options = "-c:v libx264 -pix_fmt yuv420p -crf 18 -movflags +faststart"
    ffmpeg = optional.library("imageio_ffmpeg", "video").get_ffmpeg_exe()
    command = [ffmpeg, "-loglevel", "error", *input_options.split(), *inputs, *output_options.split(), *options, str(path)]
    # Messages go to a file: ffmpeg would block if it filled a pipe while this process is still writing frames.
    with tempfile.TemporaryFile() as messages, subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages) as encoder:
        try:
            with contextlib.suppress(BrokenPipeError):  # ffmpeg exited: its messages say why
                for frame in itertools.chain([first], even):
                    cast(IO[bytes], encoder.stdin).write(frame.tobytes())
            encoder.communicate()
        except BaseException:
            encoder.kill()
            raise
        messages.seek(0)
        if encoder.returncode:
            raise VideoError(f"{path.name} was not encoded: {messages.read().decode(errors='replace').strip()}")


def _animation(path: Path, frames: Iterable[Frame], **options: Any) -> None:
    first, *others = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=others, duration=1000 // FPS, loop=0, **options)


KINDS: dict[str, Callable[[Path, Iterable[Frame]], None]] = {
    ".mp4": encode,
    ".gif": _animation,
    ".webp": lambda path, frames: _animation(path, frames, quality=90, method=2),
}
