"""Which images are translated and which files are written for each; refuses bad inputs before anything is written."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from i2i_jax.config import Config, ConfigError
from i2i_jax.data import concatenated, geotiff, images, labels, listing, pair_list, pix2pix, splits
from i2i_jax.inference import image_files
from i2i_jax.types import EIGHT_BITS, SampleType

Size = tuple[int, int]  # height, width


class Job(NamedTuple):
    """An input image and the files that are written for it.

    Attributes:
        files: the input's file, or several whose channels are concatenated.
        name: the path of the first file in the folder of the inputs; the input's random latents depend on it.
        preview: an 8-bit copy of the input, which the page shows.
        outputs: one file for each sample.
        output_previews: 8-bit copies of the outputs, which the page shows in their place; none if it shows the outputs themselves.
        geo_tags: georeferencing tags of the input, which the outputs get too.
    """

    files: tuple[Path, ...]
    name: Path
    preview: Path
    outputs: list[Path]
    output_previews: list[Path]
    geo_tags: tuple[geotiff.Tag, ...]

    @property
    def source(self) -> Path:
        """The input's file, of several the first."""
        return self.files[0]


def plan(
    source: Path, output: Path, *, samples: int, config: Config, same_size: bool = True, target_type: SampleType = EIGHT_BITS
) -> list[Job]:
    """Returns the jobs for an image, a folder of images or a list of inputs; of a folder, sorted by path.

    If all images of a folder are in subfolders, outputs go into the same ones. So do those of a list, seen from the list's folder, or, if
    not all files are in there, from the folder around all of them.

    Outputs are named after their inputs: NAME.png, or NAME_001.png, NAME_002.png ... for several samples. If any two inputs differ
    in their extension only, all outputs keep it: NAME.jpg.png. Outputs of a georeferenced TIFF, of signed numbers and of floats are TIFFs:
    NAME.tif. If the targets were NumPy arrays, all outputs are: NAME.npy.

    Args:
        source: an image, or a folder, of which hidden files and files that are not images are ignored; or a list of inputs (.csv), see
            `pair_list.read_inputs`; or several files of one image, as a.png|b.png.
        output: the folder to write to.
        samples: translations of each input.
        config: the config of the run; its numbers of channels determine the file format.
        same_size: whether an output has the size of its input, so that the input's georeferencing is valid for it.
        target_type: how the samples of outputs are stored.

    Raises:
        ConfigError: if there is no image, if an output would overwrite an input, or if several files cannot be an input of this run.
        FolderError: if a list cannot be read.
    """
    inputs = _find_inputs(source, output, config.data.direction)
    stems_clash = len({(files[0].parent, files[0].stem) for files in inputs}) < len(inputs)
    several = len(inputs[0]) > 1
    if several and config.data.input_labels:
        raise ConfigError(f"--input: {source} has inputs of {len(inputs[0])} files, but this run reads one label map for each input")
    sample_suffixes = [f"_{i + 1:03d}" for i in range(samples)] if samples > 1 else [""]
    input_format = image_files.suffix(3 if config.data.input_labels or several else config.data.input_channels)
    browsers_show = target_type.dtype in image_files.PNG_TYPES and not target_type.npy and config.data.target_range == "auto"
    jobs = []
    for files, relative in zip(inputs, _relative(inputs, source), strict=True):
        name, subfolder = relative.name if stems_clash else relative.stem, relative.parent
        geo_tags = next(filter(None, map(geotiff.read, files)), ()) if same_size and not target_type.npy else ()
        output_format = image_files.suffix(config.data.target_channels, georeferenced=bool(geo_tags), sample_type=target_type)
        outputs = [output / subfolder / (name + suffix + output_format) for suffix in sample_suffixes]
        previews = [output / "previews" / subfolder / (name + suffix + ".png") for suffix in sample_suffixes]
        previews = previews if geo_tags or not browsers_show else []
        jobs.append(Job(files, relative, output / "inputs" / subfolder / (name + input_format), outputs, previews, geo_tags))
    _refuse_overwriting(jobs)
    return jobs


def _find_inputs(source: Path, output: Path, direction: str) -> list[tuple[Path, ...]]:
    """The files of each input. Of a folder: its images, or if there are none those in its subfolders, except in the output folder."""
    if source.is_dir():
        nested = (file for file in listing.nested_image_files(source) if output.absolute() not in file.absolute().parents)
        inputs = [(file,) for file in sorted(listing.image_files(source) or nested)]
    elif pair_list.is_list(source) and source.is_file():
        inputs = pair_list.read_inputs(source, direction=direction)
        _refuse_same_first_file(inputs, source)
    elif source.is_file():
        inputs = [(source,)]
    else:
        inputs = [tuple(map(Path, str(source).split(pair_list.SEPARATOR)))]
        if missing := [file for file in inputs[0] if not file.is_file()]:
            raise ConfigError(f"--input: {missing[0]} does not exist")
    if not inputs:
        raise ConfigError(f"--input: {source} has no images ({', '.join(images.EXTENSIONS)})")
    return inputs


def _refuse_same_first_file(inputs: Sequence[tuple[Path, ...]], source: Path) -> None:
    first_files = set()
    for files in inputs:
        if files[0] in first_files:
            raise ConfigError(f"--input: {source} has two inputs that begin with {files[0]}, which names the output: must differ")
        first_files.add(files[0])


def _relative(inputs: Sequence[tuple[Path, ...]], source: Path) -> list[Path]:
    """The path of each input's first file in the folder of the inputs."""
    if not pair_list.is_list(source):
        return [files[0].relative_to(source if source.is_dir() else files[0].parent) for files in inputs]
    paths = [os.path.abspath(files[0]) for files in inputs]
    folder = os.path.abspath(source.parent)
    common = os.path.commonpath([folder, *paths])
    root = folder if common == folder else os.path.commonpath([os.path.dirname(path) for path in paths])
    return [Path(os.path.relpath(path, root)) for path in paths]


def _refuse_overwriting(jobs: Sequence[Job]) -> None:
    written = [file for job in jobs for file in (job.preview, *job.outputs, *job.output_previews)]
    folders = {folder: folder.resolve() for folder in {file.parent for file in written}}  # resolving every file would be slow
    overwritten = {folders[file.parent] / file.name for file in written} & {file.resolve() for job in jobs for file in job.files}
    if overwritten:
        raise ConfigError(f"--output: {min(overwritten)} is an input: name another folder")


def read_sizes(jobs: Sequence[Job], config: Config, *, pairs: bool) -> list[Size]:
    """Returns height and width of every input, read from the files' headers.

    Args:
        jobs: the jobs, as returned by `plan`.
        config: the config of the run; its `data.input_channels`, `data.input_labels` and `data.max_pixels` are checked.
        pairs: whether the files are side-by-side pairs; sizes are then those of one half.

    Raises:
        ConfigError: if pairs are inputs of several files.
        ImageError: for the first file that is not a usable image, or if a pair has an odd width.
    """
    if pairs and (several := [job for job in jobs if len(job.files) > 1]):
        names = pair_list.SEPARATOR.join(map(str, several[0].files))
        raise ConfigError(f"--pairs applies to side-by-side images, not to inputs of several files, such as {names}: leave it out")
    progress = tqdm(jobs, "checking", unit="image", delay=2, leave=False, disable=None)
    data = config.data
    options: dict[str, Any] = {"channels": data.input_channels, "max_pixels": data.max_pixels}
    input_labels = labels.of_config(data)
    whole = [
        images.size(job.source, labels=input_labels, **options) if len(job.files) == 1 else concatenated.size(job.files, **options)
        for job in progress
    ]
    if not pairs:
        return whole
    for job, (_, width) in zip(jobs, whole, strict=True):
        if width % 2:
            raise images.ImageError(f"{job.source}: {images.odd_width(width)}")
    return [(height, width // 2) for height, width in whole]


def refuse_pairs(jobs: Sequence[Job], sizes: Sequence[Size], *, run: str, config: Config) -> None:
    """Refuses inputs that look like the side-by-side pairs that the run was trained on.

    If the run does not record how its folder of pairs was stored, it prints a hint instead.

    Args:
        jobs: the jobs, as returned by `plan`.
        sizes: height and width of every input.
        run: the trained run, whose pairs are known by `data.splits`.
        config: the config of the run.

    Raises:
        ConfigError: if an input has the shape of a pair.
    """
    trained_on = splits.read(run)
    if trained_on is not None and not trained_on.side_by_side:
        return
    half_size = (trained_on and trained_on.size) or (1, 1)
    suspects = [job.source for job, size in zip(jobs, sizes, strict=True) if _is_two_halves(size, half_size)]
    half = "left" if config.data.direction == "AtoB" else "right"
    choice = f"--pairs translates the {half} half of each, --nopairs all of it"
    if suspects and (trained_on or config.data.name in pix2pix.SETS):
        subject = f"{suspects[0]} and {len(suspects) - 1} others have" if len(suspects) > 1 else f"{suspects[0]} has"
        raise ConfigError(f"--input: {subject} the shape of the side-by-side pairs that this run was trained on: {choice}")
    if suspects and config.data.name == "folder":
        print(f"{suspects[0]} is twice as wide as high; if it is a side-by-side pair, {choice}")


def _is_two_halves(size: Size, half_size: Size) -> bool:
    """Whether an image has the aspect ratio, within 1 %, of two images of `half_size` side by side."""
    (height, width), (half_height, half_width) = size, half_size
    return abs(width * half_height / (height * 2 * half_width) - 1) < 0.01
