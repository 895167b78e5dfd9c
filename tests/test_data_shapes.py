"""The embedded dataset: the same pixels on every machine, and the possible targets of each input."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from i2i_jax.data import shapes


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    original, shapes.SPLITS = shapes.SPLITS, {"train": 12, "val": 5, "test": 4}
    yield folder
    shapes.SPLITS = original


def as_rgb(outline):
    return np.stack([outline] * 3, -1)


def target(split, index):
    outline, material = shapes.example(split, index)
    return shapes.render(shapes.coverage(outline), material)


def test_pixels_are_the_same_everywhere():
    digest = hashlib.sha256()
    for split in shapes.SPLITS:
        for index in range(4):
            digest.update(shapes.example(split, index)[0].tobytes() + target(split, index).tobytes())
    assert digest.hexdigest() == "433300531ac5e4220020c7ea168614f0af44a2b2d41e999048c19685235b5fa0"


def test_an_example_does_not_depend_on_those_before_it():
    first = shapes.example("val", 3)[0]
    shapes.example("train", 0)
    np.testing.assert_array_equal(shapes.example("val", 3)[0], first)


def test_splits_share_no_example():
    outlines = {shapes.example(split, index)[0].tobytes() for split in shapes.SPLITS for index in range(20)}
    assert len(outlines) == 20 * len(shapes.SPLITS)


@pytest.mark.parametrize("index", range(20))
def test_coverage_is_that_of_the_polygon_behind_the_outline(index):
    corners = shapes._corners(np.random.RandomState([0, index]))
    step = shapes.SUPERSAMPLE
    inside = shapes._rasterize(corners * step, shapes.SIZE * step)
    expected = (255 * inside.reshape(shapes.SIZE, step, shapes.SIZE, step).sum((1, 3)) + step**2 // 2) // step**2
    np.testing.assert_array_equal(shapes.coverage(shapes.example("train", index)[0]), expected)


def test_rasterize_fills_the_area_that_the_shoelace_formula_gives():
    corners = shapes._corners(np.random.RandomState(7)) * 8
    x, y = corners.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert shapes._rasterize(corners, 8 * shapes.SIZE).sum() == pytest.approx(area, rel=1e-3)


def test_no_shape_is_small_or_touches_the_border():
    for index in range(100):
        covered = shapes.coverage(shapes.example("val", index)[0]) > 127
        assert covered.sum() > 400
        assert not covered[[0, -1]].any() and not covered[:, [0, -1]].any()


def test_materials_are_drawn_uniformly_and_independently_of_the_shape():
    materials = np.array([shapes.example("train", index)[1] for index in range(300)])
    counts = np.bincount(materials, minlength=len(shapes.MATERIALS))
    assert counts.size == len(shapes.MATERIALS)
    expected = 300 / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < 20.5  # chi-squared, 5 degrees of freedom, p = 0.001


def test_the_target_is_one_of_the_modes_of_its_input():
    for index in range(10):
        outline, material = shapes.example("test", index)
        np.testing.assert_array_equal(shapes.modes(as_rgb(outline))[0][material], target("test", index))


def test_the_modes_of_a_mirrored_input_are_the_mirrored_modes():
    outline = as_rgb(shapes.example("train", 0)[0])
    renderings, mask = shapes.modes(outline)
    mirrored, mirrored_mask = shapes.modes(outline[:, ::-1])
    np.testing.assert_array_equal(mirrored, renderings[:, :, ::-1])
    np.testing.assert_array_equal(mirrored_mask, mask[:, ::-1])


@pytest.mark.parametrize("size", [48, 72, 128])
def test_modes_of_a_resized_input_are_nearly_the_resized_modes(size):
    def resize(image):
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))

    outline = as_rgb(shapes.example("train", 1)[0])
    renderings, mask = shapes.modes(resize(outline))
    expected = np.stack([resize(mode) for mode in shapes.modes(outline)[0]])
    assert np.abs(renderings.astype(float) - expected)[:, mask].mean() / 127.5 < 0.05


def test_modes_are_far_apart():
    renderings, mask = shapes.modes(as_rgb(shapes.example("train", 0)[0]))
    inside = renderings[:, mask] / 127.5
    apart = np.abs(inside[:, None] - inside[None]).mean((2, 3))
    assert apart[~np.eye(len(inside), dtype=bool)].min() > 0.4


def test_an_open_outline_has_no_mask():
    assert not shapes.modes(np.full((64, 64, 3), 255, np.uint8))[1].any()


def test_prepared_pairs_are_the_examples(data_dir):
    pairs = shapes.pairs("val", data_dir)
    assert len(pairs) == 5
    assert pairs.name(2) == "val_0002"
    np.testing.assert_array_equal(pairs[2].input, as_rgb(shapes.example("val", 2)[0]))
    np.testing.assert_array_equal(pairs[2].target, target("val", 2))


def test_prepared_pairs_are_read_as_asked(data_dir):
    pairs = shapes.pairs("train", data_dir, direction="BtoA", target_channels=1, max_pairs=3)
    assert len(pairs) == 3
    np.testing.assert_array_equal(pairs[1].input, target("train", 1))
    np.testing.assert_array_equal(pairs[1].target[:, :, 0], shapes.example("train", 1)[0])


def test_an_unknown_split_is_named_with_those_there_are(data_dir):
    with pytest.raises(ValueError, match="unknown split 'tset' of shapes: one of train, val, test"):
        shapes.pairs("tset", data_dir)


def test_an_interrupted_preparation_leaves_nothing_that_is_taken_for_a_set(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLITS", {"train": 4, "val": 2})
    make, calls = shapes.Shapes._generate_examples, []

    def interrupted(self, split):
        for index, record in make(self, split):
            if len(calls) == 3:
                raise KeyboardInterrupt
            calls.append(index)
            yield index, record

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(shapes.Shapes, "_generate_examples", interrupted)
        shapes.pairs("train", tmp_path)
    assert len(shapes.pairs("train", tmp_path)) == 4


def test_a_set_that_another_run_prepares_meanwhile_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLITS", {"train": 4, "val": 2})
    make, others = shapes.Shapes._generate_examples, []

    def overtaken(self, split):
        if not others:
            others.append("another run")
            others.append(shapes.pairs("val", tmp_path))
        yield from make(self, split)

    monkeypatch.setattr(shapes.Shapes, "_generate_examples", overtaken)
    assert len(shapes.pairs("train", tmp_path)) == 4
    assert len(others[1]) == 2


def test_a_set_that_is_not_there_and_may_not_be_prepared(tmp_path):
    with pytest.raises(ValueError, match="the dataset is not prepared"):
        shapes.pairs("train", tmp_path, prepare=False)
    assert not list(tmp_path.rglob("*.array_record*"))


def test_sets_are_kept_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLITS", {"train": 4, "val": 2})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shapes.pairs("train")
    assert (tmp_path / "i2i_jax" / "shapes").is_dir()


def test_png_files_hold_side_by_side_pairs(data_dir):
    encoded = shapes.pairs("val", data_dir).load(0)
    assert isinstance(encoded, bytes)
    with Image.open(io.BytesIO(encoded)) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (128, 64), "RGB")
