"""Inputs of several files together with data.input_range, data.resize, regions of tiled TIFFs, and what check says about each file."""

import numpy as np
import pytest
import tifffile
from PIL import Image

import runs
from i2i_jax import load
from i2i_jax.config import Config, override
from i2i_jax.data import concatenated, crops, folder, loader
from i2i_jax.data.crops import TrainingSize
from i2i_jax.data.images import ImageError
from i2i_jax.data.pairs import Regions, target_type
from i2i_jax.data.values import Scale
from i2i_jax.types import SampleType

rng = np.random.default_rng(0)
SCALE = Scale(0.0, 4095.0, "data.input_range")
SIZES = [(40, 60), (50, 36), (48, 48)]  # height, width


def twelve_bits(*shape):
    return rng.integers(0, 4096, shape, np.uint16)


def floats(*shape):
    return rng.uniform(-100, 4200, shape).astype(np.float32)


def save(path, image, tile=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"planarconfig": "contig", "extrasamples": ["unspecified"] * (image.shape[2] - 1)} if image.ndim == 3 else {}
    tifffile.imwrite(path, image, photometric="minisblack", tile=tile, metadata=None, **options)
    return image.reshape(*image.shape[:2], -1)


def write_pairs(root, sizes=SIZES, tile=None):
    """Two bands of 12 bits and one of floats to one of 12 bits, all as TIFF; returns the inputs of floats and the targets."""
    pairs, lines = [], []
    for i, size in enumerate(sizes):
        bands, height = save(root / f"bands/{i}.tif", twelve_bits(*size, 2), tile), save(root / f"height/{i}.tif", floats(*size), tile)
        target = save(root / f"target/{i}.tif", twelve_bits(*size), tile)
        pairs.append((np.concatenate([bands.astype(np.float32), height], 2), target))
        lines.append(f"bands/{i}.tif|height/{i}.tif,target/{i}.tif\n")
    (root / "pairs.csv").write_text("".join(lines))
    return pairs


def read(root, **options):
    return folder.pairs(root, "all", **({"input_channels": 3, "target_channels": 1, "input_scale": SCALE, "target_scale": SCALE} | options))


def test_the_range_scales_each_file(tmp_path):
    expected = write_pairs(tmp_path)
    pairs = read(tmp_path)
    for i, (image, target) in enumerate(expected):
        assert (pairs[i].input.dtype, pairs[i].target.dtype) == (np.float32, np.uint16)
        np.testing.assert_allclose(pairs[i].input, np.clip(image / 4095 * 2 - 1, -1, 1), atol=2e-5)
        np.testing.assert_allclose(pairs[i].target, target * (65535 / 4095), atol=0.51)
    reverse = read(tmp_path, direction="BtoA", input_channels=1, target_channels=3)
    np.testing.assert_array_equal(reverse[1].target, pairs[1].input)


def test_the_range_is_part_of_the_fingerprint(tmp_path):
    write_pairs(tmp_path)
    scales = SCALE, Scale(0.0, 5000.0, "data.input_range")
    assert len({read(tmp_path, input_scale=scale).fingerprint for scale in scales}) == 2  # pyright: ignore[reportAttributeAccessIssue]


def test_without_a_range_each_file_is_scaled_by_its_type(tmp_path):
    signed, eight = rng.integers(-(2**15), 2**15, (6, 8), np.int16), rng.integers(0, 256, (6, 8), np.uint8)
    save(tmp_path / "signed.tif", signed), Image.fromarray(eight).save(tmp_path / "eight.png")
    joined = concatenated.read([tmp_path / "signed.tif", tmp_path / "eight.png"], channels=2)
    np.testing.assert_array_equal(joined, np.stack([signed.astype(int) + 2**15, eight.astype(int) * 257], 2).astype(np.uint16), strict=True)


def test_floats_without_a_range_and_nan_are_refused(tmp_path):
    write_pairs(tmp_path)
    message = r"height/0.tif: has floats from -?\d.* to \d.*: set data.input_range=LOW,HIGH in the files' units"
    with pytest.raises(ImageError, match=message):
        read(tmp_path, input_scale=Scale(None, None, "data.input_range"))
    bad = floats(*SIZES[1])
    bad[3, :5] = np.nan
    save(tmp_path / "height/1.tif", bad)
    with pytest.raises(ImageError, match="^1 of 3 pairs cannot be used: .*height/1.tif: has 5 NaN or Inf among its 1800 values"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("first", "second", "scale", "dtype"),
    [
        ("uint16", "uint16", SCALE, "uint16"),
        ("uint8", "uint16", SCALE, "uint16"),
        ("uint8", "int16", SCALE, "int16"),
        ("uint16", "int16", SCALE, "float32"),
        ("uint16", "float32", SCALE, "float32"),
        ("uint8", "int16", Scale(), "uint16"),
    ],
)
def test_type_of_targets_of_several_files(tmp_path, first, second, scale, dtype):
    save(tmp_path / "1.tif", np.zeros((4, 4), first)), save(tmp_path / "2.tif", np.zeros((4, 4), second))
    save(tmp_path / "3.tif", np.zeros((4, 4), np.uint8))
    (tmp_path / "pairs.csv").write_text("1.tif|2.tif,3.tif\n")
    pairs = read(tmp_path, direction="BtoA", input_channels=1, target_channels=2, target_scale=scale)
    assert target_type(pairs) == SampleType(dtype)


def test_regions_of_several_tiled_files(tmp_path, monkeypatch):
    write_pairs(tmp_path, tile=(16, 16))
    pairs = read(tmp_path)
    assert isinstance(pairs, Regions)
    for i, size in enumerate(SIZES):
        assert pairs.size(i) == size and pairs.file(i) == str(tmp_path / f"bands/{i}.tif")
        region, whole = pairs.region(i, slice(5, 30), slice(10, 21)), pairs[i]
        assert region is not None
        for part, image in zip(region, whole, strict=True):
            np.testing.assert_array_equal(part, image[5:30, 10:21], strict=True)
    assert read(tmp_path, direction="BtoA", input_channels=1, target_channels=3).region(0, slice(5), slice(5)) is not None  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(folder.TwoFiles, "__getitem__", None)  # training reads regions only
    batch = next(loader.batches(pairs, load_size=1, batch_size=6, seed=0, cache_gb=0.0, resize="none", crop_size="16x32", threads=1))
    assert batch.input.shape == (6, 16, 32, 3) and batch.input.dtype == np.float32


def test_tiled_files_of_different_sizes_are_refused(tmp_path):
    write_pairs(tmp_path, tile=(16, 16))
    save(tmp_path / "height/2.tif", floats(48, 64), (16, 16))
    with pytest.raises(
        ImageError, match="^1 of 3 pairs cannot be used: .*bands/2.tif is 48x48 but .*height/2.tif is 64x48: must be of one"
    ):
        read(tmp_path)


@pytest.mark.parametrize("resize", ["width", "none"])
def test_crops_of_several_files_that_are_read_whole(tmp_path, resize):
    write_pairs(tmp_path)
    pairs = read(tmp_path)
    config = override(Config(), {"data.resize": resize, "data.load_size": 32, "data.crop_size": "36x40" if resize == "none" else "24x32"})
    with pytest.raises(ImageError, match="bands/"):
        crops.usable(pairs, config)
    config.data.skip_bad = True
    kept = crops.usable(pairs, config)
    assert len(kept) == 2
    resized = loader.at_training_size(kept[0], TrainingSize.of_config(config.data))
    batch = next(loader.batches(kept, load_size=32, batch_size=4, seed=0, resize=resize, crop_size=config.data.crop_size))
    assert batch.input.shape[1:] == ((36, 40, 3) if resize == "none" else (24, 32, 3)) and resized.input.shape[2] == 3


def test_check_reports_each_file(tmp_path, command):
    write_pairs(tmp_path)
    status, out, err = command("check", str(tmp_path), f"--sheet={tmp_path / 'sheet.png'}")
    assert status == 0, err
    lines = out.splitlines()
    assert "proportions, width / height: from 0.72 to 1.5" in lines
    assert {"A1: 2 channels of 16 bits (3)", "A2: grey of 32 bits, floats (3)", "B: grey of 16 bits (3)"} <= set(lines)
    assert "A has 2 files, channels 2 + 1 = 3 (3): data.input_channels=3" in lines
    values = {line.split()[0]: line for line in lines if " values: " in line}
    assert list(values) == ["A1", "A2", "B"] and "(uint16)" in values["A1"] and "(float32)" in values["A2"]
    advice = [line for line in lines if line.startswith("A1 uses ")][0]
    assert advice.endswith(
        "--config.data.input_range=0,4095 scales it to the whole range (with data.direction=BtoA: data.target_range; one range for all "
        "files of A)"
    )
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape[1] > 3 * 3 * 128


@pytest.mark.parametrize(("direction", "flag"), [("AtoB", "input_range"), ("BtoA", "target_range")])
def test_check_counts_values_outside_of_each_file(tmp_path, command, direction, flag):
    expected = write_pairs(tmp_path)
    status, out, err = command("check", str(tmp_path), f"--{flag}=0,4000", f"--direction={direction}")
    assert status == 0, err
    for side, bands in (("A1", slice(2)), ("A2", slice(2, 3))):
        images = [image[..., bands] for image, _ in expected]
        count = sum(int(((image < 0) | (image > 4000)).sum()) for image in images)
        assert f"\n{side}: {count} values (" in out and f"--{flag}=0,4000: training clips them to it\n" in out
    assert "\nB: " in out and "\nB: 0 values" not in out and out.count(" are outside ") == 2


def test_check_of_label_maps_and_values(tmp_path, command):
    """The side of label maps has classes, the other one values and a range."""
    for i in range(2):
        (tmp_path / "A").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 4, (6, 8), np.uint8)).save(tmp_path / "A" / f"{i}.png")
        save(tmp_path / "B" / f"{i}.tif", floats(6, 8))
    options = "--input_labels=4", "--target_range=0,4000", f"--sheet={tmp_path / 'sheet.png'}"
    status, out, err = command("check", str(tmp_path), *options)
    assert status == 0, err
    assert "\nA: label map (2)\n" in out and "\nA values" not in out and "\nclasses of A: 4 of 4\n" in out
    assert "\nB values: " in out and " are outside --target_range=0,4000: " in out and "\nproportions, width / height: 1.33 in all" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"data.resize": "none", "data.crop_size": "16x16"},
        {"data.resize": "width", "data.load_size": 32, "data.crop_size": 16},
    ],
)
def test_a_run_with_a_range_and_proportions(tmp_path, shallow, command, options):
    """It trains on 12 bits and floats, and translates lists in the units of the targets and the sizes of the inputs."""
    sizes = [(40, 60), (50, 36), (48, 48), (40, 60)]
    expected = write_pairs(tmp_path / "data", sizes)
    options |= {"data.input_channels": 3, "data.target_channels": 1, "data.input_range": "0,4095", "data.target_range": "0,4095"}
    run = tmp_path / "run"
    runs.train(shallow("pix2pix", tmp_path / "data", options | {"data.val_fraction": 0.25}, dataset="folder"), run)
    status, _, err = command("evaluate", f"--run={run}", "--split=all", "--metrics=l1")
    assert status == 0, err
    output = tmp_path / "out"
    status, out, err = command("translate", f"--run={run}", f"--input={tmp_path / 'data' / 'pairs.csv'}", f"--output={output}", "--sync")
    assert status == 0 and out.startswith("4 translated: "), err
    assert "4 of 4 inputs have values outside data.input_range=0,4095, which were clipped to it: " in out
    model = load(run)
    for i, (image, _) in enumerate(expected):
        written = np.asarray(Image.open(output / "bands" / f"{i}.png"))
        assert written.shape == sizes[i] and written.dtype in (np.uint16, np.int32) and written.max() <= 4095
        np.testing.assert_allclose(model(image, seed=0)[0, ..., 0], written, atol=60)
        assert np.asarray(Image.open(output / "inputs" / "bands" / f"{i}.png")).shape == (sizes[i][0], 2 * sizes[i][1], 3)
