"""TrainingSize and proportions: data.resize square, width, none and pad, crops that are not square, and bad values of each."""

import itertools

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

import runs
from i2i_jax import build, load
from i2i_jax.config import Config, ConfigError, from_json, override, sides, to_json, validate
from i2i_jax.data import augment, crops, folder, geotiff, images, inspect_pairs, loader, tiff_images
from i2i_jax.data.crops import TrainingSize
from i2i_jax.data.image_header import ImageError
from i2i_jax.data.pairs import Pair, SideBySide
from i2i_jax.devices import parallel
from i2i_jax.evaluation import evaluate
from i2i_jax.inference import band_files, folders, size_change
from i2i_jax.pages import grids
from i2i_jax.storage import packed

SIZES = [(40, 60), (50, 33), (32, 90), (37, 64)]  # height, width


def positions(height, width, seed=0):
    """An image whose channels hold the row, the column and a number."""
    rows, columns = np.indices((height, width))
    return np.stack([rows, columns, np.full_like(rows, seed)], 2).astype(np.uint8)


class Sized:
    """Pairs of the given sizes, in which a target is the input plus 100. Counts how often each is read."""

    def __init__(self, sizes=SIZES):
        self.sizes, self.reads = sizes, [0] * len(sizes)

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        self.reads[index] += 1
        image = positions(*self.sizes[index], seed=index)
        return Pair(image, image + 100)

    def name(self, index):
        return f"pair {index}"


def take(count, pairs, **options):
    options = {"load_size": 48, "batch_size": 3, "seed": 5, "resize": "none", "crop_size": "16x32"} | options
    return list(itertools.islice(loader.batches(pairs, **options), count))


def assert_equal(batches, others):
    for batch, other in zip(batches, others, strict=True):
        jax.tree.map(np.testing.assert_array_equal, batch, other)


def test_crops_of_images_as_they_are():
    """The oracle: a crop is the slice that the pair's own positions name, at the corner of its seed, step and row."""
    seen = []
    for step, batch in enumerate(take(40, Sized())):
        assert batch.input.shape == (3, 16, 32, 3)
        for row, crop in enumerate(batch.input):
            (top, left, index), size = crop[0, 0].tolist(), (16, 32)
            np.testing.assert_array_equal(crop, positions(*SIZES[index], seed=index)[top : top + 16, left : left + 32])
            assert (top, left) == crops.corner(SIZES[index], size, seed=5, step=step, row=row)
            seen.append(index)
        np.testing.assert_array_equal(batch.target, batch.input + 100)
        np.testing.assert_array_equal(batch.row, [0, 1, 2])
    assert sorted(seen[:4]) == [0, 1, 2, 3]


def test_corners_are_uniform_reproducible_and_in_range():
    corners = np.array([crops.corner((10, 30), (7, 30), seed=1, step=step, row=row) for step in range(300) for row in range(4)])
    assert set(corners[:, 1]) == {0}
    counts = np.bincount(corners[:, 0])
    assert len(counts) == 4 and ((counts - 300) ** 2 / 300).sum() < 16.3  # chi-squared, 3 degrees of freedom, p = 0.001
    assert crops.corner((100, 200), (10, 20), seed=1, step=2, row=3) == (39, 29)  # never changes: runs resume by it
    assert len({crops.corner((10**6, 10**6), (1, 1), seed=s, step=t, row=r) for s in (0, 1) for t in (0, 1) for r in (0, 1)}) == 8


def test_a_resumed_run_and_any_split_of_the_rows_get_the_same_crops():
    whole = take(7, Sized())
    assert_equal(take(4, Sized(), start_step=3), whole[3:])
    first, last = (take(7, Sized(), rows=rows) for rows in ([0], [1, 2]))
    joined = [jax.tree.map(lambda a, b: np.concatenate([a, b]), *pair) for pair in zip(first, last, strict=True)]
    assert_equal(joined, whole)


@pytest.mark.parametrize("cache", [{"cache_gb": 0.0}, {"cache_gb": 12e-6}, {"cache_gb": 0.0, "disk_cache_gb": 1.0}])
@pytest.mark.parametrize("resize", ["none", "width"])
def test_caches_change_no_crop(resize, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for index, size in enumerate(SIZES):
        pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.fromarray(np.concatenate([pixels, 255 - pixels], 1)).save(tmp_path / "train" / f"{index}.png")
    pairs = folder.pairs(tmp_path, "train", val_fraction=0.0)
    options = {"resize": resize, "load_size": 64, "crop_size": 16}
    assert_equal(take(12, pairs, **options, **cache), take(12, pairs, **options))


def test_pairs_are_decoded_once_if_they_fit_in_memory():
    pairs = Sized()
    crop = crops.Crops(pairs, TrainingSize("width", (48, 48), (16, 16)), lambda pair: pair, seed=0, cache_gb=1.0, disk=lambda example: None)
    for step in range(20):
        crop(step % 4, step, 0)
    assert pairs.reads == [1] * 4


def test_width_keeps_proportions():
    batch = take(1, Sized(), resize="width", load_size=30, crop_size="8x24")[0]
    assert batch.input.shape == (3, 8, 24, 3)
    image = positions(40, 60)
    resized = loader.at_training_size(Pair(image, image), TrainingSize("width", (30, 30), (8, 24))).input
    np.testing.assert_array_equal(resized, np.asarray(Image.fromarray(image).resize((30, 20), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize(
    ("resize", "load", "size", "scaled"),
    [
        ("square", (30, 30), (40, 60), (30, 30)), ("square", (30, 60), (40, 60), (30, 60)), ("none", (30, 30), (40, 60), (40, 60)),
        ("width", (30, 30), (40, 60), (20, 30)), ("width", (30, 30), (1, 900), (1, 30)), ("pad", (30, 30), (40, 60), (20, 30)),
        ("pad", (30, 30), (60, 40), (30, 20)), ("pad", (30, 90), (40, 60), (30, 45)), ("pad", (30, 30), (1, 900), (1, 30)),
        ("pad", (30, 30), (10, 15), (20, 30)),
    ],
)  # fmt: skip
def test_sizes_after_the_resize(resize, load, size, scaled):
    assert TrainingSize(resize, load, (8, 8)).scaled(*size) == scaled


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (30, 30), (5, 120)])
def test_pad_fills_by_reflection(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    scale = TrainingSize("pad", (30, 30), (30, 30))
    height, width = scale.scaled(*size)
    fitted = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    padded = loader.at_training_size(Pair(image, image), scale).input
    rows, columns = ([reflected(i, side) for i in range(30)] for side in (height, width))
    np.testing.assert_array_equal(padded, fitted[np.ix_(rows, columns)])


def reflected(index, side):
    """The pixel that padding by reflection, with the last pixel repeated, takes for the one at `index`."""
    index %= 2 * side
    return index if index < side else 2 * side - 1 - index


def test_padded_and_squeezed_batches_have_one_shape():
    assert take(1, Sized(), resize="pad", load_size="32x48")[0].input.shape == (3, 32, 48, 3)
    assert take(1, Sized(), resize="square", load_size="32x48")[0].input.shape == (3, 32, 48, 3)
    assert_equal(take(2, Sized(), resize="square", load_size="32x32"), take(2, Sized(), resize="square", load_size=32))


def test_label_maps_stay_one_hot():
    one_hot = np.where(np.random.default_rng(0).integers(0, 4, (40, 60, 1)) == np.arange(4), 255, 0).astype(np.uint8)
    for resize in ("width", "pad"):
        labels = loader.at_training_size(
            Pair(one_hot, positions(40, 60)), TrainingSize(resize, (32, 32), (16, 16)), input_is_labels=True
        ).input
        assert set(np.unique(labels)) == {0, 255} and (labels.sum(2, dtype=int) == 255).all()


def test_crops_that_are_not_square_on_the_device():
    image = positions(20, 40)
    raw = loader.RawBatch(np.stack([image] * 50), np.stack([image] * 50), np.arange(50, dtype=np.int32))
    batch = augment.augment(raw, jax.random.key(0), crop_size=(8, 24), flip=False)
    assert batch.input.shape == (50, 8, 24, 3)
    for crop in augment.to_uint8(batch.input):
        top, left, _ = crop[0, 0]
        np.testing.assert_array_equal(crop, image[top : top + 8, left : left + 24])
    cut = raw._replace(input=raw.input[:, :8, :24], target=raw.target[:, :8, :24])
    whole = augment.augment(cut, jax.random.key(0), crop_size=(8, 24), flip=True)
    mirrored = augment.to_uint8(whole.input)[:, 0, 0, 1] == 23  # a crop that fits is only flipped
    assert 10 < mirrored.sum() < 40


def test_a_square_crop_is_cut_the_same_however_it_is_given():
    raw = take(1, Sized(), resize="square", load_size=20)[0]
    jax.tree.map(np.testing.assert_array_equal, *(augment.augment(raw, jax.random.key(1), crop_size=c, flip=True) for c in (8, (8, 8))))


@pytest.mark.slow
def test_one_and_two_devices_train_on_the_same_crops(tmp_path):
    """Each device reads only its own rows."""
    results = []
    for devices in (1, 2):
        mesh = parallel.make_mesh(jax.devices()[:devices])
        rows = parallel.local_rows(4, mesh)
        raw = parallel.global_batch(take(1, Sized(), batch_size=4, rows=rows, crop_size="8x16")[0], mesh)
        batch = jax.jit(lambda raw: augment.augment(raw, jax.random.key(3), crop_size=(8, 16), flip=True))(raw)
        results.append([np.asarray(images)[np.argsort(raw.row)] for images in batch])
    jax.tree.map(np.testing.assert_array_equal, *results)


def tiled(path, pixels):
    tifffile.imwrite(path, pixels, tile=(32, 32), photometric="rgb", compression="zlib")


def test_a_crop_of_a_tiled_tiff_decodes_its_own_tiles_only(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (320, 480, 3), np.uint8)
    for side, image in (("A", pixels), ("B", 255 - pixels)):
        (tmp_path / side).mkdir()
        tiled(tmp_path / side / "scene.tif", image)
        tiled(tmp_path / side / "scene2.tif", image)
    pairs = folder.pairs(tmp_path, "all")
    decoded, decode_tile = [], tiff_images.Tiled._decoded
    monkeypatch.setattr(tiff_images.Tiled, "_decoded", lambda self, file, number: decoded.append(number) or decode_tile(self, file, number))
    monkeypatch.setattr(folder.TwoFiles, "__getitem__", lambda self, index: pytest.fail("a whole image was decoded"))
    crop = crops.Crops(pairs, TrainingSize("none", (1, 1), (16, 16)), lambda pair: pair, seed=0, cache_gb=4.0, disk=lambda example: None)
    for step in range(10):
        pair = crop(0, step, 0)
        top, left = crops.corner((320, 480), (16, 16), seed=0, step=step, row=0)
        np.testing.assert_array_equal(pair.input, pixels[top : top + 16, left : left + 16])
        np.testing.assert_array_equal(pair.target, 255 - pair.input)
    assert len(decoded) <= 10 * 2 * 4


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_regions_of_side_by_side_tiffs(direction, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 192, 3), np.uint8)
    tiled(tmp_path / "pair.tif", pixels)
    pairs = SideBySide(1, lambda index: tmp_path / "pair.tif", str, direction=direction, target_channels=1)
    whole, region = pairs[0], pairs.region(0, slice(5, 40), slice(7, 90))
    pairs.check(0)
    assert pairs.size(0) == (64, 96) and pairs.file(0) == str(tmp_path / "pair.tif")
    for image, part in zip(whole, region, strict=True):
        np.testing.assert_array_equal(part, image[5:40, 7:90])
    monkeypatch.setattr(crops, "MOST_EVALUATED", 70)
    for image, part in zip(whole, crops.central(pairs, 0, TrainingSize("none", (1, 1), (8, 8))), strict=True):
        np.testing.assert_array_equal(part, image[:, 13:83])


def test_damage_in_a_tiled_tiff_is_found_before_training(tmp_path):
    for side in "AB":
        (tmp_path / side).mkdir()
        tiled(tmp_path / side / "1.tif", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    tiled(tmp_path / "B" / "1.tif", np.zeros((64, 32, 3), np.uint8))
    with pytest.raises(ImageError, match=r"1.tif is 64x64 but .*1.tif is 32x64: must be of one size"):
        folder.pairs(tmp_path, "all")


def test_large_images_are_evaluated_in_their_center(monkeypatch):
    monkeypatch.setattr(crops, "MOST_EVALUATED", 20)
    pair = crops.central(Sized(), 0, TrainingSize("none", (1, 1), (8, 8)))
    np.testing.assert_array_equal(pair.input, positions(40, 60)[10:30, 20:40])
    np.testing.assert_array_equal(
        crops.central(Sized([(10, 60)]), 0, TrainingSize("none", (1, 1), (8, 8))).input, positions(10, 60)[:, 20:40]
    )
    assert crops.central(Sized(), 0, TrainingSize("width", (1, 1), (8, 8))).input.shape == (40, 60, 3)


def config_of(**options):
    names = {
        "resize": "data.resize",
        "crop": "data.crop_size",
        "load": "data.load_size",
        "generator": "model.generator",
        "rotate": "data.rotate",
    }
    return override(Config(objective="pix2pix"), {names[name]: value for name, value in options.items()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "stretch"}, "unknown data.resize 'stretch': one of square, width, none, pad"),
        ({"crop": "256x"}, "data.crop_size is '256x': must be a number of pixels, or HEIGHTxWIDTH, for example 256x512"),
        ({"crop": "-256"}, "data.crop_size is '-256': must be a number of pixels"),
        ({"crop": 25.5}, "data.crop_size is 25.5: must be a number of pixels"),
        ({"crop": "0x256"}, "data.crop_size is 0x256: must be at least 1"),
        ({"load": "1x2x3"}, "data.load_size is '1x2x3': must be a number of pixels, or HEIGHTxWIDTH"),
        ({"crop": "256x500", "load": 600}, "data.crop_size is 256x500: model.generator unet_256 takes multiples of 256: "
         "data.crop_size=256x512 would do, or model.generator=resnet_6"),
        ({"crop": "256x512"}, "data.load_size 286 is smaller than data.crop_size 256x512"),
        ({"crop": "256x512", "resize": "pad"}, "data.load_size 286 is smaller than data.crop_size 256x512"),
        ({"crop": 512, "resize": "width"}, "data.load_size 286 is smaller than data.crop_size 512"),
        ({"load": "286x572", "resize": "width"}, "data.load_size is 286x572: data.resize=width needs one number, the width: 572 would do"),
        ({"crop": "256x512", "resize": "none", "rotate": True},
         "data.rotate turns crops by 90 degrees, but data.crop_size is 256x512: 256 would do"),
    ],
)  # fmt: skip
def test_bad_values(options, message):
    with pytest.raises(ConfigError) as error:
        validate(config_of(**options))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"crop": "256x512", "load": "286x572"}, {"crop": "256x512", "resize": "none"}, {"crop": "512x256", "load": 300, "resize": "width"},
        {"crop": "256x512", "load": 512, "resize": "pad"}, {"crop": 512, "resize": "none"},
        {"crop": "128x384", "resize": "none", "generator": "resnet_6"},
    ],
)  # fmt: skip
def test_good_values_are_kept(options):
    config = validate(config_of(**options))
    assert from_json(to_json(config)) == config
    assert packed._is_published("data.resize")
    assert build.example_batch(config).input.shape[1:3] == sides(config.data.crop_size)


def test_a_square_is_a_number_however_it_is_written():
    assert config_of(crop="256x256").data.crop_size == config_of(crop="256").data.crop_size == 256
    assert from_json(to_json(Config()).replace('"resize": "square",', "")) == Config()  # a run of an older version


@pytest.mark.parametrize(
    ("resize", "message"),
    [
        ("none", "small.png: is 60 pixels wide and 40 high: too small for data.crop_size 64: data.resize=pad would do"),
        ("width", "small.png: is 60 pixels wide and 40 high, after data.resize=width 128 wide and 85 high: "
         "too small for data.crop_size 128: "
         "data.resize=pad would do, or data.crop_size=64x128"),
    ],
)  # fmt: skip
def test_images_smaller_than_the_crop(resize, message, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, size in {"small": (40, 60), "large": (300, 300)}.items():
        Image.fromarray(np.zeros((size[0], 2 * size[1], 3), np.uint8)).save(tmp_path / f"{name}.png")
    config = config_of(resize=resize, crop=64 if resize == "none" else 128, load=128, generator="unet_64")
    pairs = folder.pairs(tmp_path, "all")
    with pytest.raises(ImageError) as error:
        crops.usable(pairs, config)
    assert message in str(error.value) and str(error.value).endswith("data.skip_bad=True leaves out what cannot be used")
    config.data.skip_bad = True
    kept = crops.usable(pairs, config)
    assert [kept.name(index) for index in range(len(kept))] == ["large"]
    assert (kept.size(0), kept.file(0)) == ((300, 300), str(tmp_path / "large.png"))


@pytest.mark.parametrize("resize", ["square", "width", "none", "pad"])
@pytest.mark.parametrize("size", [(40, 60), (300, 11), (32, 32)])
def test_an_image_comes_back_in_its_own_size(resize, size):
    config = config_of(resize=resize, crop=32, load=32, generator="resnet_6")
    change = size_change.of_image(config, size)
    prepared = change.prepare(np.full((*size, 3), 77, np.uint8))
    assert prepared.shape[:2] == change.padded and change.finish(prepared).shape == (*size, 3)
    assert (change.finish(prepared) == 77).all()
    if resize in ("square", "none"):
        assert not change.changes
    else:
        assert change.padded[1] == 32 and size_change.of_image(config, size, load_size=64).padded[1] == 64


def test_the_colours_of_a_segmenter_are_not_mixed():
    config = config_of(resize="width", crop=32, load=32, generator="resnet_6")
    config.objective = "segmenter"
    output = np.zeros((16, 32, 3), np.uint8)
    output[:, 16:] = 255
    assert set(np.unique(size_change.of_image(config, (50, 100)).finish(output))) == {0, 255}


def test_check_says_what_training_makes_of_the_sizes(tmp_path):
    for name, width in (("1", 1200), ("2", 1200), ("3", 900)):
        Image.fromarray(np.random.default_rng(width).integers(0, 256, (600, 2 * width, 3), np.uint8)).save(tmp_path / f"{name}.png")
    lines = list(inspect_pairs.report(inspect_pairs.survey(tmp_path)))
    for line in (
        "proportions, width / height: from 1.5 to 2",
        "  data.resize=square (the default): pairs of 1200x600 are squeezed to squares: data.resize=width keeps proportions",
        "  data.resize=width: 1200x600 becomes 286x143 with data.load_size=286",
        "  data.resize=none: crops of the images as they are: every pair has room for data.crop_size=600x900 (HEIGHTxWIDTH)",
        "  data.resize=pad: 1200x600 becomes 286x143, and 50 % of a square of 286 is filled by reflection",
    ):
        assert line in lines


def of_pairs(folder_path, sizes):
    for index, (height, width) in enumerate(sizes):
        pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(np.concatenate([pixels, 255 - pixels], 1)).save(folder_path / f"{index}.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("resize", "options", "evaluated"),
    [
        ("none", {"data.crop_size": "16x32"}, "native"),
        ("width", {"data.load_size": 32, "data.crop_size": 16}, "32 wide"),
        ("pad", {"data.load_size": 32, "data.crop_size": 16}, "within 32"),
        ("square", {"data.load_size": "20x40", "data.crop_size": "16x32"}, "16x32"),
    ],
)
def test_a_run_of_each_kind(resize, options, evaluated, tmp_path, command, shallow):
    """Trains, resumes exactly, evaluates, and translates in the inputs' own sizes by the command and by the Python API."""
    (pairs := tmp_path / "pairs").mkdir()
    of_pairs(pairs, [(45, 75), (60, 90), (50, 75), (45, 75)])
    options = {"data.resize": resize, **options, "data.val_fraction": 0.5, "optimizer.decay_fraction": 0.0}
    config = shallow("bicycle", pairs, options, dataset="folder")
    whole = runs.train(config, tmp_path / "whole")
    config.train.steps = 1
    runs.train(config, tmp_path / "run")
    config.train.steps = 2
    resumed = runs.train(config, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed.params), jax.device_get(whole.params))
    run = tmp_path / "run"
    status, out, err = command("evaluate", f"--run={run}", "--split=train", "--samples=2")
    assert (status, evaluated in out) == (0, True), err
    model = load(run)
    for name, size in {"a": (45, 75), "b": (35, 21)}.items():
        file = tmp_path / f"{name}.png"
        Image.fromarray(np.random.default_rng(9).integers(0, 256, (*size, 3), np.uint8)).save(file)
        status, out, err = command("translate", f"--run={run}", f"--input={file}", f"--output={tmp_path / name}", "--seed=3")
        assert status == 0, err
        assert np.asarray(Image.open(tmp_path / name / file.name)).shape == (*size, 3)
        z = model.encode(file)
        assert z.shape == (model.networks.latent_dim,)
        status, _, err = command("translate", f"--run={run}", f"--input={file}", f"--output={tmp_path / name}", f"--style={file}")
        assert status == 0, err
        by_command = np.asarray(Image.open(tmp_path / name / file.name)).astype(int)
        np.testing.assert_allclose(by_command, model(file, z=z)[0], atol=1)
        assert by_command.std() > 0
    assert_evaluated_as_trained(model, folder.pairs(pairs, "all"), TrainingSize.of_config(config.data))


def assert_evaluated_as_trained(model, pairs, scale):
    """Examples have the scale and the proportions of training, and their padding is cut off after the networks."""
    networks, mode = model.networks, build.mode(model.config)
    translate = evaluate.translations(networks, mode, pairs, size=scale.crop, samples=2, batch_size=2, training_size=scale)
    batches = [(batch.examples, i) for batch in translate(model.state, range(4)) for i in range(batch.count)]
    assert len(batches) == 4
    for index, (examples, i) in enumerate(batches):
        pair = pairs[index]
        height, width = scale.crop if scale.resize == "square" else scale.scaled(*pair.input.shape[:2])
        expected = augment.scale(loader.resize(pair.target, (height, width)))
        np.testing.assert_allclose(examples.target[i], expected, atol=1e-6)
        assert examples.samples[i].shape == (2, height, width, 3)
        padded = loader.mirrored(loader.resize(pair.input, (height, width)), scale.load if scale.resize == "pad" else scale.crop)
        z = np.asarray(examples.posterior.mean)[i]
        encoded = model.translate(model.state, augment.scale(padded)[None], z[None, None], jax.random.key(0))[0, 0, :height, :width]
        np.testing.assert_allclose(examples.encoded[i], encoded, atol=1 / 127)


def test_bands_are_written_as_whole_images_are(tmp_path):
    """PNG with any channels and depth, and TIFFs with tags, of heights that no tile divides."""
    rng = np.random.default_rng(0)
    for suffix, channels, dtype, tags in itertools.product((".png", ".tif"), (1, 3, 4), (np.uint8, np.uint16), ((), TAGS)):
        whole = rng.integers(0, np.iinfo(dtype).max, (2, 600, 301, channels), dtype, endpoint=True)
        paths, previews = ([tmp_path / f"{name}{i}{suffix}" for i in range(2)] for name in ("out", "preview"))
        previews = [path.with_suffix(".png") for path in previews]
        bands = (whole[:, start:end] for start, end in itertools.pairwise((0, 1, 250, 256, 599, 600)))
        band_files.write(paths, previews, bands, size=(600, 301), geo_tags=tags)
        for path, preview, image in zip(paths, previews, whole, strict=True):
            np.testing.assert_array_equal(images.read(path, channels=channels), image)
            np.testing.assert_array_equal(np.asarray(Image.open(preview)), grids.to_rgb8(image))
            if suffix == ".tif":
                with tifffile.TiffFile(path) as file:
                    assert file.pages.first.is_tiled and (33550 in file.pages.first.tags) == bool(tags)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".png"] * 4 + [".tif"] * 2


TAGS = ((33550, 12, 3, (1.0, 1.0, 0.0), False),)  # a pixel's size, as tifffile takes a tag


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_bands_of_an_image_that_fails_leave_no_file(suffix, tmp_path):
    def bands():
        yield np.zeros((1, 300, 50, 3), np.uint8)
        raise RuntimeError("the device is lost")

    with pytest.raises(RuntimeError, match="the device is lost"):
        band_files.write([tmp_path / f"out{suffix}"], [], bands(), size=(600, 50))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("georeferenced", [False, True])
def test_large_translations_are_written_in_bands(georeferenced, trained, tmp_path, command, monkeypatch):
    """The pixels are those of an image that is written at once."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    options = {"extratags": TAGS} if georeferenced else {}
    tifffile.imwrite(tmp_path / "scene.tif", pixels, tile=(64, 64), photometric="rgb", metadata=None, **options)
    written, write = [], band_files.write
    monkeypatch.setattr(band_files, "write", lambda paths, *rest, **more: written.append(paths) or write(paths, *rest, **more))
    results = []
    for limit in (10**9, 1000):
        monkeypatch.setattr(folders, "STREAMED", limit)
        output = tmp_path / str(limit)
        flags = f"--run={trained('bicycle')}", f"--input={tmp_path / 'scene.tif'}", f"--output={output}", "--tile=128", "--samples=2"
        status, _, err = command("translate", *flags)
        assert status == 0, err
        files = sorted(path.relative_to(output) for path in output.rglob("scene*") if path.parent.name != "inputs")
        results.append({str(file): images.read(output / file, channels=3) for file in files})
        assert geotiff.read(output / files[-1]) == (geotiff.read(tmp_path / "scene.tif") if georeferenced else ())
    assert len(written) == 1
    assert results[0].keys() == results[1].keys() and len(results[0]) == (4 if georeferenced else 2)
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_a_sheet_keeps_the_proportions_of_images_of_other_sizes():
    wide, high = np.zeros((100, 200, 3), np.uint8), np.zeros((200, 100, 3), np.uint8)
    sheet = grids.grid([[wide], [high]], labels=["output"])
    assert sheet.shape[:2] == (grids.LABEL_HEIGHT + 2 * (100 + grids.GAP), 200 + 2 * grids.GAP)
    black = (sheet[grids.LABEL_HEIGHT :] == 0).all(2)
    assert black[:100].sum() == 100 * 200 and black[104:].sum() == 100 * 50
