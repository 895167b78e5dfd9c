"""Every kind of image file: trained on through the real loader, and written back by the real `i2i translate` with an identity generator.

docs/file_kinds.md has a table of the results, which must be true. It is written by
I2I_WRITE_FILE_KINDS=1 python -m pytest tests/test_file_kinds.py
"""

import dataclasses
import functools
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from i2i_jax import build
from i2i_jax.config import to_json
from i2i_jax.data import augment, geotiff, images, loader
from i2i_jax.inference import model, translation
from i2i_jax.train_state import TrainState
from i2i_jax.training import run_folder

DOCS = Path(__file__).parents[1] / "docs" / "file_kinds.md"
HEAD = "| file | `data.input_range`, `data.target_range` | channels | translation |\n|---|---|---|---|\n"
SIZE = 16  # pixels of a side
LIMITS = {"uint8": (0, 255), "uint16": (0, 65535), "int16": (-32768, 32767)}
GEO = [(33550, "d", 3, (0.5, 0.5, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 10.0, 20.0, 0.0), True)]

Pixels = np.ndarray  # [h, w, c]
Encode = Callable[[Pixels], bytes]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of image file.

    Attributes:
        suffix: of the file's name.
        encode: writes pixels.
        dtype: of the pixels.
        channels: of the pixels.
        limits: the smallest and the largest value that is written; None: of the dtype.
        range: the option `data.input_range`, also of the targets.
        read_as: channels to train with, if the pixels are converted on reading; what they become is what `images.read` gives.
        written: the suffix and the dtype of translations.
        tile: translate by tiles.
    """

    suffix: str
    encode: Encode
    dtype: str = "uint8"
    channels: int = 1
    limits: tuple[float, float] | None = None
    range: str = "auto"
    read_as: int = 0
    written: tuple[str, str] = (".png", "uint8")
    tile: int = 0

    def pixels(self, seed: int) -> Pixels:
        rng, (low, high) = np.random.default_rng(seed), self.limits or LIMITS[self.dtype]
        shape = (SIZE, SIZE, self.channels)
        drawn = rng.uniform(low, high, shape) if "float" in self.dtype else rng.integers(int(low), int(high), shape, endpoint=True)
        drawn[0, 0], drawn[0, 1] = low, high
        return drawn.astype(self.dtype)


def pillow(format: str, mode: str = "", **options) -> Encode:
    def encode(pixels: Pixels) -> bytes:
        file, image = io.BytesIO(), Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        if mode in ("1", "P"):
            image = image.convert(mode, **({"dither": Image.Dither.NONE} if mode == "1" else {"palette": Image.Palette.ADAPTIVE}))
        elif mode:
            image = image.convert(mode)
        image.save(file, format, **options)
        return file.getvalue()

    return encode


def deep_png(pixels: Pixels) -> bytes:
    return bytes(imagecodecs.png_encode(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels))


def rotated_jpeg(pixels: Pixels) -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return pillow("JPEG", exif=exif)(pixels)


def tiff(**options) -> Encode:
    def encode(pixels: Pixels) -> bytes:
        file, stored = io.BytesIO(), pixels
        form = {"photometric": "rgb" if pixels.shape[2] == 3 else "minisblack", "metadata": None} | options
        if pixels.shape[2] == 1:
            stored = pixels.squeeze(2)
        elif form.get("imagej") or form.get("planarconfig") == "separate":
            stored = np.moveaxis(pixels, 2, 0)
        else:
            form["planarconfig"] = "contig"
        if form.get("imagej"):
            form = {"imagej": True, "metadata": {"axes": "CYX"}}
        tifffile.imwrite(file, stored, **form)
        return file.getvalue()

    return encode


def npy(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    return file.getvalue()


def fortran_npy(pixels: Pixels) -> bytes:
    return npy(np.asfortranarray(pixels))


def big_endian_npy(pixels: Pixels) -> bytes:
    return npy(pixels.astype(pixels.dtype.newbyteorder(">")))


TIF16, TIF_INT, TIF_FLOAT = (".png", "uint16"), (".tif", "int16"), (".tif", "float32")
CT = {"limits": (-1000, 3000), "range": "-1000,3000"}
FLOATS = {"dtype": "float32", "limits": (-1.5, 2.5), "range": "-1.5,2.5", "written": TIF_FLOAT}
TWELVE_BITS = {"dtype": "uint16", "limits": (0, 4095), "range": "0,4095", "written": TIF16}

KINDS = {
    "PNG, 1 bit": Kind(".png", pillow("PNG", "1"), read_as=1),
    "PNG, grey, 8 bits": Kind(".png", pillow("PNG")),
    "PNG, grey, 16 bits": Kind(".png", deep_png, "uint16", written=TIF16),
    "PNG, grey, 12 bits in 16": Kind(".png", deep_png, **TWELVE_BITS),
    "PNG, grey with alpha, over white": Kind(".png", pillow("PNG", "LA"), channels=2, read_as=1),
    "PNG, RGB": Kind(".png", pillow("PNG"), channels=3),
    "PNG, RGBA, over white": Kind(".png", pillow("PNG"), channels=4, read_as=3),
    "PNG, RGBA, four channels": Kind(".png", pillow("PNG"), channels=4),
    "PNG, RGB, 16 bits": Kind(".png", deep_png, "uint16", 3, written=TIF16),
    "PNG, RGB, 12 bits in 16": Kind(".png", deep_png, channels=3, **TWELVE_BITS),
    "PNG, RGBA, 16 bits": Kind(".png", deep_png, "uint16", 4, written=TIF16),
    "PNG, palette": Kind(".png", pillow("PNG", "P"), channels=3, read_as=3),
    "JPEG, grey": Kind(".jpg", pillow("JPEG"), read_as=1),
    "JPEG, RGB": Kind(".jpg", pillow("JPEG"), channels=3, read_as=3),
    "JPEG, CMYK": Kind(".jpeg", pillow("JPEG", "CMYK"), channels=3, read_as=3),
    "JPEG, turned by EXIF": Kind(".jpg", rotated_jpeg, channels=3, read_as=3),
    "WebP": Kind(".webp", pillow("WebP", quality=80), channels=3, read_as=3),
    "WebP, lossless": Kind(".webp", pillow("WebP", lossless=True), channels=3),
    "BMP": Kind(".bmp", pillow("BMP"), channels=3),
    "GIF": Kind(".gif", pillow("GIF", "P"), channels=3, read_as=3),
    "TIFF, uint8, strips": Kind(".tif", tiff(rowsperstrip=5), channels=3),
    "TIFF, uint8, JPEG": Kind(".tif", tiff(compression="jpeg", photometric="rgb"), channels=3, read_as=3),
    "TIFF, uint16, tiles": Kind(".tif", tiff(tile=(16, 16)), "uint16", 3, written=TIF16, tile=8),
    "TIFF, uint16, big-endian": Kind(".tiff", tiff(byteorder=">"), "uint16", written=TIF16),
    "TIFF, uint16, planar": Kind(".tif", tiff(planarconfig="separate"), "uint16", 3, written=TIF16),
    "TIFF, 12 bits in uint16, LZW": Kind(".tif", tiff(compression="lzw"), **TWELVE_BITS),
    "TIFF, 12 bits in uint16, tiles": Kind(".tif", tiff(tile=(16, 16), compression="zlib"), tile=8, **TWELVE_BITS),
    "TIFF, int16, deflate": Kind(".tif", tiff(compression="zlib", predictor=True), "int16", written=TIF_INT),
    "TIFF, int16, with a range": Kind(".tif", tiff(rowsperstrip=3), "int16", written=TIF_INT, **CT),
    "TIFF, int16, RGB, tiles": Kind(".tif", tiff(tile=(16, 16)), "int16", 3, written=TIF_INT, tile=8, **CT),
    "TIFF, float32, strips": Kind(".tif", tiff(rowsperstrip=4), **FLOATS),
    "TIFF, float32, tiles, Zstandard": Kind(".tif", tiff(tile=(16, 16), compression="zstd"), tile=8, **FLOATS),
    "TIFF, float32, 0 to 1": Kind(".tif", tiff(), "float32", 3, (0, 1), "0,1", written=TIF_FLOAT),
    "TIFF, float32, floating-point predictor": Kind(".tif", tiff(compression="zlib", predictor=True), **FLOATS),
    "TIFF, float32, planar": Kind(".tif", tiff(planarconfig="separate"), channels=3, **FLOATS),
    "TIFF, float16": Kind(".tif", tiff(), **FLOATS | {"dtype": "float16"}),
    "TIFF, float64": Kind(".tif", tiff(), **FLOATS | {"dtype": "float64"}),
    "BigTIFF, float32": Kind(".tif", tiff(bigtiff=True), **FLOATS),
    "TIFF, 2 bands, uint16": Kind(".tif", tiff(), "uint16", 2, written=(".tif", "uint16")),
    "TIFF, 4 bands, uint8": Kind(".tif", tiff(), channels=4),
    "TIFF, 6 bands, uint16": Kind(".tif", tiff(), "uint16", 6, written=(".tif", "uint16")),
    "TIFF, 6 bands, float32": Kind(".tif", tiff(), channels=6, **FLOATS),
    "TIFF, ImageJ stack of 5 channels": Kind(".tif", tiff(imagej=True), "uint16", 5, written=(".tif", "uint16")),
    "TIFF, ImageJ stack of 2 channels, float32": Kind(".tif", tiff(imagej=True), channels=2, **FLOATS),
    "GeoTIFF, uint8": Kind(".tif", tiff(extratags=GEO), written=(".tif", "uint8")),
    "GeoTIFF, int16, tiles": Kind(".tif", tiff(extratags=GEO, tile=(16, 16)), "int16", written=TIF_INT, tile=8),
    "GeoTIFF, float32": Kind(".tif", tiff(extratags=GEO), **FLOATS),
    "NumPy, uint8, [h, w]": Kind(".npy", npy, written=(".npy", "uint8")),
    "NumPy, uint8, [h, w, 3]": Kind(".npy", npy, channels=3, written=(".npy", "uint8")),
    "NumPy, uint16": Kind(".npy", npy, "uint16", 5, written=(".npy", "uint16")),
    "NumPy, uint16, big-endian": Kind(".npy", big_endian_npy, "uint16", 3, written=(".npy", "uint16")),
    "NumPy, 12 bits in uint16": Kind(".npy", npy, **TWELVE_BITS | {"written": (".npy", "uint16")}),
    "NumPy, int16": Kind(".npy", npy, "int16", written=(".npy", "int16")),
    "NumPy, float16": Kind(".npy", npy, **FLOATS | {"dtype": "float16", "written": (".npy", "float32")}),
    "NumPy, float32": Kind(".npy", npy, channels=7, **FLOATS | {"written": (".npy", "float32")}),
    "NumPy, float32, Fortran order": Kind(".npy", fortran_npy, channels=3, **FLOATS | {"written": (".npy", "float32")}),
    "NumPy, float64": Kind(".npy", npy, **FLOATS | {"dtype": "float64", "written": (".npy", "float32")}),
}


@pytest.fixture
def identity(monkeypatch, shallow):
    """Networks that return their input, in place of those of a run."""

    def load(run, *, step=None):
        config = build.read_config(run)
        networks = build.networks(config)
        networks = networks.clone(generator=networks.generator.clone(depth=3))
        return model.Model(config, networks, TrainState(jnp.int32(0), {}, {}, {}), build.target_type(run))

    def translator(networks, state, mode, mesh, *, samples, **options):
        return lambda tiles, keys: jnp.repeat(augment.scale(tiles)[:, None], samples, 1)

    monkeypatch.setattr(model, "load", load)
    monkeypatch.setattr(translation, "_translator", translator)
    return shallow


@functools.cache
def step_of_a_stub():
    """The scaled batch, and the gradient of a loss in it."""

    @jax.jit
    def step(raw, key):
        batch = augment.augment(raw, key, crop_size=SIZE, flip=False)
        loss = jax.grad(lambda w: jnp.abs(w * batch.input.mean(-1) - batch.target.mean(-1)).mean())
        return batch, loss(0.5)

    return step


def trained(kind: Kind, root: Path, shallow) -> tuple[Path, list[Pixels]]:
    """A run folder, as training on pairs of this kind begins it, and the input files' pixels; checks the batches."""
    inputs = []
    for index in range(3):
        for side in "AB":
            pixels = kind.pixels(seed=2 * index + (side == "B"))
            file = root / "pairs" / side / "train" / f"{index}{kind.suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(kind.encode(pixels))
            if side == "A":
                inputs.append(images.read(file, channels=kind.read_as) if kind.read_as else pixels)
    channels = kind.read_as or kind.channels
    options = {"data.input_range": kind.range, "data.target_range": kind.range, "data.flip": False, "data.val_fraction": 0.0}
    options |= {"data.input_channels": channels, "data.target_channels": channels}
    config = shallow("pix2pix", root / "pairs", options, dataset="folder")
    pairs = build.pairs(config, "train")
    raw = next(loader.batches(pairs, load_size=SIZE, batch_size=3, seed=0))
    batch, gradient = step_of_a_stub()(raw, jax.random.key(0))
    assert np.isfinite(gradient)
    low, high = map(float, kind.range.split(",")) if kind.range != "auto" else LIMITS[inputs[0].dtype.name]
    expected = np.stack(inputs).astype(np.float64)
    expected = np.clip((expected - low) / (high - low), 0, 1) * 2 - 1
    found = np.asarray(batch.input)
    order = [int(np.abs(expected - image).max((1, 2, 3)).argmin()) for image in found]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(found, expected[order], atol=1 / 65535 if np.asarray(raw.input).dtype == np.uint16 else 3e-7)
    run = root / "run"
    run.mkdir()
    (run / "config.json").write_text(to_json(config))
    _, splits = run_folder.splits_of(run, config, run_folder.listing_of(config))
    run_folder.keep_splits(run, config, None, splits, pairs)
    return run, inputs


def stored(file: Path) -> Pixels:
    """The pixels of a translation, read without the package."""
    if file.suffix == ".npy":
        pixels = np.load(file)
    elif file.suffix == ".tif":
        pixels = tifffile.imread(file)
    else:
        pixels = imagecodecs.png_decode(file.read_bytes())
    return np.asarray(pixels).reshape(SIZE, SIZE, -1)


def row(name: str, kind: Kind) -> str:
    ends = kind.range.replace(",", " to ") if kind.range != "auto" else "auto"
    suffix, dtype = kind.written
    return f"| {name} | {ends} | {kind.read_as or kind.channels} | {'`.npy`' if suffix == '.npy' else suffix[1:].upper()}, {dtype} |\n"


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_file(name, identity, command, tmp_path, monkeypatch):
    """Batches are scaled as they should be; translations by the identity have the type and the values of the files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kind = KINDS[name]
    run, inputs = trained(kind, tmp_path, identity)
    for options in ([], ["--tile=8"]) if kind.tile else ([],):
        out = tmp_path / f"out{len(options)}"
        status, text, err = command("translate", f"--run={run}", f"--input={tmp_path / 'pairs/A/train'}", f"--output={out}", *options)
        assert status == 0, err
        assert "3 translated" in text and "clipped" not in text
        suffix, dtype = kind.written
        for index, expected in enumerate(inputs):
            file = out / f"{index}{suffix}"
            output = stored(file)
            assert output.dtype == dtype and output.shape == expected.shape
            error = np.abs(output.astype(np.float64) - expected.astype(np.float64)).max()
            assert error == 0 if "int" in dtype else error < 4e-7 * (kind.limits[1] - kind.limits[0])
            assert len(geotiff.read(file)) == (2 if name.startswith("GeoTIFF") else 0)
            has_preview = (out / "previews" / f"{index}.png").is_file()
            assert has_preview == (suffix == ".npy" or "Geo" in name or dtype in ("int16", "float32") or kind.range != "auto")
    if os.environ.get("I2I_WRITE_FILE_KINDS"):
        rows = HEAD + "".join(row(name, kind) for name, kind in KINDS.items())
        DOCS.write_text(re.sub(r"\| file \|.*\|\n", lambda _: rows, DOCS.read_text(), flags=re.DOTALL))
    assert row(name, kind) in DOCS.read_text()


def test_the_documentation_has_these_kinds_only():
    assert len(KINDS) >= 30
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0][2:] for line in lines[1:]] == list(KINDS)
