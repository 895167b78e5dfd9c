"""Property tests of configs, names of pairs, tiles, padding and rows of metrics."""

import json
import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from i2i_jax import config as configs
from i2i_jax import sampling
from i2i_jax.config import Config, ConfigError
from i2i_jax.data import folder
from i2i_jax.inference import tiling
from i2i_jax.storage.metrics_file import as_json, keep_until, parse_row

few = settings(max_examples=40, deadline=None, derandomize=True, database=None)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))
NAMES = list(configs.flatten(Config()))


def within(name: str):
    low, high = configs.OPTIONS[name].low, configs.OPTIONS[name].high
    default = configs.flatten(Config())[name]
    if isinstance(default, float):
        return st.floats(low, high, allow_infinity=False, allow_nan=False)
    return st.integers(low, high)


BOUNDED = {name: within(name) for name, option in configs.OPTIONS.items() if option.low is not None}
CHOSEN = {name: st.sampled_from(option.choices) for name, option in configs.OPTIONS.items() if option.choices}
OPTIONS = st.fixed_dictionaries({}, optional=BOUNDED | CHOSEN)


@pytest.mark.slow
@few
@given(OPTIONS, st.text(), st.booleans())
def test_a_config_is_its_json(options, path, flag):
    config = configs.override(Config(), options | {"data.path": path, "data.skip_bad": flag})
    text = configs.to_json(config)
    assert configs._from_dict(Config, json.loads(text)) == config
    try:
        configs.validate(config)
    except ConfigError as error:
        assert "\n" not in str(error)
        with pytest.raises(ConfigError):
            configs.from_json(text)
    else:
        assert configs.from_json(text) == config
        assert configs.changed(config, configs.from_json(text)) == {}


@few
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4), JSON, st.text())
def test_any_json_is_a_config_or_refused_in_one_line(values, anything, text):
    nested: dict = {}
    for name, value in values.items():
        *sections, option = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[option] = value
    for candidate in (json.dumps(nested), json.dumps(anything), text):
        assert_config_or_refused(candidate)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"train": ' * 5_000, f'{{"train": {{"seed": {"9" * 5_000}}}}}'], ids=["[[[", "{{{", "9"])
def test_json_that_is_too_much(text):
    assert_config_or_refused(text)


def assert_config_or_refused(text: str) -> None:
    try:
        assert isinstance(configs.from_json(text), Config)
    except ConfigError as error:
        assert str(error) and "\n" not in str(error)


STEMS = st.sets(st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda stem: not stem.startswith(".") and len(stem.encode()) < 200), min_size=2, max_size=6)  # fmt: skip


@pytest.fixture(scope="module")
def pixel(tmp_path_factory):
    path = tmp_path_factory.mktemp("pixel") / "one.png"
    Image.new("RGB", (1, 1)).save(path)
    return path


@pytest.mark.skipif(sys.platform == "darwin", reason="file names that differ in case or Unicode normalization may be one file")
@settings(few, max_examples=25)
@given(STEMS, STEMS, st.floats(0.01, 0.5))
def test_names_make_pairs_or_are_named(tmp_path_factory, pixel, a, b, fraction):
    root = tmp_path_factory.mktemp("pairs")
    for side, stems in (("A", a), ("B", b)):
        (root / side).mkdir()
        for stem in stems:
            (root / side / f"{stem}.png").hardlink_to(pixel)
    found = {side: set(folder.by_stem(root / side)) for side in "AB"}
    splits = {}
    for split in ("train", "val"):
        try:
            splits[split] = [files[0].stem for files in folder.files(root, split, val_fraction=fraction)]
        except folder.FolderError as error:
            assert found["A"] != found["B"]
            assert repr(min(found["A"] ^ found["B"])) in str(error)
    if splits:
        assert found["A"] == found["B"]
        assert sorted(splits["train"] + splits["val"]) == sorted(found["A"])
        assert splits["train"] and splits["val"]


@few
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 2, 8]), st.none() | st.integers(0, 4), st.integers(1, 40))
def test_tiles_make_the_image_that_they_were_cut_from(height, width, multiple, reach, tile):
    try:
        grid = tiling.grid(height, width, size_multiple=multiple, receptive_radius=reach, tile=tile)
    except ConfigError:
        assert tile % multiple or tile <= 2 * (reach or 0) + multiple + max(1, tile // 4)
        return
    image = np.arange(height * width, dtype=np.uint16).reshape(height, width, 1)
    tiles = [cut[None].astype(np.float32) for cut in tiling.cut(image, grid)]
    np.testing.assert_allclose(np.concatenate(list(tiling.blend(tiles, grid)), 1)[0], image, atol=1e-2)


@settings(few, max_examples=8)  # each example compiles
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 64))
def test_padding_is_cropped_back_and_holds_nothing_new(height, width, multiple):
    image = jnp.arange(height * width, dtype=jnp.float32).reshape(1, height, width, 1)
    padded = sampling.pad_to_multiple(image, multiple)
    assert padded.shape[1] % multiple == padded.shape[2] % multiple == 0
    assert padded.shape[1] - height < multiple and padded.shape[2] - width < multiple
    np.testing.assert_array_equal(padded[:, :height, :width], image)
    assert set(np.unique(padded)) == set(np.unique(image))


@few
@given(st.lists(st.integers(1, 20) | st.binary(max_size=20), max_size=12), st.integers(0, 20))
def test_rows_after_a_step_and_torn_ones_go(tmp_path_factory, lines, step):
    metrics = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    whole = [b'{"step": %d}' % line if isinstance(line, int) else line for line in lines]
    metrics.write_bytes(b"\n".join(whole))
    keep_until(metrics, step)
    kept = [row["step"] for row in map(parse_row, metrics.read_bytes().splitlines()) if row]
    assert [line for line in lines if isinstance(line, int) and line <= step] == [s for s in kept if s in lines]


@few
@given(st.floats())
def test_any_number_survives_json(value):
    back = float(json.loads(json.dumps(as_json(value), allow_nan=False)))
    assert back == value or (math.isnan(back) and math.isnan(value))
