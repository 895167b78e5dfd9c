"""Translates a film: frames are decoded, translated and encoded as a stream, so that a film of any length fits in memory."""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from i2i_jax import build, optional
from i2i_jax.config import Config, ConfigError
from i2i_jax.data import image_header, loader
from i2i_jax.inference import folders, model, translation, video
from i2i_jax.inference.folders import Request
from i2i_jax.inference.video import VideoError
from i2i_jax.storage import files

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")
# The rate of a film with variable frame rate is that of its clock, for example 1000, and 100 for a GIF.
HIGHEST_RATE, HIGHEST_RATE_OF_GIF, RATE_IF_HIGHER = 120, 50, 30

Frame = UInt8[np.ndarray, "_h _w _c"]


class Film(NamedTuple):
    """What the header of a film says.

    Attributes:
        path: the file.
        height: height of the upright frames, in pixels.
        width: their width.
        rate: frames per second.
        pixel_aspect: width of a pixel divided by its height.
        seconds: the length; None if it is not known.
    """

    path: Path
    height: int
    width: int
    rate: Fraction
    pixel_aspect: Fraction
    seconds: float | None

    @property
    def number(self) -> int | None:
        """The approximate number of frames; None if it is not known."""
        return None if self.seconds is None else max(1, round(self.seconds * self.rate))


def is_film(request: Request) -> bool:
    """Whether the input is a film. A GIF is one only if the output is a video too; otherwise its first frame is translated."""
    if not request.input.is_file() or request.input.suffix.lower() not in SUFFIXES:
        return False
    to_folder = request.output.is_dir() or request.output.suffix.lower() not in SUFFIXES
    return not (request.input.suffix.lower() == ".gif" and to_folder)


def translate(request: Request) -> None:
    """Translates a film into an mp4 with its frame rate and sound, and prints where it is.

    All frames have the same latent and dropout. The mp4 appears only once it is complete.

    Raises:
        ConfigError: if the run does not exist, or the request does not fit it or a film.
        VideoError: if the film cannot be read, or the mp4 cannot be written.
        ImageError: if the style image cannot be used.
        CheckpointError, PackedError, HubError: if the run cannot be loaded.
        MissingExtra: if ffmpeg is not installed (extra `video`).
    """
    config = build.read_config(request.run)
    config.data.max_pixels = request.max_pixels or config.data.max_pixels
    _check_request(request, config)
    film = probe(request.input)
    if (pixels := film.height * film.width) > config.data.max_pixels:
        size = f"is {film.width}x{film.height}: {pixels} pixels"
        raise VideoError(f"{film.path}: {size}, more than max_pixels={config.data.max_pixels} allows")
    trained = model.load(request.run, step=request.step)
    with files.replacing(request.output) as temporary, contextlib.closing(frames(film)) as decoded:
        _encode(temporary, film, _translated(request, trained, config, film, decoded))
    print(f"written: {request.output}")


def _check_request(request: Request, config: Config) -> None:
    """Raises ConfigError if the request has options that do not apply to a film, or the run's images have other channels."""
    reason = "does not apply to a film: leave it out"
    if request.output.suffix.lower() != ".mp4" or request.output.is_dir():
        raise ConfigError(f"--output is {request.output}: the input is a film: must be a file name that ends in .mp4")
    if request.output.exists() and request.output.samefile(request.input):
        raise ConfigError(f"--output: {request.output} is the input: name another file")
    if request.video:
        raise ConfigError(f"--interpolate {reason}")
    if request.samples > 1:
        raise ConfigError(f"--samples is {request.samples}: a film is translated once: leave it out, and choose another --seed instead")
    if request.pairs is not None:
        raise ConfigError(f"--pairs {reason}")
    if config.data.input_range != "auto":
        unit = f"data.input_range={config.data.input_range}"
        raise ConfigError(f"--input: the run has {unit}, but frames have 8 bits: translate a folder of images in these units")
    if unfit := {config.data.input_channels, config.data.target_channels} - {1, 3}:
        raise ConfigError(f"--input: the run has images of {min(unfit)} channels: only runs with 1 or 3 translate films")


def _translated(request: Request, trained: model.Model, config: Config, film: Film, decoded: Iterator[Frame]) -> Iterator[Frame]:
    """The translated frames, as RGB."""
    side = folders.square_side(request, config)

    def prepared(frame: Frame) -> Frame:
        image = image_header.with_channels(frame, frame.shape[2] == 4, config.data.input_channels)
        return loader.resize(image, side) if side else image

    size = film.height, film.width
    outputs = translation.stream(
        trained.networks,
        trained.state,
        build.mode(config),
        map(prepared, decoded),
        folders.tile_grid(request, config, size, trained.networks.generator),
        seed=request.seed,
        latents=folders.style_latents(request, trained, config),
        size_change=folders.size_change_of(request, config, size),
    )
    for output in tqdm(outputs, total=film.number, unit="frame", disable=None):
        yield image_header.with_channels(output, False, 3)


def _encode(path: Path, film: Film, outputs: Iterator[Frame]) -> None:
    """Writes the frames with the rate and the sound of the film."""
    sound = ["-i", f"file:{film.path}"]
    # ffmpeg's default is BT.601 without a tag, which players take for BT.709 in large films: the colours would shift.
    filters = f"scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,setsar={film.pixel_aspect}"
    options = f"-map 0:v -map 1:a:0? -c:a aac -colorspace bt709 -vf {filters}".split()
    video.encode(path, outputs, rate=str(film.rate), inputs=sound, options=options)


def probe(path: Path) -> Film:
    """Reads the size, frame rate and length of a film, and decodes its first frame.

    Raises:
        VideoError: if it is not a film, or is damaged.
        MissingExtra: if ffmpeg is not installed (extra `video`).
    """
    # The header of a YUV4MPEG2 stream has the size of the upright frame and the exact rate, for example W320 H240 F30000:1001 A1:1.
    result = subprocess.run(
        [*_decoder(path), "-frames:v", "1", "-pix_fmt", "yuv444p", "-f", "yuv4mpegpipe", "pipe:1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    text, (header, _, first_frame) = result.stderr.decode(errors="replace"), result.stdout.partition(b"\n")
    if result.returncode or not first_frame:
        has_pictures = result.returncode and "matches no streams" not in text
        reason = text.strip().rpartition("\n")[2].rpartition(": ")[2] if has_pictures else "it has no pictures"
        raise VideoError(f"{path}: is not a film that ffmpeg can read ({reason})")
    values = {field[0]: field[1:].replace(":", "/") for field in header.decode().split()[1:]}
    rate, aspect = Fraction(values["F"]), values.get("A", "0/0")
    highest_rate = HIGHEST_RATE_OF_GIF if path.suffix.lower() == ".gif" else HIGHEST_RATE
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", text)
    return Film(
        path,
        int(values["H"]),
        int(values["W"]),
        Fraction(RATE_IF_HIGHER) if rate > highest_rate else rate,
        Fraction(1) if aspect.startswith("0") else Fraction(aspect),
        float(length[1]) * 3600 + float(length[2]) * 60 + float(length[3]) if length else None,
    )


def frames(film: Film) -> Generator[Frame, None, None]:
    """Yields the frames of a film at its rate, as RGB; those of a GIF as RGBA.

    Raises:
        VideoError: if the film is damaged.
        MissingExtra: if ffmpeg is not installed (extra `video`).
    """
    format, channels = ("rgba", 4) if film.path.suffix.lower() == ".gif" else ("rgb24", 3)
    size, number = film.height * film.width * channels, 0
    output = f"-r {film.rate} -s {film.width}x{film.height} -pix_fmt {format} -f rawvideo pipe:1"
    command = [*_decoder(film.path), "-loglevel", "error", "-xerror", *output.split()]
    with tempfile.TemporaryFile() as messages:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages) as decoder:
            try:
                while len(pixels := cast(IO[bytes], decoder.stdout).read(size)) == size:
                    yield np.frombuffer(pixels, np.uint8).reshape(film.height, film.width, channels)
                    number += 1
                decoder.wait()
            finally:
                decoder.kill()
        messages.seek(0)
        first_message = re.sub(r"^\[.*?\] ", "", messages.readline().decode(errors="replace").strip())
    ends_early = bool(first_message) and number < 0.9 * (film.number or 0)
    if decoder.returncode or not number or ends_early:
        raise VideoError(f"{film.path}: is damaged after frame {number} ({first_message or 'ffmpeg gives no reason'})")
    if first_message:
        tqdm.write(f"{film.path}: ffmpeg reports damage, {number} frames were read ({first_message})")


def _decoder(path: Path) -> list[str]:
    """The command that decodes a film's pictures; 0:V:0 is the first video stream that is not a cover image."""
    return [optional.library("imageio_ffmpeg", "video").get_ffmpeg_exe(), "-hide_banner", "-i", f"file:{path}", "-map", "0:V:0"]
