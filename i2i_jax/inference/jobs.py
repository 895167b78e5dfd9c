"""Which images are translated and which files are written for each; refuses bad inputs before anything is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from i2i_jax.config import Config, ConfigError
from i2i_jax.data import geotiff, images, labels, listing, pix2pix, splits
from i2i_jax.inference import image_files
from i2i_jax.types import EIGHT_BITS, SampleType

Size = tuple[int, int]  # height, width


class Job(NamedTuple):
    """An input image and the files that are written for it.

    Attributes:
        source: the input image.
        preview: an 8-bit copy of the input, which the page shows.
        outputs: one file for each sample.
        output_previews: 8-bit copies of the outputs, which the page shows in their place; none if it shows the outputs themselves.
        geo_tags: georeferencing tags of the input, which the outputs get too.
    """

    source: Path
    preview: Path
    outputs: list[Path]
    output_previews: list[Path]
    geo_tags: tuple[geotiff.Tag, ...]


def plan(
    source: Path, output: Path, *, samples: int, config: Config, same_size: bool = True, target_type: SampleType = EIGHT_BITS
) -> list[Job]:
    """Returns the jobs for an image or a folder of images, sorted by path. If all images are in subfolders, outputs go into the same ones.

    Outputs are named after their inputs: NAME.png, or NAME_001.png, NAME_002.png ... for several samples. If any two inputs differ
    in their extension only, all outputs keep it: NAME.jpg.png. Outputs of a georeferenced TIFF, of signed numbers and of floats are TIFFs:
    NAME.tif. If the targets were NumPy arrays, all outputs are: NAME.npy.

    Args:
        source: an image, or a folder; hidden files and files that are not images are ignored.
        output: the folder to write to.
        samples: translations of each input.
        config: the config of the run; its numbers of channels determine the file format.
        same_size: whether an output has the size of its input, so that the input's georeferencing is valid for it.
        target_type: how the samples of outputs are stored.

    Raises:
        ConfigError: if there is no image, or if an output would overwrite an input.
    """
    inputs = _find_images(source, output)
    stems_clash = len({(file.parent, file.stem) for file in inputs}) < len(inputs)
    root = source if source.is_dir() else source.parent
    sample_suffixes = [f"_{i + 1:03d}" for i in range(samples)] if samples > 1 else [""]
    input_format = image_files.suffix(3 if config.data.input_labels else config.data.input_channels)
    browsers_show = target_type.dtype in image_files.PNG_TYPES and not target_type.npy and config.data.target_range == "auto"
    jobs = []
    for file in inputs:
        name, subfolder = file.name if stems_clash else file.stem, file.parent.relative_to(root)
        geo_tags = geotiff.read(file) if same_size and not target_type.npy else ()
        output_format = image_files.suffix(config.data.target_channels, georeferenced=bool(geo_tags), sample_type=target_type)
        outputs = [output / subfolder / (name + suffix + output_format) for suffix in sample_suffixes]
        previews = [output / "previews" / subfolder / (name + suffix + ".png") for suffix in sample_suffixes]
        previews = previews if geo_tags or not browsers_show else []
        jobs.append(Job(file, output / "inputs" / subfolder / (name + input_format), outputs, previews, geo_tags))
    _refuse_overwriting(jobs)
    return jobs


def _find_images(source: Path, output: Path) -> list[Path]:
    """The images of a folder, or if there are none those in its subfolders, except in the output folder."""
    if source.is_dir():
        nested = (file for file in listing.nested_image_files(source) if output.absolute() not in file.absolute().parents)
        files = sorted(listing.image_files(source) or nested)
    elif source.is_file():
        files = [source]
    else:
        raise ConfigError(f"--input: {source} does not exist")
    if not files:
        raise ConfigError(f"--input: {source} has no images ({', '.join(images.EXTENSIONS)})")
    return files


def _refuse_overwriting(jobs: Sequence[Job]) -> None:
    written = [file for job in jobs for file in (job.preview, *job.outputs, *job.output_previews)]
    folders = {folder: folder.resolve() for folder in {file.parent for file in written}}  # resolving every file would be slow
    overwritten = {folders[file.parent] / file.name for file in written} & {job.source.resolve() for job in jobs}
    if overwritten:
        raise ConfigError(f"--output: {min(overwritten)} is an input: name another folder")


def read_sizes(jobs: Sequence[Job], config: Config, *, pairs: bool) -> list[Size]:
    """Returns height and width of every input, read from the files' headers.

    Args:
        jobs: the jobs, as returned by `plan`.
        config: the config of the run; its `data.input_channels`, `data.input_labels` and `data.max_pixels` are checked.
        pairs: whether the files are side-by-side pairs; sizes are then those of one half.

    Raises:
        ImageError: for the first file that is not a usable image, or if a pair has an odd width.
    """
    progress = tqdm(jobs, "checking", unit="image", delay=2, leave=False, disable=None)
    data = config.data
    options = {"channels": data.input_channels, "max_pixels": data.max_pixels, "labels": labels.of_config(data)}
    whole = [images.size(job.source, **options) for job in progress]
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
