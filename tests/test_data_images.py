"""Reading images of any format, mode and depth; a one-line error for what cannot be read."""

import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from i2i_jax.data import images, tiff_images

H, W = 5, 7


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)


@pytest.fixture
def deep():
    return np.random.default_rng(1).integers(0, 65536, (H, W, 5), np.uint16)


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def deep_png(pixels):
    return imagecodecs.png_encode(np.ascontiguousarray(pixels.squeeze()))


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WebP"])
def test_lossless_formats(rgb, format):
    options = {"lossless": True} if format == "WebP" else {}
    np.testing.assert_array_equal(images.read(encoded(rgb, format, **options), channels=3), rgb)


@pytest.mark.parametrize("format", ["JPEG", "GIF"])
def test_lossy_formats(format):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    np.testing.assert_allclose(images.read(encoded(flat, format), channels=3), flat, atol=3)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    read = images.read(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), channels=3)
    np.testing.assert_array_equal(read[0, 0], [255, 0, 0])


def test_rgb_to_grey_is_pillows(rgb):
    read = images.read(encoded(rgb), channels=1)
    assert read.shape == (H, W, 1)
    np.testing.assert_array_equal(read[:, :, 0], Image.fromarray(rgb).convert("L"))


def test_grey_to_rgb_repeats(rgb):
    read = images.read(encoded(rgb[:, :, 0]), channels=3)
    np.testing.assert_array_equal(read, np.repeat(rgb[:, :, :1], 3, 2))


def test_one_bit_is_black_and_white():
    bits = Image.fromarray(np.eye(4, dtype=bool))
    np.testing.assert_array_equal(images.read(encoded(bits), channels=1)[:, :, 0], 255 * np.eye(4))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_composited_over_white(rgb, mode, channels):
    image = Image.fromarray(np.concatenate([rgb, rgb[:, ::-1, :1]], 2)).convert(mode)
    rgba = image.convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB" if channels == 3 else "L")
    read = images.read(encoded(image), channels=channels)
    np.testing.assert_allclose(read.squeeze(), np.asarray(expected), atol=1)


def test_four_channels_keep_alpha_and_colour_under_it(rgb):
    rgba = np.concatenate([rgb, np.zeros((H, W, 1), np.uint8)], 2)
    np.testing.assert_array_equal(images.read(encoded(rgba), channels=4), rgba)


def test_a_palette_gives_its_colours_not_its_indices():
    image = Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4)
    assert image.mode == "P"
    np.testing.assert_array_equal(images.read(encoded(image), channels=3)[0, 0], [10, 200, 30])


def test_a_transparent_palette_colour_is_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 200, 30])
    np.testing.assert_array_equal(images.read(encoded(image, transparency=0), channels=3), 255)


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    np.testing.assert_allclose(images.read(encoded(image, "JPEG"), channels=3)[0, 0], [255, 0, 0], atol=5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_exif_orientation(rgb, orientation, depth, format):
    exif = Image.Exif()
    exif[274] = orientation
    wide = rgb.astype(np.uint16) * 257
    if depth == 8:
        file = encoded(rgb, format, exif=exif)
    elif format == "TIFF":
        file = tiff(wide, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        chunk = encoded(rgb, "PNG", exif=exif)
        start = chunk.index(b"eXIf") - 4
        chunk = chunk[start : start + 12 + int.from_bytes(chunk[start : start + 4], "big")]
        png = deep_png(wide)
        file = png[:33] + chunk + png[33:]
    flipped, turned = (x[:, ::-1] for x in (rgb, rgb.swapaxes(0, 1)))
    upright = [rgb, flipped, flipped[::-1], rgb[::-1], rgb.swapaxes(0, 1), turned, turned[::-1], rgb.swapaxes(0, 1)[::-1]]
    expected = upright[orientation - 1].astype(int) * (257 if depth == 16 else 1)
    np.testing.assert_array_equal(images.read(file, channels=3), expected)


@pytest.mark.parametrize("orientation", [0, 1, 6, 9])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_size_is_that_of_the_upright_image(rgb, orientation, format, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "x"
    path.write_bytes(encoded(rgb, format, exif=exif))
    assert images.size(path, channels=3) == ((W, H) if orientation == 6 else (H, W))
    assert images.size(path, channels=3) == images.read(path, channels=3).shape[:2]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_16_bits(deep, channels):
    pixels = deep[:, :, :channels]
    file = deep_png(pixels)
    read = images.read(file, channels=channels)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels)


def test_16_bit_grey_to_rgb(deep):
    file = deep_png(deep[:, :, 0])
    np.testing.assert_array_equal(images.read(file, channels=3), np.repeat(deep[:, :, :1], 3, 2))


def test_16_bit_rgb_to_grey(deep):
    read = images.read(deep_png(deep[:, :, :3]), channels=1)
    np.testing.assert_allclose(read[:, :, 0], deep[:, :, :3] @ np.array([0.299, 0.587, 0.114]), atol=1)


def test_16_bit_transparency_over_white(deep):
    read = images.read(deep_png(deep[:, :, :4]), channels=3)
    opacity = deep[:, :, 3:4] / 65535
    np.testing.assert_allclose(read, deep[:, :, :3] * opacity + 65535 * (1 - opacity), atol=1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_with_any_number_of_channels(deep, channels, depth, planar, compression):
    pixels = (deep >> 8).astype(np.uint8) if depth == 8 else deep
    pixels = pixels[:, :, :channels]
    stored = np.moveaxis(pixels, 2, 0) if planar == "separate" and channels > 1 else pixels
    stored = stored.squeeze() if channels == 1 else stored
    options = {"planarconfig": planar} if channels > 1 else {}
    file = tiff(stored, photometric="minisblack", compression=compression, **options)
    read = images.read(file, channels=channels)
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)


def test_big_endian_16_bit_tiff(deep):
    read = images.read(tiff(deep[:, :, 0], byteorder=">"), channels=1)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[:, :, 0], deep[:, :, 0])


def test_tiff_where_white_is_zero(deep):
    read = images.read(tiff(deep[:, :, 0], photometric="miniswhite"), channels=1)
    np.testing.assert_array_equal(read[:, :, 0], 65535 - deep[:, :, 0])


@pytest.mark.parametrize("channels", [(3, 3), (1, 3), (3, 1), (1, 1)])
@pytest.mark.parametrize("kind", ["colour", "transparent", "grey", "deep"])
def test_halves_are_those_of_the_whole(deep, channels, kind):
    pixels = deep[:, :6, : {"transparent": 4, "grey": 1}.get(kind, 3)]
    file = deep_png(pixels) if kind == "deep" else encoded((pixels >> 8).astype(np.uint8).squeeze())
    halves = images.read_halves(file, channels=channels)
    for half, c, part in zip(halves, channels, (slice(0, 3), slice(3, 6)), strict=True):
        np.testing.assert_array_equal(half, images.read(file, channels=c)[:, part])
        assert half.flags.c_contiguous and half.dtype == (np.uint16 if kind == "deep" else np.uint8)


def test_halves_are_decoded_once(deep, monkeypatch):
    decoded, decode = [], imagecodecs.png_decode
    monkeypatch.setattr(imagecodecs, "png_decode", lambda file: decoded.append(file) or decode(file))
    images.read_halves(deep_png(deep[:, :6, :3]), channels=(1, 3))
    assert len(decoded) == 1


def test_halves_of_an_odd_width(rgb):
    with pytest.raises(images.ImageError) as error:
        images.read_halves(encoded(rgb), channels=(3, 3), name="x.png")
    assert str(error.value) == "x.png: is 7 pixels wide: a side-by-side pair must have an even width"


def reason(source, **options):
    with pytest.raises(images.ImageError) as error:
        images.read(source, **{"channels": 3, "name": "x.png"} | options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_too_few_channels(rgb):
    assert reason(encoded(rgb), channels=4) == "x.png: has 3 channels: must have 4"


def test_channels_without_a_meaning(deep):
    assert reason(tiff(deep, photometric="minisblack", planarconfig="contig"), channels=3) == "x.png: has 5 channels: must have 3"


def test_too_many_pixels_is_known_before_decoding(rgb):
    truncated = encoded(rgb)[:60]
    assert reason(truncated, max_pixels=34) == "x.png: is 7x5: 35 pixels, more than max_pixels=34 allows"


def test_an_empty_file():
    assert reason(b"") == "x.png: is an empty file"


def test_not_an_image():
    assert reason(b"<html>not found</html>") == "x.png: is not an image"


def test_a_missing_file_is_named(tmp_path):
    assert reason(tmp_path / "a.png") == f"{tmp_path / 'a.png'}: no such file"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WebP", "BMP", "GIF"])
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_a_truncated_file(format, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    file = encoded(noise, format)
    assert reason(file[: int(len(file) * kept)]).startswith("x.png: ")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("encode", [deep_png, tiff])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_a_truncated_16_bit_file(encode, kept):
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), np.uint16)
    file = encode(noise)
    assert reason(file[: int(len(file) * kept)]).startswith("x.png: ")


def test_integers_of_32_bits_are_refused():
    message = "x.png: has int32 samples: must be uint8, uint16, int16, float16, float32 or float64"
    assert reason(tiff(np.zeros((4, 4), np.int32))) == message


KINDS_IN_TILES = {
    "colour": ((3,), np.uint8, {"photometric": "rgb"}),
    "grey": ((), np.uint8, {"photometric": "minisblack"}),
    "white is zero": ((), np.uint16, {"photometric": "miniswhite"}),
    "transparent": ((4,), np.uint8, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "5 channels": ((5,), np.uint16, {"photometric": "minisblack", "planarconfig": "contig"}),
    "JPEG": ((3,), np.uint8, {"photometric": "rgb", "compression": "jpeg"}),
    "deflated": ((3,), np.uint16, {"photometric": "rgb", "compression": "zlib", "predictor": True}),
}


def stored_in_tiles(path, kind, size=(150, 201)):
    shape, dtype, options = KINDS_IN_TILES[kind]
    steps = np.add.outer(np.arange(size[0]) * 3, np.arange(size[1]) * 5).reshape(*size, *(1 for _ in shape))
    pixels = (steps + 40 * np.arange(int(np.prod(shape))).reshape(shape)) % np.iinfo(dtype).max
    tifffile.imwrite(path, pixels.astype(dtype), tile=(64, 48), **options)
    return path


@pytest.mark.parametrize("kind", KINDS_IN_TILES)
def test_a_region_of_a_tiled_tiff_is_that_of_the_whole(kind, tmp_path):
    file, channels = stored_in_tiles(tmp_path / "x.tif", kind), 5 if kind == "5 channels" else 3
    whole, tiled = images.read(file, channels=channels), images.tiled(file, channels=channels)
    assert tiled is not None and tiled.shape == whole.shape
    for rows, columns in (((0, 150), (0, 201)), ((0, 1), (0, 1)), ((63, 130), (47, 97)), ((149, 150), (200, 201)), ((64, 128), (48, 96))):
        np.testing.assert_array_equal(tiled[slice(*rows), slice(*columns)], whole[slice(*rows), slice(*columns)])
    np.testing.assert_array_equal(tiled[10:100:7, 3:90:4], whole[10:100:7, 3:90:4])


@pytest.mark.parametrize("most", [10, 64, 100, 201, 5000])
def test_a_thinned_image_is_a_small_whole_one(most, tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_images, "THINNED", most)
    tiled = images.tiled(stored_in_tiles(tmp_path / "x.tif", "colour"), channels=3)
    step = -(-201 // most)
    np.testing.assert_array_equal(tiled.thinned, tiled[0:150:step, 0:201:step])
    assert max(tiled.thinned.shape) <= most


def test_only_the_tiles_that_a_region_needs_are_decoded(tmp_path, monkeypatch):
    tiled = images.tiled(stored_in_tiles(tmp_path / "x.tif", "deflated"), channels=3)
    decoded, decode = [], images.Tiled._decoded
    monkeypatch.setattr(images.Tiled, "_decoded", lambda self, file, number: decoded.append(number) or decode(self, file, number))
    _ = tiled[60:70, 50:90]
    assert decoded == [1, 6]  # a row has five tiles


@pytest.mark.parametrize("kind", ["png", "strips", "palette", "turned", "separate planes", "bilevel"])
def test_what_is_read_whole(kind, tmp_path):
    file, pixels = tmp_path / "x.tif", np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    in_tiles = {"tile": (32, 32)}
    if kind == "png":
        Image.fromarray(pixels).save(file, "PNG")
    elif kind == "palette":
        colormap = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256)
        tifffile.imwrite(file, pixels[..., 0], photometric="palette", colormap=colormap, **in_tiles)
    else:
        options = {"strips": {}, "turned": {"extratags": [(274, 3, 1, 6, True)]}, "separate planes": {"planarconfig": "separate"},
                   "bilevel": {}}[kind]  # fmt: skip
        stored = np.moveaxis(pixels, 2, 0) if kind == "separate planes" else pixels[..., 0] > 9 if kind == "bilevel" else pixels
        photometric = "minisblack" if kind == "bilevel" else "rgb"
        tifffile.imwrite(file, stored, photometric=photometric, **({} if kind == "strips" else in_tiles), **options)
    assert images.tiled(file, channels=3) is None
    assert images.read(file, channels=3).shape == (64, 64, 3)


def test_a_tiled_tiff_is_refused_by_its_header_or_where_it_is_damaged(tmp_path):
    file = stored_in_tiles(tmp_path / "x.tif", "deflated")
    with pytest.raises(images.ImageError, match=r"x.tif: is 201x150: 30150 pixels, more than max_pixels=30149 allows"):
        images.tiled(file, channels=3, max_pixels=30149)
    with pytest.raises(images.ImageError, match="x.tif: has 3 channels: must have 4"):
        images.tiled(file, channels=4)
    with tifffile.TiffFile(file) as opened:
        page = opened.pages.first
    content = bytearray(file.read_bytes())
    content[page.dataoffsets[7] : page.dataoffsets[7] + page.databytecounts[7]] = bytes(page.databytecounts[7])
    file.write_bytes(content)
    tiled = images.tiled(file, channels=3)
    assert tiled[:64, :48].any()
    with pytest.raises(images.ImageError, match="x.tif: cannot be decoded"):
        _ = tiled.thinned
