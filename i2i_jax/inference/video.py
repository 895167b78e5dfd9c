"""Moving pictures: several inputs beside their translations along one walk through the latents, as mp4, GIF or WebP."""

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
from i2i_jax.inference import translation
from i2i_jax.pages import grids
from i2i_jax.storage import files
from i2i_jax.train_state import TrainState

FPS = 25
CELL = 256  # pixels, at most, of a cell's longer side
MOST = 36  # inputs in a film

Frame = UInt8[np.ndarray, "_h _w 3"]


class VideoError(RuntimeError):
    """A film that cannot be written: one line that says what would do."""


class Walked(NamedTuple):
    """An input, and its translations from frame to frame."""

    input: Frame
    outputs: list[Frame]


def check(path: Path, *, inputs: int) -> None:
    """Raises VideoError or MissingExtra where a film of so many inputs cannot be written to `path`."""
    if inputs > MOST:
        raise VideoError(f"{path}: a film has room for {MOST} inputs, not {inputs}")
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
) -> list[Walked]:
    """What becomes of the sources on a round trip through the latents that `sync` gives, `frames` from each to the next.

    Sources that cannot be read after all are left out. There is no dropout: it would flicker.
    """
    walk = sampling.walk(translation.synced(networks, samples=samples, seed=seed), frames)
    grid, shown, made = sources[0].grid, {}, {}
    size = _cell_size(grid.rows.length, grid.columns.length)

    def leg(place: int, number: int) -> translation.Source:
        def write(image: np.ndarray, outputs: np.ndarray) -> None:
            shown[place] = grids.fitted(image, size)
            made[place, number] = [grids.fitted(output, size) for output in outputs]

        return sources[place]._replace(key=number, write=write)

    legs = [leg(place, number) for place in range(len(sources)) for number in range(samples)]
    still = mode._replace(dropout=False)
    done = translation.run(networks, state, still, legs, samples=frames, latents=walk.__getitem__)
    for _ in tqdm(done, total=len(legs), unit="walk", disable=None):
        pass
    return [Walked(shown[place], [frame for number in range(samples) for frame in made[place, number]]) for place in sorted(shown)]


def grid(films: Sequence[Walked]) -> Iterator[Frame]:
    """The frames of a film of all, each input beside its translation, about as wide as high."""
    across = round((len(films) / 2) ** 0.5) or 1
    down = -(-len(films) // across)
    fill = [np.full_like(films[0].input, grids.SHEET)] * (2 * (across * down - len(films)))
    for outputs in zip(*(film.outputs for film in films), strict=True):
        cells = [image for film, output in zip(films, outputs, strict=True) for image in (film.input, output)] + fill
        yield grids.grid([cells[2 * across * row :][: 2 * across] for row in range(down)], labels=["input", "output"] * across)


def write(path: Path, frames: Iterable[Frame]) -> None:
    """Writes a film of the kind that the name says, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        KINDS[path.suffix](made, frames)
        files.atomic_write(path, made.read_bytes())


def _cell_size(height: int, width: int) -> tuple[int, int]:
    """Width and height of the cells of a film whose first input is of this size."""
    scale = min(1.0, CELL / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _mp4(path: Path, frames: Iterable[Frame]) -> None:
    # H.264 wants even sides; a player begins at once where the index comes first. imageio's own writer forks, which JAX warns of.
    even = (np.pad(frame, [(0, side % 2) for side in frame.shape[:2]] + [(0, 0)], mode="edge") for frame in frames)
    first = next(even)
    given = f"-f rawvideo -pix_fmt rgb24 -s {first.shape[1]}x{first.shape[0]} -r {FPS} -i -"
    wanted = "-c:v libx264 -pix_fmt yuv420p -crf 18 -movflags +faststart"
    ffmpeg = optional.library("imageio_ffmpeg", "video").get_ffmpeg_exe()
    command = [ffmpeg, "-loglevel", "error", *given.split(), *wanted.split(), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as encoder:
        with contextlib.suppress(BrokenPipeError):  # it says why it went
            for frame in itertools.chain([first], even):
                cast(IO[bytes], encoder.stdin).write(frame.tobytes())
        _, complaint = encoder.communicate()
    if encoder.returncode:
        raise VideoError(f"{path.name} was not encoded: {complaint.decode(errors='replace').strip()}")


def _animation(path: Path, frames: Iterable[Frame], **options: Any) -> None:
    first, *others = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=others, duration=1000 // FPS, loop=0, **options)


KINDS: dict[str, Callable[[Path, Iterable[Frame]], None]] = {
    ".mp4": _mp4,
    ".gif": _animation,
    ".webp": lambda path, frames: _animation(path, frames, quality=90, method=2),
}
