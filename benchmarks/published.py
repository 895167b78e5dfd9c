"""Compares facades that trained runs generate with those of the published pix2pix model, for the same test labels.

    python benchmarks/published.py --data=FACADES --published=DIR --weights=DIR --output=FOLDER [--run=facades --run=RUN]

FACADES/test has the dataset's side-by-side pairs (photo left, labels right), DIR the published outputs, NAME_fake_B.png at 256 x 256, and
--weights squeezenet1_1_caffe.npz. Labels are reduced to the size that a run was trained at. Images are compared twice: reduced to 128
pixels, and enlarged to 256. The sheet, FOLDER/sheet.png, contains photos of the dataset: it is for looking at, not for publishing.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tables
from absl import flags
from PIL import Image

from i2i_jax import load
from i2i_jax.commands import app
from i2i_jax.config import sides
from i2i_jax.data import loader, outputs
from i2i_jax.evaluation import report, subjects
from i2i_jax.pages import grids

_RUN = flags.DEFINE_multi_string("run", ["facades"], "A run that turns label maps into facades; can be given several times.")
_DATA = flags.DEFINE_string("data", None, "The facades dataset; its folder `test` is used.", required=True)
_PUBLISHED = flags.DEFINE_string("published", None, "The published outputs.", required=True)
_WEIGHTS = flags.DEFINE_string("weights", None, "The folder of squeezenet1_1_caffe.npz.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write all images, the sheet and the figures to.", required=True)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the latents.")

SIZES, SHOWN = (128, 256), 12
METRICS = ("l1", "psnr", "ssim", "squeezenet_caffe", "kernel_squeezenet_caffe")


def translated(run: str, label_maps: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """One output for each label map, at the size that the run was trained at."""
    model = load(run)
    inputs = np.stack([loader.resize(label_map, sides(model.config.data.crop_size)) for label_map in label_maps])
    return [samples[0] for samples in model(inputs, n=1, seed=seed)]


def measured(real: Path, fake: Path) -> dict[str, float]:
    options = subjects.Options(metrics=",".join(METRICS), pretrained_dir=_WEIGHTS.value)
    subject = subjects.of_folders(subjects.FoldersRequest(real=str(real), fake=str(fake), options=options))
    return report.measure(subject).figures


def _cell(figures: dict[str, float], metric: str) -> str:
    """A figure, with its 95 % interval if it has one."""
    low, high = (figures.get(f"{metric}_{end}") for end in ("low", "high"))
    return f"{figures[metric]:.3g}" if low is None else f"{figures[metric]:.0f} ({low:.0f} to {high:.0f})"


def main(argv: Sequence[str]) -> None:
    folder = Path(_OUTPUT.value)
    matched = outputs.matched(Path(_DATA.value, "test"), _PUBLISHED.value)
    examples = [outputs.read(output, direction="BtoA") for output in matched]
    published, photos = [example.samples[0] for example in examples], [example.target for example in examples]
    label_maps = [example.input for example in examples]
    models = {Path(run).stem: translated(run, label_maps, _SEED.value) for run in _RUN.value}
    rows = {"published pix2pix": published} | models
    figures = {}
    for size in SIZES:
        for name, pictures in ({"photos": photos} | rows).items():
            subfolder = folder / str(size) / name
            subfolder.mkdir(parents=True, exist_ok=True)
            for output, picture in zip(matched, pictures, strict=True):
                Image.fromarray(loader.resize(picture, size)).save(subfolder / f"{output.name}.png")
        figures |= {(size, name): measured(folder / str(size) / "photos", folder / str(size) / name) for name in rows}
    columns = {"labels": label_maps, "photo": photos, "published pix2pix": published} | {
        name: [loader.resize(output, SIZES[-1]) for output in outputs_of_run] for name, outputs_of_run in models.items()
    }
    grids.save_grid(folder / "sheet.png", [list(row) for row in zip(*columns.values(), strict=True)][:SHOWN], labels=list(columns))
    record = tables.provenance() | {"images": len(matched), "figures": {f"{name}, {size}": row for (size, name), row in figures.items()}}
    (folder / "figures.json").write_text(json.dumps(record, indent=1) + "\n")
    cells = [[name, size, *(_cell(row, metric) for metric in METRICS)] for (size, name), row in figures.items()]
    print(tables.lines([f"{len(matched)} test labels", "pixels", *METRICS], cells))


if __name__ == "__main__":
    app.start(main)
