"""Exports a generator as a folder: a page to draw on, and all it needs to compute the pictures in the visitor's browser."""

import json
import shutil
from pathlib import Path
from typing import Any

from i2i_jax.config import sides
from i2i_jax.data import images, labels, loader
from i2i_jax.data.palettes import RGB
from i2i_jax.inference import drawings, image_files
from i2i_jax.inference.model import Model
from i2i_jax.interop import export_onnx
from i2i_jax.interop.export import ExportError
from i2i_jax.models import LabelMapGenerator
from i2i_jax.pages import painter
from i2i_jax.storage import files, onnxruntime_web

ANSWERS = 4  # pictures of a drawing at a time
EXAMPLES = 3  # drawings that the page offers


def to_web(
    model: Model, out: Path, *, name: str, runtime: Path | None = None, example: Path | None = None, dtype: str = "float32"
) -> dict[Path, float]:
    """Writes the folder `out`: a page, the files of `export_onnx.to_onnx`, and onnxruntime-web.

    Args:
        model: the model to export; its inputs are label maps, or have 1 or 3 channels.
        out: the folder; must not exist, or be empty.
        name: the run's name: the page's title if the run's dataset has none in `drawings.SUBJECTS`.
        runtime: a folder with onnxruntime-web; see `onnxruntime_web.folder`.
        example: the input that is shown when the page opens; by default one that the package draws, if it can.
        dtype: of the ONNX files: float32 or float16.

    Returns:
        For each ONNX file the difference that `to_onnx` returns.

    Raises:
        ExportError: if something is at `out`, or no page can be made for the model; and as `to_onnx`.
        ImageError: if the example cannot be read.
        RuntimeMissing: if there is no onnxruntime-web.
        MissingExtra: if onnx or onnxruntime is not installed.
    """
    _refuse_other_pictures(model, name)
    kind, brushes = drawings.brushes(model.config, drawings.inputs(model.config))
    with files.new_folder(out, error=ExportError) as folder:
        examples = _examples(model, example, classes=kind == "classes")
        shutil.copytree(onnxruntime_web.folder(runtime), folder / "onnxruntime", ignore=_except_runtime)
        differences = export_onnx.to_onnx(model, folder / "model.onnx", dtype=dtype)
        settings = _settings(model, json.loads((folder / "model.onnx.json").read_text("utf-8")), kind, brushes)
        for index, drawing in enumerate(examples, 1):
            (folder / f"example_{index}.png").write_bytes(image_files.encode(drawing))
        subject = drawings.subject(model.config, name=name, kind=kind)
        painter.write_painter(folder, **subject._asdict(), settings=settings | {"name": name, "examples": len(examples)})
    return {out / file.name: difference for file, difference in differences.items()}


def _refuse_other_pictures(model: Model, name: str) -> None:
    if isinstance(model.networks.generator, LabelMapGenerator):
        raise ExportError(f"{name} is a segmenter, which gives label maps: a page is made for runs that give pictures, such as pix2pix")
    data = model.config.data
    if not {3 if data.input_labels else data.input_channels, data.target_channels} <= {1, 3}:
        channels = f"{data.input_channels} and {data.target_channels} channels"
        raise ExportError(f"{name}: its images have {channels}: a page shows 1 (grey) or 3 (colour)")


def _except_runtime(folder: str, names: list[str]) -> set[str]:
    return set(names) - set(onnxruntime_web.CHECKSUMS)


def _settings(model: Model, card: dict[str, Any], kind: str, brushes: dict[str, RGB]) -> dict[str, Any]:
    data, (height, width) = model.config.data, _size(model)
    masks = {name: _mask_shape(kind_of, model) for name, kind_of in card["inputs"].items() if name.startswith("dropout")}
    return {
        "kind": kind,
        "brushes": [{"name": brush, "colour": colour} for brush, colour in brushes.items()],
        "line": drawings.line_width(model.config),
        "height": height,
        "width": width,
        "channels": "classes" if data.input_labels else data.input_channels,
        "answers": ANSWERS if model.networks.latent_dim or masks else 1,
        "latent": model.networks.latent_dim,
        "masks": masks,
        "encoder": card["encoder"] is not None,
        "encoded_size": sides(data.crop_size),
        "encoded_channels": data.target_channels,
    }


def _size(model: Model) -> tuple[int, int]:
    """Height and width of drawings: those of training, up to the next that the generator accepts."""
    multiple = model.networks.generator.size_multiple
    height, width = (side + -side % multiple for side in sides(model.config.data.crop_size))
    return height, width


def _mask_shape(described: str, model: Model) -> list[int]:
    """[channels, height, width] of a dropout mask that the card describes as float32[batch, 16, 4*height, 4*width]."""
    _, channels, *described_sides = described.removesuffix("]").split(", ")
    multiple = model.networks.generator.size_multiple
    factors = (int(side.rpartition("*")[0] or 1) for side in described_sides)
    return [int(channels), *(factor * side // multiple for factor, side in zip(factors, _size(model), strict=True))]


def _examples(model: Model, example: Path | None, *, classes: bool) -> list[drawings.Drawing]:
    data, size = model.config.data, _size(model)
    resize = loader.resize_labels if classes else loader.resize
    input_labels = labels.of_config(data)
    if example is not None:
        pixels = images.read(example, channels=3, max_pixels=data.max_pixels, labels=input_labels)
        return [resize(input_labels.painted(pixels) if input_labels else pixels, size)]
    return [resize(drawing, size) for drawing in drawings.examples(model.config, EXAMPLES)]
