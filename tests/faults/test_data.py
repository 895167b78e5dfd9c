"""A catalogue of bad data and the exact error message for each: files, folders, archives and servers."""

import contextlib
import errno
import hashlib
import http.server
import io
import os
import re
import shutil
import socket
import struct
import tarfile
import threading
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from i2i_jax.data import download, folder, images, layouts, pix2pix, shapes
from i2i_jax.data.images import UNDECODABLE, ImageError
from i2i_jax.data.prepared import SetError
from i2i_jax.data.values import ALLOWED
from i2i_jax.storage import download as http_download

NOISE = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (32, 64, 3), np.uint16)

# Pillow warns of truncated files; the commands do not show these warnings.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """The results of checks are cached there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def encoded(format: str, pixels: np.ndarray = NOISE, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def tiff(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def npy(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def bare_npy(side: int) -> bytes:
    """The header of a square array of bytes, without the bytes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (side, side)})
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int = 8, colour: int = 2, data: bytes | None = b"", before: bytes = b"") -> bytes:
    """A PNG whose header declares this size, with any data."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = b"" if data is None else chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + head + before + body + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def bare_tiff(offset: int = 8, **tags: int) -> bytes:
    """A TIFF with one page and no pixels; all tags are 32-bit numbers."""
    codes = {"width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "offsets": 273, "samples": 277,
             "rows": 278, "counts": 279, "tile_width": 322, "tile_height": 323, "tile_offsets": 324, "tile_counts": 325}  # fmt: skip
    strip = {} if "tile_width" in tags else {"offsets": 8, "rows": 32, "counts": 100}
    known = {"width": 64, "height": 32, "bits": 8, "compression": 1, "photometric": 1, "samples": 1} | strip | tags
    entries = b"".join(struct.pack("<HHII", code, 4, 1, known[name]) for name, code in codes.items() if name in known)
    return b"II*\0" + struct.pack("<I", offset) + struct.pack("<H", len(known)) + entries + struct.pack("<I", 0)


def cut(content: bytes, kept: float) -> bytes:
    return content[: int(len(content) * kept)]


def flipped(content: bytes, position: float) -> bytes:
    """The content with one bit flipped, at a position from 0 to 1."""
    index = int(len(content) * position)
    return content[:index] + bytes([content[index] ^ 0x10]) + content[index + 1 :]


HUGE = "is 20000x20000: 400000000 pixels, more than max_pixels=100000000 allows"
NO_IMAGE = "is not an image"
NOT_FINITE = "has 2 NaN or Inf among its 4 values: must be finite numbers"

# Content of a file, and why it cannot be used.
CONTENTS = {
    "zero bytes": (b"", "is an empty file"),
    "one byte": (b"x", NO_IMAGE),
    "text": (b"no image\n", NO_IMAGE),
    "a web page": (b"<!DOCTYPE html><html>not found</html>", NO_IMAGE),
    "a script that draws": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 32\n(x) run\n", NO_IMAGE),
    "a document": (b"%PDF-1.7\n" + bytes(100), NO_IMAGE),
    "a drawing": (b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='32'/>", NO_IMAGE),
    "an archive": (b"PK\x03\x04" + bytes(100), NO_IMAGE),
    "a pickle": (b"\x80\x04cposix\nsystem\n(S'true'\ntR.", NO_IMAGE),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), NO_IMAGE),
    "a telephone's HEIC": (b"\0\0\0\x18ftypheic" + bytes(100), NO_IMAGE),
    "an icon": (encoded("ICO"), NO_IMAGE),
    "a portable pixmap": (encoded("PPM"), NO_IMAGE),
    "zeros": (bytes(4096), NO_IMAGE),
    "a PNG's signature alone": (encoded("PNG")[:8], NO_IMAGE),
    "a PNG cut in its head": (encoded("PNG")[:20], UNDECODABLE),
    "a PNG cut at 30 %": (cut(encoded("PNG"), 0.3), UNDECODABLE),
    "a PNG cut at 95 %": (cut(encoded("PNG"), 0.95), UNDECODABLE),
    "a PNG with a flipped bit in its head": (flipped(encoded("PNG"), 18 / len(encoded("PNG"))), NO_IMAGE),
    "a PNG with a flipped bit in its pixels": (flipped(encoded("PNG"), 0.5), UNDECODABLE),
    "a PNG without pixels": (png(64, 32, data=None), UNDECODABLE),
    "a PNG with too few pixels": (png(64, 32, data=bytes(100)), UNDECODABLE),
    "a PNG of no size": (png(0, 0), NO_IMAGE),
    "a PNG of 16-bit palette indices": (png(64, 32, depth=16, colour=3), NO_IMAGE),
    "a PNG of 20,000 pixels square": (png(20_000, 20_000), HUGE),
    "a 16-bit PNG of 20,000 pixels square": (png(20_000, 20_000, depth=16), HUGE),
    "a PNG of 2 billion pixels square": (
        png(2**31 - 1, 2**31 - 1),
        f"is {2**31 - 1}x{2**31 - 1}: {(2**31 - 1) ** 2} pixels, more than max_pixels=100000000 allows",
    ),
    "a PNG whose comment unpacks to 100 MB": (
        png(64, 32, data=bytes(100), before=chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(100_000_000), 9))),
        UNDECODABLE,
    ),
    "a 16-bit PNG cut at 50 %": (cut(imagecodecs.png_encode(DEEP), 0.5), UNDECODABLE),
    "a JPEG's first two bytes": (encoded("JPEG")[:2], NO_IMAGE),
    "a JPEG cut in its head": (encoded("JPEG")[:100], UNDECODABLE),
    "a JPEG cut at 70 %": (cut(encoded("JPEG", quality=95), 0.7), UNDECODABLE),
    "a GIF's first bytes": (b"GIF89a", NO_IMAGE),
    "a GIF cut at 50 %": (cut(encoded("GIF"), 0.5), UNDECODABLE),
    "a WebP cut at 50 %": (cut(encoded("WEBP"), 0.5), UNDECODABLE),
    "a BMP cut at 50 %": (cut(encoded("BMP"), 0.5), UNDECODABLE),
    "a BMP of 20,000 pixels square": (bmp(20_000, 20_000), HUGE),
    "a BMP of a rare kind": (b"BM" + struct.pack("<IHHII", 64, 0, 0, 54, 7) + bytes(60), UNDECODABLE),
    "a TIFF's first bytes": (b"II*\0", UNDECODABLE),
    "a TIFF cut at 50 %": (cut(encoded("TIFF"), 0.5), UNDECODABLE),
    "a TIFF that begins beyond its end": (bare_tiff(offset=10**6), UNDECODABLE),
    "a TIFF without pixels": (bare_tiff(), UNDECODABLE),
    "a TIFF of no width": (bare_tiff(width=0, height=2**32 - 1, bits=16), f"is 0x{2**32 - 1}: has no pixels"),
    "a TIFF of 20,000 pixels square": (bare_tiff(width=20_000, height=20_000), HUGE),
    "a TIFF of a rare compression": (bare_tiff(compression=12345), NO_IMAGE),
    "a TIFF in tiles of a million pixels square": (
        bare_tiff(tile_width=10**6, tile_height=10**6, tile_offsets=8, tile_counts=100),
        "is stored in tiles of 1000000x1000000: 1000000000000 pixels, more than max_pixels=100000000 allows",
    ),
    "a 16-bit TIFF cut at 50 %": (cut(tiff(DEEP, photometric="rgb"), 0.5), UNDECODABLE),
    "a TIFF of floats": (tiff(np.tile(np.eye(2, dtype=np.float32), 2)), "has floats from 0 to 1: must be integers"),
    "a TIFF of doubles": (tiff(np.tile(np.eye(2) * 0.3 - 0.1, 2)), "has floats from -0.1 to 0.2: must be integers"),
    "a TIFF with NaN and Inf": (tiff(np.array([[0, np.nan], [np.inf, 0.5]], np.float32)), NOT_FINITE),
    "a TIFF of doubles that are too large": (tiff(np.array([[0, 1e39], [-1e300, 0.5]])), NOT_FINITE),
    "a TIFF of 32 bits": (tiff(DEEP[:, :, 0].astype(np.uint32)), f"has uint32 samples: {ALLOWED}"),
    "a TIFF of signed 32 bits": (tiff(DEEP[:, :, 0].astype(np.int32)), f"has int32 samples: {ALLOWED}"),
    "a TIFF of complex numbers": (tiff(DEEP[:, :, 0].astype(np.complex64)), f"has complex64 samples: {ALLOWED}"),
    "an array of objects": (npy(np.array([[None, 1]])), f"has object samples: {ALLOWED}"),
    "an array of booleans": (npy(np.eye(4) > 0), f"has bool samples: {ALLOWED}"),
    "an array of text": (npy(np.array([["a", "b"]])), f"has <U1 samples: {ALLOWED}"),
    "an array of 32 bits": (npy(np.eye(4, dtype=np.int32)), f"has int32 samples: {ALLOWED}"),
    "an array of structures": (npy(np.zeros((4, 4), [("x", "u1")])), f"has [('x', 'u1')] samples: {ALLOWED}"),
    "an array with NaN and Inf": (npy(np.array([[0, np.nan], [-np.inf, 0.5]], np.float16)), NOT_FINITE),
    "an array of one axis": (npy(NOISE[0, :, 0]), "is an array [64]: must be [h, w] or [h, w, c]"),
    "an array of a batch": (npy(NOISE[None]), "is an array [1, 32, 64, 3]: must be [h, w] or [h, w, c]"),
    "an array with its channels first": (npy(np.zeros((3, 4, 96), np.uint8)), "is an array [3, 4, 96]: must be [h, w] or [h, w, c]"),
    "an array without pixels": (npy(NOISE[:0]), "is an array [0, 64, 3]: must be [h, w] or [h, w, c]"),
    "an array of two channels": (npy(NOISE[:, :, :2]), "has 2 channels: must have 3"),
    "an array cut at 50 %": (cut(npy(NOISE), 0.5), "is cut short: has 3008 bytes of samples, not 6144"),
    "an array cut in its header": (npy(NOISE)[:40], UNDECODABLE),
    "an array of 20,000 pixels square": (bare_npy(20_000), HUGE),
    "an array that is larger than its file": (bare_npy(9_000), "is cut short: has 0 bytes of samples, not 81000000"),
    "five channels": (tiff(DEEP[:, :, [0, 1, 2, 0, 1]], photometric="minisblack", planarconfig="contig"), "has 5 channels: must have 3"),
    "an odd width": (encoded("PNG", NOISE[:, :63]), images.odd_width(63)),
    "one pixel": (encoded("PNG", NOISE[:1, :1]), images.odd_width(1)),
}


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix_socket, contextlib.chdir(path.parent):
        unix_socket.bind(path.name)


def a_file_that_gives_errors(path: Path) -> None:
    if not Path("/proc/self/mem").exists():
        pytest.skip("this system has no /proc")
    path.symlink_to("/proc/self/mem")


def write(path: Path, content: bytes) -> None:
    """Writes a file; skips the test on systems that allow only valid text in file names."""
    try:
        path.write_bytes(content)
    except OSError as error:
        if error.errno != errno.EILSEQ:
            raise
        pytest.skip("names of files must be text on this system")


# What there is instead of a regular file, and why it cannot be used.
NO_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a folder": (lambda path: path.mkdir(), "is a folder: must be an image file"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "no such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read (Too many levels of symbolic links)"),
    "a link to its folder": (lambda path: path.symlink_to("."), "is a folder: must be an image file"),
    "a pipe": (lambda path: os.mkfifo(path), "is not a regular file: must be an image file"),
    "a socket": (a_socket, "is not a regular file: must be an image file"),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file: must be an image file"),
    "a file that gives errors": (a_file_that_gives_errors, "cannot be read (Input/output error)"),
}


def good(path: Path, colour: str = "red", size: tuple[int, int] = (64, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def refusal(root: Path, split: str = "train", **options) -> str:
    with pytest.raises((folder.FolderError, ImageError)) as error:
        folder.pairs(root, split, **options)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(root), "ROOT")


@pytest.mark.parametrize(("kind", "reason"), [(name, reason) for name, (_, reason) in (CONTENTS | NO_FILES).items()])
def test_one_bad_file(tmp_path, caplog, kind, reason):
    """The error names it; with skip_bad it is left out."""
    root = tmp_path / "pairs"
    good(root / "train" / "good.png")
    content = (CONTENTS | NO_FILES)[kind][0]
    bad = root / "train" / "bad.png"
    bad.write_bytes(content) if isinstance(content, bytes) else content(bad)
    expected = f"1 of 2 pairs cannot be used: ROOT/train/bad.png: {reason}; "
    assert refusal(root, val_fraction=0.0) == expected + "data.skip_bad=True leaves out what cannot be used"
    usable = folder.pairs(root, "train", val_fraction=0.0, skip_bad=True)
    assert [usable.name(i) for i in range(len(usable))] == ["good"]
    messages = [record.getMessage() for record in caplog.records if record.name == "absl"]  # tifffile logs too
    assert [message.replace(str(root), "ROOT") for message in messages] == [expected + "left out"]


def test_a_file_that_may_not_be_read(unprivileged):
    root, nobody = unprivileged
    good(root / "x.png")
    (root / "x.png").chmod(0)
    with nobody():
        assert refusal(root) == "1 of 1 pairs cannot be used: ROOT/x.png: cannot be read (Permission denied)"


def pair(root: Path, a: str, b: str, **options) -> None:
    good(root / "A" / a, **options)
    good(root / "B" / b)


def several_bad(root: Path) -> None:
    for number in range(30):
        good(root / f"{number:02d}.png")
        if number >= 5:
            (root / f"{number:02d}.png").write_bytes(b"x")


SOME = "some names differ only in case or in Unicode normalization"
LEAVES_OUT = "data.skip_bad=True leaves out what cannot be used"
NFC, NFD = (unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD"))

# What is in ROOT, the options it is read with, and the error message.
FOLDERS: dict[str, tuple[Callable[[Path], object], dict, str]] = {
    "nothing": (lambda root: root.rmdir(), {}, "ROOT: no such folder"),
    "a file": (lambda root: (root.rmdir(), root.write_text("x")), {}, "ROOT: no such folder"),
    "no files": (lambda root: None, {}, f"ROOT: has no image files ({', '.join(images.EXTENSIONS)})"),
    "other files": (
        lambda root: (root / "notes.txt").write_text("x"), {},
        f"ROOT: has no image files ({', '.join(images.EXTENSIONS)}), only 1 .txt file; would do: {layouts.SUITABLE}",
    ),
    "hidden files": (lambda root: good(root / ".x.png"), {}, f"ROOT: has no image files ({', '.join(images.EXTENSIONS)})"),
    "folders in themselves": (
        lambda root: (root / "train").symlink_to("."), {}, f"ROOT/train: has no image files ({', '.join(images.EXTENSIONS)}), only train/",
    ),
    "one half": (lambda root: good(root / "A" / "x.png"), {}, "ROOT/B: no such folder, though ROOT/A exists"),
    "one half of a split": (
        lambda root: good(root / "trainB" / "x.png"), {},
        "ROOT/trainA: no such folder, though ROOT/trainB exists",
    ),
    "a missing partner": (
        lambda root: (pair(root, "1.png", "1.png"), good(root / "A" / "2.png")), {},
        "ROOT/A and ROOT/B: '2' in one folder only (1 of 2 names)",
    ),
    "many missing partners": (
        lambda root: (pair(root, "0.png", "0.png"), [good(root / "B" / f"{i}.png") for i in range(1, 6)]), {},
        "ROOT/A and ROOT/B: '1', '2', '3' and 2 more in one folder only (5 of 6 names)",
    ),
    "partners in other letters": (
        lambda root: pair(root, "Photo.png", "photo.png"), {},
        f"ROOT/A and ROOT/B: 'Photo', 'photo' in one folder only (2 of 2 names): {SOME}",
    ),
    "partners in another form of Unicode": (
        lambda root: pair(root, f"{NFC}.png", f"{NFD}.png"), {},
        f"ROOT/A and ROOT/B: {NFD!r}, {NFC!r} in one folder only (2 of 2 names): {SOME}",
    ),
    "one name twice": (
        lambda root: (good(root / "x.png"), good(root / "x.jpg")), {},
        "ROOT: 'x' found more than once, with different extensions (1 names)",
    ),
    "one name in two cases of its extension": (
        lambda root: (good(root / "x.png"), good(root / "x.PNG")), {},
        "ROOT: 'x' found more than once, with different extensions (1 names)",
    ),
    "partners of other sizes": (
        lambda root: pair(root, "x.png", "x.png", size=(64, 31)), {"val_fraction": 0.0},
        "1 of 1 pairs cannot be used: ROOT/A/x.png is 64x31 but ROOT/B/x.png is 64x32: must be of one size",
    ),
    "many bad files": (
        several_bad, {"val_fraction": 0.0},
        "25 of 30 pairs cannot be used: " + "; ".join(f"ROOT/{i:02d}.png: is not an image" for i in range(5, 25))
        + f"; and 5 more, which RECORD lists; {LEAVES_OUT}",
    ),
    "no split to take val from": (
        lambda root: good(root / "test" / "x.png"), {"split": "val"}, "ROOT: has no val split and no train split, only test",
    ),
    "one pair of which some are to be held out": (
        lambda root: good(root / "x.png"), {"split": "val"},
        "ROOT: has no val split, and val_fraction 0.1 of 1 training pairs holds out none: "
        "data.val_fraction=0 evaluates on the training pairs",
    ),
    "a split of no name": (lambda root: good(root / "x.png"), {"split": "tset"}, "unknown split 'tset': one of train, val, test"),
    "nothing good": (
        lambda root: (root / "x.png").write_bytes(b""), {"skip_bad": True},
        "1 of 1 pairs cannot be used: ROOT/x.png: is an empty file",
    ),
    "more pixels than wanted": (
        lambda root: good(root / "x.png"), {"max_pixels": 2047},
        "1 of 1 pairs cannot be used: ROOT/x.png: is 64x32: 2048 pixels, more than max_pixels=2047 allows",
    ),
    "fewer channels than wanted": (
        lambda root: good(root / "x.png"), {"input_channels": 4},
        "1 of 1 pairs cannot be used: ROOT/x.png: has 3 channels: must have 4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_bad_folder(tmp_path, kind):
    make, options, expected = FOLDERS[kind]
    root = tmp_path / "pairs"
    root.mkdir()
    make(root)
    message = refusal(root, **options)
    for record in (tmp_path / "cache").rglob("*.json"):
        message = message.replace(str(record), "RECORD")
    assert message == expected


def animation() -> bytes:
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def turned() -> bytes:
    """Stored 8 pixels wide and 16 high, with an Exif orientation that turns it right."""
    exif = Image.Exif()
    exif[274] = 6
    return encoded("PNG", RED.swapaxes(0, 1), exif=exif)


def in_mode(mode: str, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RED).convert(mode).save(file, format, **options)
    return file.getvalue()


RED = np.full((8, 16, 3), (255, 0, 0), np.uint8)

# Unusual files, all read as a red image 16 pixels wide and 8 high.
UNUSUAL = {
    "CMYK.jpg": in_mode("CMYK", "JPEG"),
    "palette.png": in_mode("P"),
    "transparent palette.gif": in_mode("P", "GIF", transparency=200),
    "alpha.png": in_mode("RGBA"),
    "animated.gif": animation(),
    "animated.webp": in_mode("RGB", "WEBP", save_all=True, append_images=[Image.new("RGB", (16, 8))], lossless=True),
    "turned by Exif.png": turned(),
    "16 bits.png": imagecodecs.png_encode(RED.astype(np.uint16) * 257),
    "16 bits.tif": tiff(RED.astype(np.uint16) * 257, photometric="rgb"),
    "PNG of another extension.jpg": encoded("PNG", RED),
    "TIFF of another extension.bmp": encoded("TIFF", RED),
    "with a colour profile.png": encoded("PNG", RED, icc_profile=bytes(200)),
    "with a broken Exif.jpg": encoded("JPEG", RED, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "spaces and \u00e9 \u4f60 \U0001f3a8.png": encoded("PNG", RED),
    "a\nnew line.png": encoded("PNG", RED),
    "quotes\"'<>&.png": encoded("PNG", RED),
    os.fsdecode(b"no text \xff.png"): encoded("PNG", RED),
    "CAPITALS.PNG": encoded("PNG", RED),
    "capitals.png": encoded("PNG", RED),
    "-leading dash.png": encoded("PNG", RED),
    f"{'long' * 60}.png": encoded("PNG", RED),
}


@pytest.mark.parametrize("name", UNUSUAL, ids=ascii)
def test_what_is_unusual_and_good(tmp_path, name):
    write(tmp_path / name, UNUSUAL[name])
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / name).symlink_to(tmp_path / name)
    for root in (tmp_path, tmp_path / "linked"):
        pair = folder.pairs(root, "train")[0]
        scale = 257 if pair.input.dtype == np.uint16 else 1
        for half in pair:
            assert half.shape == (8, 8, 3)
            np.testing.assert_allclose(half / scale, RED[:, :8], atol=4)


def test_names_that_are_no_text_can_be_held_out(tmp_path):
    for number in range(3):
        write(tmp_path / os.fsdecode(b"\xff%d.png" % number), encoded("PNG", RED))
    assert len(folder.pairs(tmp_path, "val")) == 1


def test_pairs_of_one_pixel(tmp_path):
    for side in "AB":
        good(tmp_path / side / "x.png", size=(1, 1))
    assert folder.pairs(tmp_path, "train")[0].target.shape == (1, 1, 3)


def test_twenty_thousand_pixels_in_a_row(tmp_path):
    good(tmp_path / "x.png", size=(20_000, 1))
    assert folder.pairs(tmp_path, "train")[0].input.shape == (1, 10_000, 3)


def test_a_few_bad_ones_among_thousands(tmp_path, caplog, monkeypatch):
    """All are named at once; the second time the files are not read again."""
    root = tmp_path / "pairs"
    good(tmp_path / "one.png", size=(4, 2))
    root.mkdir()
    bad = {f"{number:04d}" for number in (7, 1000, 1999)}
    for number in range(2000):
        (root / f"{number:04d}.png").hardlink_to(tmp_path / "one.png")
    for name in bad:
        (root / f"{name}.png").unlink()
        (root / f"{name}.png").write_bytes(b"")
    names = "; ".join(f"ROOT/{name}.png: is an empty file" for name in sorted(bad))
    assert refusal(root, val_fraction=0.0) == f"3 of 2000 pairs cannot be used: {names}; {LEAVES_OUT}"
    monkeypatch.setattr(images, "read_halves", None)
    usable = folder.pairs(root, "train", val_fraction=0.0, skip_bad=True)
    assert len(usable) == 1997
    assert not bad & {usable.name(i) for i in range(len(usable))}
    assert caplog.messages == [f"3 of 2000 pairs cannot be used: {names.replace('ROOT', str(root))}; left out"]


def test_a_pair_that_was_refused_is_read_again(tmp_path, monkeypatch):
    """Its disk or its permissions may have been repaired, which does not change the file."""
    root = tmp_path / "pairs"
    good(root / "x.png")

    def fail(*_, **__):
        raise ImageError(f"{root}/x.png: Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(images, "read_halves", fail)
        assert "Input/output error" in refusal(root)
    assert len(folder.pairs(root, "train")) == 1


def test_a_file_that_changed_is_read_again(tmp_path):
    root = tmp_path / "pairs"
    good(root / "x.png")
    assert len(folder.pairs(root, "train")) == 1
    (root / "x.png").write_bytes(b"x")
    assert "is not an image" in refusal(root)
    for record in (tmp_path / "cache").rglob("*.json"):
        record.write_text("[torn")
    assert "is not an image" in refusal(root)


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


JPEG = encoded("JPEG")
WHOLE = (member("maps/train/1.jpg", JPEG), member("maps/train/2.jpg", JPEG), member("maps/val/3.jpg", JPEG))


class Handler(http.server.BaseHTTPRequestHandler):
    """Calls `answer`, which each test sets."""

    answer: Callable[["Handler"], None]

    def do_GET(self):
        type(self).answer(self)

    def send(self, content: bytes, *, status: int = 200, size: int | None = None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if size is None else size))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args):
        pass


def stall(handler: Handler, over: threading.Event, *, after: bytes | None) -> None:
    if after is not None:
        handler.send(after, size=10**6)
        handler.wfile.flush()
    over.wait()


def reset(handler: Handler, over: threading.Event) -> None:
    handler.send(archive(*WHOLE)[:300], size=10**6)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def serving(content: bytes, **options) -> Callable[[Handler, threading.Event], None]:
    return lambda handler, over: handler.send(content, **options)


OUTSIDE = "has a member outside its folder: "
NO_ARCHIVE = "is not a complete tar.gz archive "


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


FIRST = archive(*WHOLE)

# The server's answer, and what is wrong with it.
DOWNLOADS = {
    "nothing such": (serving(b"", status=404), "the server answers 404 Not Found"),
    "an error": (serving(b"", status=500), "the server answers 500 Internal Server Error"),
    "no permission": (serving(b"", status=403), "the server answers 403 Forbidden"),
    "silence": (lambda handler, over: stall(handler, over, after=None), "the server stopped responding (timed out)"),
    "silence after a part": (lambda handler, over: stall(handler, over, after=b"part"), "the server stopped responding (timed out)"),
    "a reset": (reset, "the server stopped responding ([Errno 104] Connection reset by peer)"),
    "less than it says": (serving(archive(*WHOLE)[:300], size=1000), "ended after 300 of 1000 bytes"),
    "a web page": (serving(b"<html>moved</html>"), NO_ARCHIVE + "(Not a gzipped file (b'<h'))"),
    "an empty file": (serving(b""), NO_ARCHIVE + "(empty file)"),
    "half an archive": (
        serving(archive(*WHOLE)[:300]), NO_ARCHIVE + "(Compressed file ended before the end-of-stream marker was reached)",
    ),
    "an archive whose checksum differs": (
        serving(flipped(archive(*WHOLE), 1 - 6 / len(archive(*WHOLE)))), NO_ARCHIVE + "(CRC check failed 0xCRC != 0xCRC)",
    ),
    "a member above": (serving(archive(*WHOLE, member("../train/x.jpg", JPEG))), OUTSIDE + "'../train/x.jpg'"),
    "a member above from below": (serving(archive(member("maps/../../train/x.jpg", JPEG))), OUTSIDE + "'maps/../../train/x.jpg'"),
    "a member at the root": (serving(archive(member("/etc/train/x.jpg", JPEG))), OUTSIDE + "'/etc/train/x.jpg'"),
    "links and devices": (
        serving(archive(
            member("maps/train/1.jpg", kind=tarfile.SYMTYPE, linkname="/etc/passwd"),
            member("maps/train/2.jpg", kind=tarfile.LNKTYPE, linkname="/etc/passwd"),
            member("maps/train/3.jpg", kind=tarfile.CHRTYPE, devmajor=1, devminor=5),
        )),
        "has no JPEG in a folder train",
    ),
    "no split": (serving(archive(*WHOLE[:2])), "has no JPEG in a folder val"),
    "a name twice": (serving(archive(*WHOLE, WHOLE[0])), "has a member 'maps/train/1.jpg' twice"),
    "a stem twice": (serving(archive(*WHOLE, member("maps/train/1.jpeg", JPEG))), "has a member 'maps/train/1.jpeg' twice"),
    "a file that unpacks to much": (
        serving(archive(member("maps/train/1.jpg", bytes(2**26 + 1)))), f"has a member 'maps/train/1.jpg' of {2**26 + 1} bytes",
    ),
    "another file": (
        serving(FIRST + b"x"),
        f"differs from the first download: its SHA-256 is {sha256(FIRST + b'x')}, not {sha256(FIRST)} (ROOT)",
    ),
}  # fmt: skip


@pytest.fixture
def serve(monkeypatch):
    """Starts a server; returns a function that sets its answer."""
    over, server = threading.Event(), http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # server_close waits for them
    server.handle_error = lambda *_: None  # a handler that reset its connection fails
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    monkeypatch.setattr(pix2pix, "BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(http_download, "TIMEOUT", 0.2)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield lambda answer: monkeypatch.setattr(Handler, "answer", lambda handler: answer(handler, over), raising=False)
    over.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", DOWNLOADS)
def test_a_bad_download(serve, tmp_path, monkeypatch, kind):
    """It leaves no file behind."""
    answer, reason = DOWNLOADS[kind]
    serve(answer)
    if kind == "another file":
        (tmp_path / download.CHECKSUMS).write_text(f"{sha256(FIRST)}  maps.tar.gz\n")
    with pytest.raises(pix2pix.DownloadError) as error:
        pix2pix.pairs("maps", "train", tmp_path)
    by_hand = "try again, or unpack the archive yourself and train with data.name=folder"
    message = re.sub("0x[0-9a-f]{8}", "0xCRC", str(error.value)).replace(str(tmp_path / download.CHECKSUMS), "ROOT")
    assert message == f"{pix2pix.BASE_URL}/maps.tar.gz: {reason}: {by_hand}"
    remaining = [path.name for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith("metadata.json")]
    assert remaining == ([download.CHECKSUMS] if kind == "another file" else [])


def test_after_a_bad_download_the_next_is_taken(serve, tmp_path):
    for content in (b"<html>", archive(*WHOLE)[:300]):
        serve(serving(content))
        with pytest.raises(pix2pix.DownloadError):
            pix2pix.pairs("maps", "train", tmp_path)
    serve(serving(archive(*WHOLE)))
    assert len(pix2pix.pairs("maps", "train", tmp_path)) == 2


def test_a_server_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(pix2pix, "BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(pix2pix.DownloadError, match=r"maps.tar.gz: cannot be reached \(\[Errno 111\] Connection refused\): try again"):
        pix2pix.pairs("maps", "train", tmp_path)


def test_a_bad_image_in_an_archive(serve, tmp_path, caplog):
    serve(serving(archive(*WHOLE, member("maps/train/broken.jpg", JPEG[:200]), member("maps/train/empty.jpg"))))
    expected = f"2 of 4 pairs cannot be used: broken: {UNDECODABLE}; empty: is an empty file; "
    with pytest.raises(ImageError) as error:
        pix2pix.pairs("maps", "train", tmp_path)
    assert str(error.value) == expected + LEAVES_OUT
    assert len(pix2pix.pairs("maps", "train", tmp_path, skip_bad=True)) == 2
    assert caplog.messages[-1] == expected + "left out"


@pytest.mark.parametrize("damage", [lambda file: cut(file, 0.5), lambda file: b"", lambda file: flipped(file, 0.1)])
def test_a_prepared_set_that_was_damaged(tmp_path, shapes_dir, damage):
    copied = shutil.copytree(shapes_dir, tmp_path / "shapes")
    [record] = [path for path in copied.rglob("*train*array_record*") if path.is_file()]
    record.write_bytes(damage(record.read_bytes()))
    with pytest.raises(
        (SetError, ImageError), match=f"{record.parent}: cannot be read: delete this folder, and the dataset is prepared again"
    ) as error:
        shapes.pairs("train", copied)
    assert "\n" not in str(error.value)


def test_the_catalogue_is_long():
    assert len(CONTENTS) + len(NO_FILES) + len(FOLDERS) + len(DOWNLOADS) >= 100
