"""Ranges of values: scaling to [-1, 1] and back, what is refused or clipped, and what is said about it."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

import runs
from i2i_jax import build, load
from i2i_jax.config import Config, ConfigError, DataConfig, override, to_json, validate
from i2i_jax.data import augment, folder, images, loader, values
from i2i_jax.data.images import ImageError
from i2i_jax.data.labels import Labels
from i2i_jax.data.pairs import Pair
from i2i_jax.inference.model import Model
from i2i_jax.interop import model_card
from i2i_jax.storage import packed
from i2i_jax.studio import session
from i2i_jax.train_state import TrainState
from i2i_jax.types import EIGHT_BITS, SampleType

RNG = np.random.default_rng(0)
TYPES = {"uint8": (0, 255), "uint16": (0, 65535), "int16": (-32768, 32767)}


@pytest.mark.parametrize("dtype", TYPES)
def test_all_integers_of_a_type_survive(dtype):
    """Without a range, and with every range of at most 65535; -1 and 1 are its ends."""
    first, last = TYPES[dtype]
    for low, high in ((None, None), (first, last), (first + 100, last - 50), (first + 7, first + 12)):
        start, end = (first, last) if low is None else (low, high)
        numbers = np.arange(start, end + 1).astype(dtype).reshape(-1, 1, 1)
        scale = values.Scale(low, high)
        scaled = np.asarray(augment.scale(scale.applied(numbers)))
        np.testing.assert_allclose(scaled, (numbers.astype(np.float64) - start) / (end - start) * 2 - 1, atol=1 / 65535 + 3e-7)
        assert (scaled.min(), scaled.max()) == (-1, 1)
        restored = scale.restored(scaled, dtype)
        assert restored.dtype == dtype
        np.testing.assert_array_equal(restored, numbers)


def test_unsigned_types_without_a_range_are_unchanged():
    for dtype in (np.uint8, np.uint16):
        image = RNG.integers(0, 255, (4, 4, 3)).astype(dtype)
        assert values.BY_TYPE.applied(image) is image


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1000, 3000), (273.15, 274.15), (-1e-6, 1e-6), (0, 1e9)])
def test_floats_survive(low, high):
    image = RNG.uniform(low, high, (300, 5, 2)).astype(np.float32)
    scale = values.Scale(low, high)
    scaled = np.asarray(augment.scale(scale.applied(image)))
    np.testing.assert_allclose(scaled, (image.astype(np.float64) - low) / (high - low) * 2 - 1, atol=1e-7)
    restored = scale.restored(scaled, "float32")
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, image, atol=1e-7 * (high - low), rtol=1e-6 * (abs(low) < high - low))


def test_values_outside_are_clipped_and_counted():
    image = np.array([-3, 0, 10, 11, 12], np.int16).reshape(5, 1, 1)
    scale = values.Scale(0.0, 10.0, "data.input_range")
    with values.counting() as counts:
        scaled = scale.applied(image)
        scale.applied(image[1:3])
    assert counts == {"data.input_range=0,10": (3, 5)}, "images without such values are not counted"
    np.testing.assert_array_equal(scaled.ravel(), [0, 0, 65535, 65535, 65535])
    np.testing.assert_array_equal(scale.applied(image.astype(np.float32)).ravel(), [-1, -1, 1, 1, 1])
    np.testing.assert_array_equal(scale.restored(np.array([-2, 0, 3], np.float32), "int16"), [0, 5, 10])
    assert values.Scale(-5, 300).restored(np.array([-1, 1], np.float32), "uint8").tolist() == [0, 255]


def test_the_limits_are_rounded_as_the_samples_are():
    """0.1 as float32 is larger than 0.1: it is not outside of a range that ends there."""
    assert not values.Scale(0, 0.1).outside(np.full((1, 1, 1), 0.1, np.float32))


@pytest.mark.parametrize("text", ["", "0", "1,0", "1,1", "0,nan", "0,inf", "a,b", "0,1,2", "0;1"])
@pytest.mark.parametrize("side", ["input", "target"])
def test_a_wrong_range_is_refused(text, side):
    with pytest.raises(ConfigError, match=f"^data.{side}_range is {re.escape(repr(text))}: must be auto, or LOW,HIGH in the files' units"):
        validate(override(Config(), {"data.name": "folder", f"data.{side}_range": text}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data.input_range": "0,4095"}, "data.input_range is '0,4095', but data.name 'shapes' has 8-bit images: data.input_range=auto"),
        (
            {"data.name": "folder", "data.input_labels": "8", "data.input_range": "0,8"},
            "data.input_range is '0,8', but data.input_labels has classes, not values: auto would do",
        ),
    ],
)
def test_a_range_that_does_not_apply_is_refused(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        validate(override(Config(), options))


def test_mixed_types_are_batched_as_floats():
    first, second = np.array([[[0.5, -1]]], np.float32), np.array([[[255, 0]]], np.uint8)
    batch = loader._stack([Pair(first, second), Pair(second, second)], np.arange(2))
    assert (batch.input.dtype, batch.target.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(batch.input, [[[[0.5, -1]]], [[[1, -1]]]])


def write_pairs(root: Path, a, b, count: int = 3) -> Path:
    """Pairs of TIFF or .npy files, made by functions of the index."""
    for side, make in (("A", a), ("B", b)):
        (root / side / "train").mkdir(parents=True)
        for index in range(count):
            pixels = make(index)
            if isinstance(pixels, tuple):
                np.save(root / side / "train" / f"{index}.npy", pixels[0])
            else:
                tifffile.imwrite(root / side / "train" / f"{index}.tif", pixels)
    return root


@pytest.fixture
def warned(monkeypatch):
    """The warnings so far."""
    messages = []
    monkeypatch.setattr("absl.logging.warning", lambda text, *values: messages.append(text % values))
    return messages


def twelve_bits(index: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 4096, (size, size), np.uint16)


def ct(index: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(index).uniform(-1000, 3000, (size, size)).astype(np.float32)


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config_of(root: Path, **ranges: str) -> Config:
    options = {"data.name": "folder", "data.path": str(root), "data.input_channels": 1, "data.target_channels": 1, "data.val_fraction": 0.0}
    return override(Config(), options | {f"data.{name}": text for name, text in ranges.items()})


def test_floats_need_a_range(tmp_path, cache_home):
    root = write_pairs(tmp_path / "pairs", twelve_bits, lambda i: np.full((4, 4), i / 4, np.float32))
    file = root / "B" / "train" / "0.tif"
    with pytest.raises(ImageError) as error:
        build.pairs(config_of(root), "train")
    what = "has floats from 0 to 0: set data.target_range=LOW,HIGH in the files' units"
    assert f"3 of 3 pairs cannot be used: {file}: {what} (`i2i check` prints the range of all); " in str(error.value)
    assert "\n" not in str(error.value)


def test_training_says_what_it_clips(tmp_path, cache_home, warned):
    """At every start, also when the pairs are not read again; not with a range that holds all values."""
    root = write_pairs(tmp_path / "pairs", twelve_bits, ct)
    config = config_of(root, input_range="0,4095", target_range="-900,3000")
    outside = sum(int((ct(i) < -900).sum()) for i in range(3))
    message = f"3 of 3 pairs have values outside data.target_range=-900,3000 ({outside} values): they are clipped to the range"
    for count in (1, 2):
        build.pairs(config, "train")
        assert warned == count * [message]
    pairs = build.pairs(config_of(root, input_range="0,4095", target_range="-1000,3000"), "train")
    assert len(warned) == 2
    assert pairs[0].input.dtype == np.uint16 and pairs[0].target.dtype == np.float32


def test_ranges_change_the_fingerprint_of_the_pairs(tmp_path, cache_home):
    root = write_pairs(tmp_path / "pairs", twelve_bits, twelve_bits)
    ranges = [{}, {"input_range": "0,4095"}, {"target_range": "0,4095"}, {"target_range": "0,4096"}]
    assert len({build.pairs(config_of(root, **each), "train").fingerprint for each in ranges}) == len(ranges)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_side_by_side_pairs_have_a_range_for_each_half(tmp_path, cache_home, direction):
    whole = np.concatenate([twelve_bits(0), 2 * twelve_bits(1)], 1)
    (tmp_path / "pairs").mkdir()
    np.save(tmp_path / "pairs" / "x.npy", whole)
    scales = {"input_scale": values.Scale(0, 4095), "target_scale": values.Scale(0, 8190)}
    if direction == "BtoA":
        scales = dict(zip(scales, reversed(scales.values()), strict=True))
    options = {"input_channels": 1, "target_channels": 1, "val_fraction": 0.0, "direction": direction}
    pairs = folder.pairs(tmp_path / "pairs", "train", **options, **scales)
    a, b = pairs[0] if direction == "AtoB" else pairs[0][::-1]
    for found, own in ((a, twelve_bits(0)), (b, twelve_bits(1))):
        np.testing.assert_array_equal(found[..., 0], np.rint(own / 4095 * 65535))
    assert pairs.target_type(0) == SampleType("uint16", npy=True)


def test_arrays_beside_images_are_not_used(tmp_path):
    """They never were; a folder of arrays alone is one of pairs."""
    for side in "AB":
        root = tmp_path / side
        root.mkdir()
        for name in ("x", "y"):
            np.save(root / f"{name}.npy", np.zeros((4, 4), np.uint8))
    assert [files for _, files in folder.named(tmp_path, "train", val_fraction=0.0)] == [
        tuple(tmp_path / side / f"{name}.npy" for side in "AB") for name in "xy"
    ]
    for side in "AB":
        tifffile.imwrite(tmp_path / side / "x.tif", np.zeros((4, 4), np.uint8))
    assert [name for name, _ in folder.named(tmp_path, "train", val_fraction=0.0)] == ["x"]


def test_grey_of_signed_and_float_colours(tmp_path):
    """The luma of ITU-R BT.601, as of unsigned colours."""
    colours = RNG.integers(-30_000, 30_000, (5, 6, 3)).astype(np.int16)
    expected = colours @ np.array([0.299, 0.587, 0.114])
    for dtype, tolerance in ((np.int16, 1), (np.float32, 0.5)):
        np.save(tmp_path / "x.npy", colours.astype(dtype))
        grey = images.read(tmp_path / "x.npy", channels=1)
        assert grey.dtype == dtype
        np.testing.assert_allclose(grey[..., 0], expected, atol=tolerance)


def checked(command, root: Path, *options: str) -> list[str]:
    status, out, err = command("check", str(root), *options)
    assert status == 0, err
    return [line for line in out.splitlines() if line[:2] in ("A ", "B ", "A:", "B:")]


def test_check_prints_ranges_and_histograms(tmp_path, command):
    """12 bits in 16, and floats; the printed options are those that training needs."""
    tail = [np.arange(4096), np.repeat(np.arange(512), 8)]  # uniform, and in the lowest eighth
    root = write_pairs(tmp_path / "pairs", lambda i: tail[i].reshape(64, 64).astype(np.uint16), lambda i: ct(i, 64), count=2)
    lines = checked(command, root)
    assert "A: grey of 16 bits (2)" in lines and "B: grey of 32 bits, floats (2)" in lines
    assert "A values: 0 to 4095 (uint16); in 8 equal parts of this range: 56 6 6 6 6 6 6 6 %" in lines
    part = [line for line in lines if line.startswith("B values: -9")]
    assert re.fullmatch(r"B values: -9\d\d\.\d+ to 29\d\d\.\d+ \(float32\); in 8 equal parts of this range: (1[0-5] ){8}%", part[0])
    assert (
        "A uses 6 % of its range (up to 4095 of 65535, 12 bits in 16-bit files): networks see almost only black: "
        "--config.data.input_range=0,4095 scales it to the whole range (with data.direction=BtoA: data.target_range)"
    ) in lines
    advice = next(line for line in lines if line.startswith("B has floats"))
    assert advice == (
        "B has floats, which have no range of their own: --config.data.target_range=-1000,3000 would do "
        "(with data.direction=BtoA: data.input_range)"
    )


def test_check_counts_values_outside_a_range(tmp_path, command):
    root = write_pairs(tmp_path / "pairs", lambda i: np.full((8, 8), 1000 * i + 7, np.int16), lambda i: ct(i, 8))
    lines = checked(command, root, "--input_range=0,1500", "--target_range=-1e4,1e4")
    assert "A: 64 values (33 %) in 1 pairs are outside --input_range=0,1500: training clips them to it" in lines
    assert not [line for line in lines if line.startswith("B:") and "outside" in line or " has floats" in line or " uses " in line]
    status, _, err = command("check", str(root), "--target_range=5,1")
    assert (status, err.split(" must be")[0]) == (2, "error: --target_range is '5,1':")


def test_check_names_a_narrow_range_that_is_not_at_0(tmp_path, command):
    root = write_pairs(tmp_path / "pairs", lambda i: (ct(i) / 4).astype(np.int16), lambda i: 60_000 + twelve_bits(i))
    text = "\n".join(checked(command, root))
    assert re.search(r"A uses 2 % of its range \(-2\d\d to 74\d of -32768 to 32767\): networks see almost only one grey: "
                     r"--config.data.input_range=-2\d\d,74\d scales", text)  # fmt: skip
    assert re.search(r"B uses 6 % of its range \(600\d\d to 640\d\d of 0 to 65535\): .* --config.data.target_range=600\d\d,640\d\d", text)


def test_check_of_floats_that_differ_by_one_bit(tmp_path, command):
    low = np.float32(273.15)
    high = np.nextafter(low, np.float32(300))
    root = write_pairs(tmp_path / "pairs", twelve_bits, lambda i: np.array([[low] * 16, [high] * 16] * 8, np.float32))
    lines = checked(command, root)
    assert any(
        line.startswith("B values: 273.15 to 273.15 (float32); in 8 equal parts of this range: 50 0 0 0 0 0 0 50 %") for line in lines
    )


def test_check_writes_a_sheet_of_any_type(tmp_path, command):
    root = write_pairs(tmp_path / "pairs", lambda i: ct(i).astype(np.int16), lambda i: np.zeros((16, 16), np.float32))
    assert command("check", str(root), f"--sheet={tmp_path / 'sheet.png'}")[0] == 0
    assert (tmp_path / "sheet.png").is_file()


def test_check_refuses_nan_with_the_count_and_the_file(tmp_path, command):
    root = write_pairs(tmp_path / "pairs", twelve_bits, lambda i: np.where(twelve_bits(i) < 100 * i, np.nan, 1.0))
    bad = int((twelve_bits(1) < 100).sum())
    status, out, _ = command("check", str(root))
    assert status == 1
    assert f"  {root / 'B' / 'train' / '1.tif'}: has {bad} NaN or Inf among its 256 values: must be finite numbers\n" in out


def identity(config: Config, target_type: SampleType = EIGHT_BITS) -> Model:
    """A model that returns its inputs."""
    model = Model(config, build.networks(config), TrainState(jnp.int32(0), {}, {}, {}), target_type)
    model.__dict__["translate"] = lambda state, inputs, z, key: jnp.asarray(inputs)[:, None]
    return model


def model_config(**options: str | int) -> Config:
    options = {"name": "folder", "input_channels": 1, "target_channels": 1} | options
    return override(Config(objective="pix2pix"), {f"data.{name}": value for name, value in options.items()})


def test_arrays_are_in_the_units_of_the_files():
    """Of any type; translations have the type and the units of the targets."""
    model = identity(model_config(input_range="0,4095", target_range="-1000,3000"), SampleType("float32"))
    image = twelve_bits(0)[..., None]
    for dtype in (np.uint16, np.int16, np.float32, np.float64):
        output = model(image.astype(dtype))
        assert (output.dtype, output.shape) == (np.float32, (1, 16, 16, 1))
        np.testing.assert_allclose(output[0], image * (4000 / 4095) - 1000, atol=0.05)
    np.testing.assert_allclose(model(image[None].astype(np.float64))[0, 0], image * (4000 / 4095) - 1000, atol=1e-3)


def test_floats_are_in_minus_1_to_1_without_a_range():
    for target_type, dtype in ((SampleType(), np.uint8), (SampleType("uint16"), np.uint16), (SampleType("int16"), np.int16)):
        model = identity(model_config(), target_type)
        floats = RNG.uniform(-1, 1, (4, 4, 1)).astype(np.float32)
        np.testing.assert_array_equal(model(floats)[0], floats)
        output = model(np.full((4, 4, 1), 255, np.uint8))
        assert output.dtype == dtype and (output == np.iinfo(dtype).max).all()
    model = identity(model_config(target_range="0,9"), SampleType("float32"))
    np.testing.assert_allclose(model(floats)[0], 4.5 * (floats + 1), rtol=1e-6, atol=1e-6)


def test_files_are_read_in_their_units(tmp_path):
    file = tmp_path / "x.npy"
    np.save(file, ct(0))
    model = identity(model_config(input_range="-1000,3000", target_range="-1000,3000"), SampleType("float32"))
    np.testing.assert_allclose(model([file, file])[1, 0, ..., 0], ct(0), atol=1e-3)
    with pytest.raises(ImageError, match=r"x\.npy: has floats from -9.*: set data.input_range=LOW,HIGH"):
        identity(model_config())(file)


@pytest.mark.parametrize("ranges", [{}, {"input_range": "-2,2"}])
def test_arrays_with_nan_are_refused(ranges):
    image = np.zeros((4, 4, 1))
    image[0, :2, 0] = np.nan, np.inf
    with pytest.raises(ImageError, match="^images have 2 NaN or Inf among their 16 values: must be finite numbers$"):
        identity(model_config(**ranges))(image)


def test_clipped_arrays_are_named(warned):
    identity(model_config(input_range="0,10"))(np.full((2, 2, 1), 11, np.uint8))
    assert warned == ["images have values outside data.input_range=0,10 (4 of 4): they are clipped to the range"]


def test_the_studio_shows_the_range_as_8_bits(tmp_path):
    """An upload's range becomes 0 to 255, which the model takes in its files' units."""
    config = model_config(input_range="0,4095", target_range="-1000,3000", crop_size=64)
    np.save(tmp_path / "x.npy", np.tile(np.array([0, 4095], np.uint16), (64, 32)))
    picture = session.read(tmp_path / "x.npy", values.of_config(config.data, "input"))
    np.testing.assert_array_equal(picture, np.tile(np.array([0, 255], np.uint8)[None, :, None], (64, 32, 3)))
    sample = session.translated(identity(config, SampleType("float32")), picture, np.zeros(0, np.float32))
    np.testing.assert_array_equal(sample, picture)


def test_films_have_other_units(tmp_path, command):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(to_json(model_config(input_range="0,4095")))
    (tmp_path / "film.mp4").write_bytes(b"")
    status, _, err = command("translate", f"--run={tmp_path / 'run'}", f"--input={tmp_path / 'film.mp4'}", f"--output={tmp_path / 'o.mp4'}")
    message = "the run has data.input_range=0,4095, but frames have 8 bits: translate a folder of images in these units"
    assert (status, err) == (2, f"error: --input: {message}\n")


def test_class_ids_in_arrays(tmp_path):
    ids = RNG.integers(0, 3, (4, 5)).astype(np.uint8)
    np.save(tmp_path / "x.npy", ids)
    one_hot = images.read(tmp_path / "x.npy", channels=3, labels=Labels(((0, 0, 0),) * 3, by_id=True))
    np.testing.assert_array_equal(one_hot, 255 * np.eye(3, dtype=np.uint8)[ids])
    np.save(tmp_path / "x.npy", ids.astype(np.float32))
    with pytest.raises(ImageError, match=r"has signed samples or floats: class ids \(data.input_labels=3\) are read from grey"):
        images.read(tmp_path / "x.npy", channels=3, labels=Labels(((0, 0, 0),) * 3, by_id=True))


def test_packed_models_keep_ranges_and_types(tmp_path):
    config = model_config(input_range="0,4095", target_range="-1000,3000")
    state = {"params": {"a": np.zeros(1, np.float32)}}
    for target_type in (SampleType(), SampleType("uint16"), SampleType("int16", npy=True), SampleType("float32")):
        (tmp_path / "model").write_bytes(packed.to_bytes(config, {}, state, target_type=target_type))
        assert build.target_type(tmp_path / "model") == target_type
        data = build.read_config(tmp_path / "model").data
        assert (data.input_range, data.target_range) == ("0,4095", "-1000,3000")


def test_cards_say_the_range_in_files():
    config = model_config(input_range="0,4095")
    card = model_card.card(config, build.networks(config), TrainState(jnp.int32(0), {}, {}, {}))
    assert card["input"] == {"channels": 1, "range": [-1, 1], "range_in_files": [0, 4095]}
    assert card["output"] == {"channels": 1, "range": [-1, 1]}
    assert "with values from 0 to 4095" in model_card._page(card, "hf://x/y")


def test_old_configs_have_no_range():
    assert (DataConfig().input_range, DataConfig().target_range) == ("auto", "auto")


@pytest.mark.slow
def test_a_run_from_12_bits_to_floats(tmp_path, cache_home, command, shallow, warned):
    """Training, translate, pack, the API and evaluate agree on types and units; a folder of outputs is evaluated with --range."""
    root = write_pairs(tmp_path / "pairs", twelve_bits, lambda i: (ct(i),), count=4)
    ranges = {"data.input_range": "0,4095", "data.target_range": "-1000,3000"}
    options = {"data.input_channels": 1, "data.target_channels": 1, "data.val_fraction": 0.25} | ranges
    run = tmp_path / "run"
    runs.train(shallow("pix2pix", root, options, dataset="folder"), run)
    record = json.loads((run / "pairs.json").read_text())
    assert (record["target_type"], record["target_npy"]) == ("float32", True) and "target_bits" not in record
    source = root / "A" / "train"

    def translated(run: Path, to: str, *options: str) -> np.ndarray:
        status, out, err = command("translate", f"--run={run}", f"--input={source}", f"--output={tmp_path / to}", *options)
        assert status == 0, err
        return np.stack([np.load(tmp_path / to / f"{i}.npy") for i in range(4)])

    outputs = translated(run, "out")
    assert outputs.dtype == np.float32 and outputs.min() >= -1000 and outputs.max() <= 3000 and outputs.std() > 1
    model = load(run)
    for index in range(2):
        np.testing.assert_allclose(model(source / f"{index}.tif", seed=0)[0, ..., 0], outputs[index], atol=0.2)
    status, _, err = command("pack", f"--run={run}", f"--out={tmp_path / 'model.safetensors'}")
    assert status == 0, err
    np.testing.assert_array_equal(translated(tmp_path / "model.safetensors", "by packed"), outputs)
    status, out, err = command("evaluate", f"--run={run}", "--metrics=l1", "--split=all")
    assert status == 0, err
    expected = np.mean([np.abs(outputs[i] - ct(i)).mean() / 4000 for i in range(2)])  # eval.inputs
    assert abs(json.loads(next((run / "evaluation").glob("*.json")).read_text())["figures"]["l1"] - expected) < 0.003, out
    folders = [f"--real={root / 'B' / 'train'}", f"--fake={tmp_path / 'out'}", "--metrics=l1"]
    status, out, err = command("evaluate", *folders, "--range=-1000,3000", f"--output={tmp_path / 'report'}")
    assert status == 0, err
    figures = json.loads((tmp_path / "report" / "evaluation.json").read_text())["figures"]
    assert abs(figures["l1"] - np.mean([np.abs(outputs[i] - ct(i)).mean() / 4000 for i in range(4)])) < 1e-5
    command("evaluate", *folders, "--range=-500,3000")
    count = sum(int((image < -500).sum()) for i in range(4) for image in (ct(i), outputs[i]))
    assert [message for message in warned if "--range" in message][0].startswith(
        f"images have values outside --range=-500,3000 ({count} of"
    )
    assert "set --range=LOW,HIGH" in command("evaluate", *folders)[2]

    clipped = tmp_path / "clipped" / "x.tif"
    clipped.parent.mkdir()
    tifffile.imwrite(clipped, np.full((16, 16), 5000, np.uint16))
    status, out, err = command("translate", f"--run={run}", f"--input={clipped}", f"--output={tmp_path / 'o'}")
    assert f"1 of 1 inputs have values outside data.input_range=0,4095, which were clipped to it: {clipped} 256 of 256\n" in out
    tifffile.imwrite(clipped, np.full((16, 16), np.nan, np.float32))
    status, _, err = command("translate", f"--run={run}", f"--input={clipped}", f"--output={tmp_path / 'p'}")
    assert (status, err) == (1, f"error: {clipped}: has 256 NaN or Inf among its 256 values: must be finite numbers\n")
