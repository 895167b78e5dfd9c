"""Bands of TIFF files: read as stored, whatever the tags call them and whichever program wrote the file; channels stored as pages."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from i2i_jax.data import images, inspect_pairs

TYPES = {3: "H", 4: "I"}


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def handmade(pixels, *, byteorder="<", planar=False, strips=1, next_page=0, tags=None, without=()):
    """An uncompressed TIFF of pixels [h, w, c]; `tags` holds further tags, (type, values) by code, which replace the usual ones."""
    height, width, samples = pixels.shape
    rows = -(-height // strips)
    planes = np.moveaxis(pixels, 2, 0) if planar else [pixels]
    stored = pixels.dtype.newbyteorder(byteorder)
    data = [plane[top : top + rows].astype(stored).tobytes() for plane in planes for top in range(0, height, rows)]
    offsets = [8 + sum(map(len, data[:number])) for number in range(len(data))]
    known = {256: (4, [width]), 257: (4, [height]), 258: (3, [8 * pixels.itemsize] * samples), 259: (3, [1]), 262: (3, [2]),
             273: (4, offsets), 277: (3, [samples]), 278: (4, [rows]), 279: (4, [len(strip) for strip in data]),
             284: (3, [2 if planar else 1])}  # fmt: skip
    known = {code: tag for code, tag in sorted((known | (tags or {})).items()) if code not in without}
    start = 8 + sum(map(len, data))
    entries, values, values_start = b"", b"", start + 2 + 12 * len(known) + 4
    for code, (kind, numbers) in known.items():
        value = struct.pack(f"{byteorder}{len(numbers)}{TYPES[kind]}", *numbers)
        if len(value) > 4:
            values, value = values + value, struct.pack(f"{byteorder}I", values_start + len(values))
        entries += struct.pack(f"{byteorder}HHI", code, kind, len(numbers)) + value.ljust(4, b"\0")
    head = (b"II*\0" if byteorder == "<" else b"MM\0*") + struct.pack(f"{byteorder}I", start)
    directory = struct.pack(f"{byteorder}H", len(known)) + entries + struct.pack(f"{byteorder}I", next_page)
    return head + b"".join(data) + directory + values


WRITERS = {
    "RGB and a band without meaning": {"tags": {338: (3, [0])}},
    "RGB and alpha": {"tags": {338: (3, [2])}},
    "RGB and premultiplied alpha": {"tags": {338: (3, [1])}},
    "RGB and alpha of an unknown kind": {"tags": {338: (3, [999])}},
    "RGB that does not mention its fourth band": {},
    "RGB with too many extra samples": {"tags": {338: (3, [0] * 9)}},
    "black is zero": {"tags": {262: (3, [1]), 338: (3, [0, 0, 0])}},
    "white is zero": {"tags": {262: (3, [0]), 338: (3, [0, 0, 0])}},
    "white is zero, with alpha": {"tags": {262: (3, [0]), 338: (3, [0, 0, 2])}},
    "CMYK": {"tags": {262: (3, [5])}},
    "three inks and alpha": {"tags": {262: (3, [5]), 338: (3, [2])}},
    "CIELAB and a band": {"tags": {262: (3, [8]), 338: (3, [0])}},
    "an unknown colour space": {"tags": {262: (3, [777])}},
    "no colour space": {"without": [262]},
    "one number of bits for all bands": {"tags": {258: None}},
    "sample formats": {"tags": {339: (3, [1, 1, 1, 1])}},
    "undefined sample formats": {"tags": {339: (3, [4, 4, 4, 4])}},
    "an offset beyond the end of the file": {"next_page": 10**8},
    "an offset that leads to no page": {"next_page": 3},
}
LAYOUTS = {"contiguous": {}, "planar": {"planar": True}, "strips": {"strips": 3}, "planar strips": {"planar": True, "strips": 3},
           "big endian": {"byteorder": ">"}}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("writer", WRITERS)
def test_four_bands_are_read_as_they_are_stored(writer, layout, dtype):
    pixels, options = noise(6, 9, 4, dtype=dtype), dict(WRITERS[writer])
    if writer == "one number of bits for all bands":
        options["tags"] = {258: (3, [8 * pixels.itemsize])}
    read = images.read(handmade(pixels, **options, **LAYOUTS[layout]), channels=4)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [2, 3, 5, 6])
@pytest.mark.parametrize("photometric", [0, 1, 2, 5, 8])
def test_other_numbers_of_bands(photometric, bands, dtype):
    pixels = noise(6, 9, bands, dtype=dtype)
    np.testing.assert_array_equal(images.read(handmade(pixels, tags={262: (3, [photometric])}), channels=bands), pixels)


@pytest.mark.parametrize("tile", [None, (32, 48)])
@pytest.mark.parametrize("options", [
    {"photometric": "rgb", "extrasamples": ["unspecified"]},
    {"photometric": "rgb", "extrasamples": ["assocalpha"], "compression": "lzw", "predictor": True},
    {"photometric": "separated", "compression": "zlib"},
    {"photometric": "miniswhite", "planarconfig": "contig"},
    {"photometric": "rgb", "extrasamples": ["unspecified"], "planarconfig": "separate"},
])  # fmt: skip
def test_bands_in_tiles_and_compressed(options, tile, tmp_path):
    pixels, file = noise(100, 90, 4), tmp_path / "x.tif"
    planar = options.get("planarconfig") == "separate"
    tifffile.imwrite(file, np.moveaxis(pixels, 2, 0) if planar else pixels, tile=tile, **options)
    np.testing.assert_array_equal(images.read(file, channels=4), pixels)
    tiled = images.tiled(file, channels=4)
    assert (tiled is None) == (tile is None or planar)
    if tiled:
        np.testing.assert_array_equal(tiled[20:90, 10:80], pixels[20:90, 10:80])


@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_fewer_channels_are_converted_as_by_pillow(tile, tmp_path):
    pixels, file = noise(100, 90, 4), tmp_path / "x.tif"
    for options, mode in (({"photometric": "rgb", "extrasamples": ["unspecified"]}, "RGB"), ({"photometric": "separated"}, "CMYK")):
        tifffile.imwrite(file, pixels, tile=tile, **options)
        expected = pixels[..., :3] if mode == "RGB" else np.asarray(Image.frombytes("CMYK", (90, 100), pixels.tobytes()).convert("RGB"))
        np.testing.assert_array_equal(images.read(file, channels=3), expected)
        assert images.tiled(file, channels=3) is None
        with pytest.raises(images.ImageError, match="x.tif: has 4 channels: must have 5"):
            images.read(file, channels=5)


def test_halves_of_different_numbers_of_channels():
    pixels = noise(6, 8, 4)
    left, right = images.read_halves(handmade(pixels, tags={338: (3, [0])}), channels=(4, 3))
    np.testing.assert_array_equal(left, pixels[:, :4])
    np.testing.assert_array_equal(right, pixels[:, 4:, :3])


def test_check_counts_all_bands(tmp_path):
    for folder, content in (("A", handmade(noise(6, 9, 4), tags={338: (3, [0])})), ("B", handmade(noise(6, 9, 3)))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.tif").write_bytes(content)
    lines = list(inspect_pairs.report(inspect_pairs.survey(tmp_path)))
    assert [line for line in lines if line[:2] in ("A:", "B:")] == ["A: 4 channels of 8 bits (1)", "B: colour of 8 bits (1)"]
    assert not [line for line in lines if "cannot be used" in line or "grey" in line]


def stack(path, axes, *shape, dtype=np.uint8, **options):
    pixels = noise(*shape, dtype=dtype)
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": axes}, **options)
    return pixels


def reason(path, **options):
    with pytest.raises(images.ImageError) as error:
        images.read(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 3, 4, 7])
def test_the_channels_of_an_imagej_stack(channels, dtype, tmp_path):
    file = tmp_path / "x.tif"
    pixels = np.moveaxis(stack(file, "CYX", channels, 6, 8, dtype=dtype), 0, 2)
    read = images.read(file, channels=channels)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, pixels)
    assert images.size(file, channels=channels) == (6, 8) and images.bands(file) == channels
    halves = images.read_halves(file, channels=(channels, channels))
    np.testing.assert_array_equal(np.concatenate(halves, 1), pixels)
    for other in {1, 3, 5} - {channels}:
        assert reason(file, channels=other) == f"has {channels} pages, the channels of an ImageJ stack: must have {other}"


def test_an_imagej_stack_with_a_single_page_header(tmp_path):
    """ImageJ writes files of more than 4 GB in this way: one page, followed by the pixels of all images."""
    file, pixels = tmp_path / "x.tif", noise(4, 6, 9, dtype=np.uint16)
    description = "ImageJ=1.54f\nimages=4\nchannels=4\nhyperstack=true\nmode=composite\n"
    tifffile.imwrite(file, pixels[0], photometric="minisblack", description=description, metadata=None)
    with tifffile.TiffFile(file) as tiff:
        assert tiff.pages.first.dataoffsets[0] + pixels[0].nbytes == file.stat().st_size
    file.write_bytes(file.read_bytes() + pixels[1:].tobytes())
    np.testing.assert_array_equal(images.read(file, channels=4), np.moveaxis(pixels, 0, 2))
    assert reason(file, channels=1) == "has 4 pages, the channels of an ImageJ stack: must have 1"


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["slices", "slices of channels", "grey pages", "RGB pages", "a tiled page and another"])
def test_other_pages_are_never_dropped(kind, channels, tmp_path):
    file, pages = tmp_path / "x.tif", 4
    if kind == "slices":
        stack(file, "ZYX", 4, 64, 64)
    elif kind == "slices of channels":
        stack(file, "ZCYX", 3, 4, 64, 64)
        pages = 12
    elif kind == "grey pages":
        tifffile.imwrite(file, noise(4, 64, 64), photometric="minisblack")
    elif kind == "RGB pages":
        pictures = [Image.fromarray(picture) for picture in noise(4, 64, 64, 3)]
        pictures[0].save(file, save_all=True, append_images=pictures[1:])
    else:
        tifffile.imwrite(file, noise(64, 64, 3), photometric="rgb", tile=(32, 32))
        tifffile.imwrite(file, noise(64, 64, 3), photometric="rgb", append=True)
        pages = 2
    message = f"has {pages} pages: must have 1, or be an ImageJ stack of channels; save the page that is needed by itself"
    assert reason(file, channels=channels) == message
    with pytest.raises(images.ImageError, match=f"x.tif: has {pages} pages"):
        images.size(file, channels=channels)
    with pytest.raises(images.ImageError, match=f"x.tif: has {pages} pages"):
        _ = images.tiled(file, channels=channels) or images.read(file, channels=channels)


@pytest.mark.parametrize("subfiletype", [1, 4, 5])
def test_overviews_and_masks_are_no_pages(subfiletype, tmp_path):
    file, pixels = tmp_path / "x.tif", noise(64, 64, 4)
    with tifffile.TiffWriter(file) as writer:
        writer.write(pixels, photometric="rgb", extrasamples=["unspecified"], tile=(32, 32), metadata=None)
        mask = pixels[::2, ::2, 0] > 9
        small = {"photometric": "minisblack"} if subfiletype & 4 else {"photometric": "rgb", "extrasamples": ["unspecified"]}
        writer.write(mask if subfiletype & 4 else pixels[::2, ::2], subfiletype=subfiletype, metadata=None, **small)
    np.testing.assert_array_equal(images.read(file, channels=4), pixels)
    tiled = images.tiled(file, channels=4)
    assert tiled is not None
    np.testing.assert_array_equal(tiled[:64, :64], pixels)
