"""Label maps as inputs: class ids and colours become one channel for each class, and anything else is refused with one line."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

import runs
from i2i_jax import build, load
from i2i_jax.config import Config, ConfigError, override, validate
from i2i_jax.data import folder, images, labels, loader
from i2i_jax.data.images import ImageError
from i2i_jax.data.palettes import PALETTES
from i2i_jax.storage import packed
from i2i_jax.studio import session

CLASSES = 8
COLOURS = np.array([[10 * i, 255 - 9 * i, 77 * i % 256] for i in range(CLASSES)], np.uint8)
PALETTE = {f"class {i}": colour for i, colour in enumerate(COLOURS.tolist())}
IDS = np.random.default_rng(0).integers(0, CLASSES, (6, 10)).astype(np.uint8)
ONE_HOT = (IDS[..., None] == np.arange(CLASSES)).astype(np.uint8) * 255


def config_of(input_labels, channels=CLASSES, **options) -> Config:
    return override(Config(), {"data.name": "folder", "data.input_labels": str(input_labels), "data.input_channels": channels, **options})


def labels_of(input_labels, channels=CLASSES) -> labels.Labels:
    found = labels.of_config(config_of(input_labels, channels).data)
    assert found is not None
    return found


def encoded(image, format="PNG", **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def palette_image(ids=IDS, colours=COLOURS) -> Image.Image:
    image = Image.fromarray(ids).convert("P")
    image.putdata(ids.ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    return image


def grey_png(ids, bits: int) -> bytes:
    """A grey PNG of fewer than 8 bits, which Pillow cannot write."""
    rows = b"".join(b"\0" + np.packbits(((row[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).ravel()).tobytes() for row in ids)

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_tiff(ids) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, ids.astype(np.uint16), photometric="minisblack")
    return file.getvalue()


ID_FILES = {
    "grey": encoded(IDS),
    "grey of 4 bits": grey_png(IDS, 4),
    "grey of 16 bits": encoded(Image.fromarray(IDS.astype(np.uint16))),
    "palette": encoded(palette_image()),
    "palette of 4 bits": encoded(palette_image(), bits=4),
    "palette with a transparent class": encoded(palette_image(), transparency=3),
    "TIFF": encoded(IDS, "TIFF"),
    "TIFF of 16 bits": deep_tiff(IDS),
}


@pytest.mark.parametrize("kind", ID_FILES)
def test_ids_become_one_channel_each(kind):
    read = images.read(ID_FILES[kind], channels=CLASSES, labels=labels_of(CLASSES))
    np.testing.assert_array_equal(read, ONE_HOT)
    assert read.dtype == np.uint8


@pytest.mark.parametrize(("bits", "classes"), [(1, 2), (2, 4)])
def test_ids_of_few_bits(bits, classes):
    ids = IDS % classes
    read = images.read(grey_png(ids, bits), channels=classes, labels=labels_of(classes, classes))
    np.testing.assert_array_equal(read, (ids[..., None] == np.arange(classes)) * np.uint8(255))


@pytest.mark.parametrize("form", ["object", "hexadecimal", "list", "file"])
def test_colours_become_one_channel_each(form, tmp_path):
    hexadecimal = {name: "#{:02x}{:02X}{:02x}".format(*colour) for name, colour in PALETTE.items()}
    palette = json.dumps({"object": PALETTE, "hexadecimal": hexadecimal, "list": [*PALETTE.values()], "file": PALETTE}[form])
    if form == "file":
        (tmp_path / "palette.json").write_text(palette)
        palette = tmp_path / "palette.json"
    for file in (encoded(COLOURS[IDS]), encoded(palette_image()), encoded(COLOURS[IDS], "BMP")):
        np.testing.assert_array_equal(images.read(file, channels=CLASSES, labels=labels_of(palette)), ONE_HOT)


@pytest.mark.parametrize("name", PALETTES)
def test_a_known_palette_with_pixels_of_no_class(name):
    palette = PALETTES[name]
    known = np.array([*palette.classes.values(), *palette.unlabelled], np.uint8)
    index = np.random.default_rng(1).integers(0, len(known), (9, 7))
    own = labels_of(name, len(palette.classes))
    read = images.read(encoded(known[index]), channels=len(palette.classes), labels=own)
    np.testing.assert_array_equal(read, (index[..., None] == np.arange(len(palette.classes))) * np.uint8(255))
    shown = np.where((index < len(palette.classes))[..., None], known[index], 0)
    np.testing.assert_array_equal(own.painted(read), shown)


def test_jpegs_of_a_public_set_have_the_nearest_class():
    colours = np.array([*PALETTES["facades"].classes.values()], np.uint8)
    index = np.arange(12).reshape(3, 4).repeat(32, 0).repeat(32, 1)
    file = encoded(colours[index], "JPEG", quality=95)
    read = images.read(file, channels=12, labels=labels_of("facades", 12))
    assert (read.argmax(-1) == index).mean() > 0.9 and (read.sum(-1) == 255).all()
    photo = encoded(np.random.default_rng(0).integers(90, 130, (64, 64, 3)).astype(np.uint8), "JPEG")
    with pytest.raises(
        ImageError, match=r"^a.jpg: has \d+% of its pixels far from all 12 colours of data.input_labels: must be a label map"
    ):
        images.read(photo, channels=12, labels=labels_of("facades", 12), name="a.jpg")


ODD = COLOURS[IDS].copy()
ODD[0, :3], ODD[1, 0] = (1, 2, 3), (3, 2, 1)


@pytest.mark.parametrize(
    ("input_labels", "file", "message"),
    [
        (5, ID_FILES["grey"], r"has the class id \d in \d+ pixels and 2 more such ids: data.input_labels=5 allows 0 to 4; "
            "data.input_labels=8 would do"),
        (8, encoded(np.where(IDS == 7, 255, IDS).astype(np.uint8)),
            f"has the class id 255 in {(IDS == 7).sum()} pixels: data.input_labels=8 allows 0 to 7; data.input_labels=256 would do"),
        (8, encoded(COLOURS[IDS]),
            "has 3 channels: class ids .data.input_labels=8. are read from grey or palette PNGs; data.input_labels=PALETTE.json"),
        (8, encoded(IDS, "JPEG"), "is a JPEG, which blurs classes: label maps .data.input_labels. must be PNG"),
        (json.dumps(PALETTE), encoded(COLOURS[IDS], "JPEG"), "is a JPEG, which blurs classes"),
        (json.dumps(PALETTE), encoded(ODD), "has the colour #010203 in 3 pixels and 1 more unknown colours: must be one of the 8 colours"),
    ],
)  # fmt: skip
def test_unknown_classes_are_refused_with_one_line(input_labels, file, message):
    channels = input_labels if isinstance(input_labels, int) else CLASSES
    with pytest.raises(ImageError, match=f"^map.png: {message}") as error:
        images.read(file, channels=channels, labels=labels_of(input_labels, channels), name="map.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("input_labels", "message"),
    [
        (
            "nowhere.json",
            "data.input_labels is 'nowhere.json', no such file or directory: must be a number of classes, one of facades, city",
        ),
        ("1", "data.input_labels is 1: a number of classes must be from 2 to 256"),
        ("[[0, 0, 0]]", "data.input_labels: is a palette of 1 classes: must be an object or a list of 2 to 256 colours"),
        ("{", "data.input_labels: is not JSON"),
        ('{"a": [0, 0, 256], "b": "#000000"}', "data.input_labels: class 'a' has the colour .0, 0, 256.: must be .r, g, b. from 0 to 255"),
        ('{"a": [0, 0, 0], "b": "#000000"}', "class 'b' and class 'a' have the same colour: must differ"),
        ('{"a": [0, 0, 0], "a": "#000001"}', "class 'a' and class 'a' have the same name: must differ"),
        ("12", "data.input_channels is 8, but data.input_labels has 12 classes: data.input_channels=12 would do"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(input_labels, message):
    with pytest.raises(ConfigError, match=message):
        build.game(config_of(input_labels))


@pytest.mark.parametrize("content", ["no JSON", "{}", '"#000000"', '{"a": {"b": 1}, "c": 2}', "[1, 2]", "3"])
def test_a_palette_file_that_cannot_be_used_is_named(content, tmp_path):
    (tmp_path / "palette.json").write_text(content)
    with pytest.raises(ConfigError, match="palette.json: ") as error:
        labels.resolved(config_of(tmp_path / "palette.json", 3))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "input_labels", "direction"),
    [("shapes", "8", "AtoB"), ("maps", "facades", "BtoA"), ("facades", "facades", "AtoB"), ("facades", "cityscapes", "BtoA")],
)
def test_data_without_such_label_maps_are_refused(name, input_labels, direction):
    config = config_of(input_labels, 3, **{"data.name": name, "data.direction": direction})
    with pytest.raises(
        ConfigError, match=f"data.input_labels is '{input_labels}', but data.name '{name}' has no such label maps as inputs"
    ):
        validate(config)


def test_a_resolved_config_needs_no_file(tmp_path):
    file = tmp_path / "palette.json"
    file.write_text(json.dumps(PALETTE, indent=4))
    config = config_of(file, 3)
    kept = labels.resolved(config)
    assert (kept.data.input_channels, config.data.input_channels) == (CLASSES, 3)
    expected = labels_of(file)
    file.unlink()
    assert labels.of_config(kept.data) == expected
    assert labels.resolved(kept) == kept == labels.resolved(config, kept=kept.data.input_labels)
    assert [*json.loads(kept.data.input_labels)] == [*PALETTE]
    assert labels.resolved(Config()) == Config()


def test_a_packed_palette_has_no_names(tmp_path):
    config = config_of(json.dumps(PALETTE))
    file = tmp_path / "model.safetensors"
    file.write_bytes(packed.to_bytes(config, {}, {"params": {"a": np.zeros(1, np.float32)}}))
    assert b"class 0" not in file.read_bytes()
    assert labels.of_config(packed.read_config(file).data) == labels.of_config(config.data)


def test_ids_are_shown_in_distinct_colours():
    own = labels_of(256, 256)
    assert len(set(own.colours)) == 256
    assert own.colours[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    ids = np.arange(256).reshape(16, 16)
    one_hot = np.eye(256, dtype=np.float32)[ids] * 2 - 1
    np.testing.assert_array_equal(own.painted(one_hot), np.array(own.colours)[ids])


@pytest.mark.parametrize(("height", "width", "size"), [(6, 10, 4), (6, 10, 16), (7, 7, 7), (5, 3, 9)])
def test_label_maps_are_resized_as_by_pillows_nearest_neighbour(height, width, size):
    ids = np.random.default_rng(2).integers(0, 255, (height, width)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(ids).resize((size, size), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(loader.resize_labels(ids[..., None], size)[..., 0], expected)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
@pytest.mark.parametrize("side_by_side", [True, False])
def test_pairs_of_a_folder(tmp_path, direction, side_by_side):
    photo = np.random.default_rng(3).integers(0, 255, (6, 10, 3)).astype(np.uint8)
    halves = {"A": COLOURS[IDS], "B": photo} if direction == "AtoB" else {"A": photo, "B": COLOURS[IDS]}
    if side_by_side:
        Image.fromarray(np.hstack([*halves.values()])).save(tmp_path / "0.png")
    for name, half in halves.items() if not side_by_side else ():
        (tmp_path / name).mkdir()
        Image.fromarray(half).save(tmp_path / name / "0.png")
    config = config_of(json.dumps(PALETTE), **{"data.path": str(tmp_path), "data.val_fraction": 0.0, "data.direction": direction})
    pairs = build.pairs(config, "train")
    np.testing.assert_array_equal(pairs[0].input, ONE_HOT)
    np.testing.assert_array_equal(pairs[0].target, photo)
    batch = loader.fixed(pairs, [0], size=20, input_is_labels=True)
    assert set(np.unique(batch.input)) == {0, 255} and (batch.input.sum(-1) == 255).all()


def test_the_check_before_training_names_every_bad_label_map(tmp_path):
    for side in "AB":
        (tmp_path / side).mkdir()
        for i in range(3):
            Image.fromarray(IDS + (i > 0) if side == "A" else COLOURS[IDS]).save(tmp_path / side / f"{i}.png")
    assert len(folder.pairs(tmp_path, "train", val_fraction=0.0, input_channels=1)) == 3
    with pytest.raises(ImageError, match="2 of 3 pairs cannot be used: .*1.png: has the class id 8 in .*2.png: has the class id 8 in"):
        folder.pairs(tmp_path, "train", val_fraction=0.0, input_labels=labels_of(CLASSES))


# Palette images without data.input_labels.

MIXED = np.array([[255, 0, 0], [0, 130, 0], [76, 76, 76], [0, 0, 255]], np.uint8)  # the first three are the same grey


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_image_whose_classes_would_merge_is_refused(format, tmp_path):
    file = tmp_path / f"map.{format.lower()}"
    palette_image(IDS % 4, MIXED).save(file)
    with pytest.raises(
        ImageError, match="is a palette image: as grey, its 4 palette entries become 2: data.input_labels reads its class ids"
    ):
        images.read(file, channels=1)
    read = images.read(file, channels=3)
    np.testing.assert_array_equal(read, MIXED[IDS % 4])


def test_a_half_of_a_palette_image_is_judged_by_itself():
    ids = np.hstack([IDS % 2, IDS % 4])
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [76, 76, 76]], np.uint8)
    left, _ = images.read_halves(encoded(palette_image(ids, colours)), channels=(1, 3))
    assert set(np.unique(left)) == {0, 76}
    with pytest.raises(ImageError, match="its 4 palette entries become 3"):
        images.read_halves(encoded(palette_image(ids, colours)), channels=(3, 1))


def test_a_palette_of_one_colour_twice_is_refused():
    twice = np.array([[0, 0, 0], [90, 90, 90], [90, 90, 90]], np.uint8)
    with pytest.raises(ImageError, match="its 3 palette entries become 2"):
        images.read(encoded(palette_image(IDS % 3, twice)), channels=1)


def test_transparent_entries_are_white_beside_white_ones():
    colours = np.array([[0, 0, 0], [255, 255, 255], [10, 20, 30]], np.uint8)
    read = images.read(encoded(palette_image(IDS % 3, colours), transparency=2), channels=1)
    np.testing.assert_array_equal(read[..., 0], np.array([0, 255, 255])[IDS % 3])


def test_a_palette_of_greys_is_read_as_grey():
    greys = np.repeat(np.arange(0, 256, 32, dtype=np.uint8)[:, None], 3, 1)
    np.testing.assert_array_equal(images.read(encoded(palette_image(IDS, greys)), channels=1)[..., 0], IDS * 32)


def test_drawings_in_the_colours_of_classes():
    """The studio: soft edges are of the nearest class, and what is not drawn, on white, of the first."""
    own = labels_of(json.dumps(PALETTE))
    np.testing.assert_array_equal(own.of_drawing(COLOURS[IDS]), ONE_HOT)
    soft = np.array([[[255, 255, 255], (0.9 * COLOURS[2] + 0.1 * COLOURS[5]).astype(np.uint8)]], np.uint8)
    np.testing.assert_array_equal(own.of_drawing(soft).argmax(-1), [[0, 2]])
    city = labels_of("cityscapes", 19)
    np.testing.assert_array_equal(city.of_drawing(np.zeros((2, 3, 3), np.uint8)), np.zeros((2, 3, 19), np.uint8))
    by_id = labels_of(CLASSES)
    np.testing.assert_array_equal(by_id.of_drawing(by_id.painted(ONE_HOT)), ONE_HOT)
    assert session.settings(config_of(json.dumps(PALETTE)))["brushes"][1]["colour"] == (10, 246, 77)


def test_uploaded_label_maps_are_shown_in_their_colours(tmp_path):
    (tmp_path / "ids.png").write_bytes(ID_FILES["grey of 4 bits"])
    by_id = labels_of(CLASSES)
    np.testing.assert_array_equal(session.read(tmp_path / "ids.png", input_labels=by_id), by_id.painted(ONE_HOT))
    (tmp_path / "photo.png").write_bytes(encoded(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(ImageError, match="^photo.png: has 3 channels: class ids "):
        session.read(tmp_path / "photo.png", input_labels=by_id)


def write_label_pairs(root, sides="AB"):
    """Label maps of ids 0 to 7 in the first of two folders, without class 6; returns the ids."""
    ids = IDS.copy()
    ids[ids == 6] = 0
    for side in "AB":
        (root / side).mkdir(parents=True)
    for i in range(3):
        Image.fromarray(ids).save(root / sides[0] / f"{i}.png")
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 10, 3), np.uint8)).save(root / sides[1] / f"{i}.png")
    return ids


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_check_reports_classes(tmp_path, command, direction):
    ids = write_label_pairs(tmp_path, "AB" if direction == "AtoB" else "BA")
    options = [f"--input_labels={CLASSES}", f"--direction={direction}", f"--sheet={tmp_path / 'sheet.png'}"]
    status, out, err = command("check", str(tmp_path), *options)
    assert (status, err) == (0, "")
    side, other = direction[0], direction[-1]
    assert f"\n{side}: label map (3)\n" in out and f"\n{other}: colour of 8 bits (3)\n" in out
    assert f"\nclasses of {side}: 7 of 8; in no pair: 6\n" in out
    for index in (0, 1, 7):
        assert f"\n  {index}: {100 * np.mean(ids == index):.2g} % of the pixels, in 3 pairs\n" in out
    shown = set(map(tuple, np.asarray(Image.open(tmp_path / "sheet.png")).reshape(-1, 3).tolist()))
    assert {labels_of(CLASSES).colours[index] for index in (1, 2, 3)} <= shown
    Image.fromarray(np.full((6, 10), 9, np.uint8)).save(tmp_path / side / "1.png")
    status, out, err = command("check", str(tmp_path), *options[:2])
    message = "1.png: has the class id 9 in 60 pixels: data.input_labels=8 allows 0 to 7; data.input_labels=10 would do"
    assert status == 1 and f"\n  {tmp_path / side}/{message}\n" in out


def test_check_names_the_classes_of_a_palette(tmp_path, command):
    """Side-by-side pairs, in which pixels of no class are counted too."""
    palette = PALETTES["cityscapes"]
    image = np.zeros((4, 8, 3), np.uint8)
    image[:2, :4], image[:, 4:] = palette.classes["sky"], 77
    (tmp_path / "train").mkdir()
    Image.fromarray(image).save(tmp_path / "train" / "1.png")
    status, out, _ = command("check", str(tmp_path), "--input_labels=cityscapes")
    assert status == 0 and "\nB: colour of 8 bits (1)\n" in out
    assert "\nclasses of A: 1 of 19; in no pair: road, sidewalk, building" in out
    assert "\n  sky: 50 % of the pixels, in 1 pairs\n  of no class: 50 % of the pixels" in out


def test_options_of_check_that_cannot_be_used(tmp_path, command):
    write_label_pairs(tmp_path)
    for options, message in {
        ("--input_labels=none.json",): "data.input_labels is 'none.json', no such file or directory: must be ",
        ("--input_labels=",): "data.input_labels is empty: must be a number of classes, one of ",
        ("--input_labels=8", "--input_range=0,9"): "--input_range is '0,9', but --input_labels has classes, not values: leave it out",
        ("--direction=BtoA",): "--direction applies only together with --input_labels, --input_range or --target_range: leave it out",
    }.items():
        status, _, err = command("check", str(tmp_path), *options)
        assert status == 2 and message in err, err


@pytest.mark.slow
def test_a_run_on_label_maps(tmp_path, shallow, command):
    """It trains, resumes, evaluates, translates and is packed without its palette file, and shows label maps in their colours."""
    random = np.random.default_rng(4)
    for side in "AB":
        (tmp_path / "pairs" / side).mkdir(parents=True)
    for i in range(4):
        ids = random.integers(0, CLASSES, (4, 4)).repeat(4, 0).repeat(4, 1)
        Image.fromarray(COLOURS[ids]).save(tmp_path / "pairs" / "A" / f"{i}.png")
        Image.fromarray(random.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(tmp_path / "pairs" / "B" / f"{i}.png")
    (tmp_path / "palette.json").write_text(json.dumps(PALETTE))
    options = {"data.input_labels": str(tmp_path / "palette.json"), "data.flip_vertical": True, "data.rotate": True}
    run = tmp_path / "run"
    config = shallow("bicycle", tmp_path / "pairs", options, dataset="folder")
    runs.train(config, run)
    (tmp_path / "palette.json").unlink()
    config.train.steps = 4
    assert int(runs.train(config, run).step) == 4
    kept = build.read_config(run)
    assert (kept.data.input_channels, json.loads(kept.data.input_labels)["class 1"]) == (CLASSES, "#0af64d")
    sheet = np.asarray(Image.open(run / "samples" / "00000004.png").convert("RGB")).reshape(-1, 3)
    assert len(set(map(tuple, sheet)) & set(map(tuple, COLOURS))) >= 3
    assert command("evaluate", f"--run={run}", f"--output={tmp_path / 'evaluation'}")[0] == 0
    assert command("pack", f"--run={run}", f"--out={tmp_path / 'packed.safetensors'}")[0] == 0
    file = tmp_path / "pairs" / "A" / "1.png"
    for number, source in enumerate((run, tmp_path / "packed.safetensors")):
        out = tmp_path / str(number)
        assert command("translate", f"--run={source}", f"--input={file}", f"--output={out}", "--size=16")[0] == 0
        np.testing.assert_array_equal(np.asarray(Image.open(out / "inputs" / "1.png")), np.asarray(Image.open(file)))
    assert (tmp_path / "0" / "1.png").read_bytes() == (tmp_path / "1" / "1.png").read_bytes()
    model = load(run)
    one_hot = images.read(file, channels=CLASSES, labels=labels.of_config(kept.data))
    np.testing.assert_array_equal(model(str(file)), model(one_hot))
    np.testing.assert_array_equal(model(Image.open(file)), model(one_hot))
    Image.fromarray(ODD).save(tmp_path / "odd.png")
    status, _, error = command("translate", f"--run={run}", f"--input={tmp_path / 'odd.png'}", f"--output={tmp_path / 'odd'}", "--size=16")
    assert status == 1 and "odd.png: has the colour #010203 in 3 pixels" in error
    studio = session.opened(run)
    picture = session.read(file, input_labels=labels.of_config(kept.data))
    z = session.latents(studio, seed=3, number=1)[0]
    np.testing.assert_array_equal(session.translated(studio, picture, z), model(one_hot, z=z)[0])
