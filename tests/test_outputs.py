"""Images that any model wrote, matched with the real ones by name, and errors for those that do not match."""

import re

import numpy as np
import pytest
from PIL import Image

from i2i_jax.data import outputs
from i2i_jax.data.folder import FolderError
from i2i_jax.data.images import ImageError
from i2i_jax.data.outputs import Output


def image(path, *, width=8, height=6, seed=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels.astype(np.uint16) * 257 if mode == "I" else pixels).save(path)
    return path


@pytest.fixture
def folders(tmp_path):
    """Returns a function that makes the folders `real` and `fake`, with images of the given stems."""

    def make(reals, fakes):
        for folder, stems in (("real", reals), ("fake", fakes)):
            for stem in stems:
                image(tmp_path / folder / f"{stem}.png")
        return tmp_path / "real", tmp_path / "fake"

    return make


def names(matched: list[Output]) -> dict[str, list[str]]:
    assert all(output.real.stem == output.name for output in matched)
    return {output.name: [fake.stem for fake in output.fakes] for output in matched}


@pytest.mark.parametrize(
    ("reals", "fakes", "expected"),
    [
        (["a", "b"], ["a", "b"], {"a": ["a"], "b": ["b"]}),
        (["1", "10"], ["10_fake_B", "1_fake_B"], {"1": ["1_fake_B"], "10": ["10_fake_B"]}),
        (["a"], ["a_001", "a_002"], {"a": ["a_001", "a_002"]}),
        (["a", "a_b"], ["a_1", "a_b_1"], {"a": ["a_1"], "a_b": ["a_b_1"]}),
        (["a", "a_1"], ["a_1"], {"a_1": ["a_1"]}),
        (["a", "b", "c"], ["b"], {"b": ["b"]}),
        (["_", "_a"], ["_a_1"], {"_a": ["_a_1"]}),
    ],
    ids=["same", "suffix", "samples", "longest name first", "whole name first", "others left out", "leading underscore"],
)
def test_outputs_are_matched_by_name(folders, reals, fakes, expected):
    assert names(outputs.matched(*folders(reals, fakes))) == expected


@pytest.mark.parametrize(
    ("reals", "fakes", "message"),
    [
        (["a"], ["a", "b"], r"fake/b\.png: no image in .*real has its name, or its name up to a '_'$"),
        (["a"], ["ab_1"], r"fake/ab_1\.png: no image in "),
        (["a", "b"], ["a_1", "a_2", "b_1"], r"fake: 2 images of 'a' but 1 of 'b': must be as many of each$"),
        ([], ["a"], r"real: no such folder$"),
        (["a"], [], r"fake: no such folder$"),
    ],
)
def test_names_that_do_not_match(folders, reals, fakes, message):
    with pytest.raises(FolderError, match=message):
        outputs.matched(*folders(reals, fakes))


def test_other_files_are_no_images(folders):
    real, fake = folders(["a"], ["a"])
    (fake / "index.html").touch()
    (fake / ".b.png").touch()
    assert outputs.files(fake) == [fake / "a.png"]
    (fake / "a.png").unlink()
    with pytest.raises(FolderError, match="fake: has no image files"):
        outputs.matched(real, fake)


def test_pairs_as_they_are_stored(tmp_path):
    fakes = tuple(image(tmp_path / f"{i}.png", seed=i) for i in range(2))
    real = image(tmp_path / "real.png", seed=9)
    images = outputs.read(Output("real", real, fakes), direction=None)
    assert images.input is None
    np.testing.assert_array_equal(images.target, np.asarray(Image.open(real)))
    np.testing.assert_array_equal(images.samples, [np.asarray(Image.open(fake)) for fake in fakes])


def test_halves(tmp_path):
    output = Output("real", image(tmp_path / "real.png", width=16), (image(tmp_path / "fake.png"),))
    whole = np.asarray(Image.open(output.real))
    for direction, (first, second) in (("AtoB", (whole[:, :8], whole[:, 8:])), ("BtoA", (whole[:, 8:], whole[:, :8]))):
        images = outputs.read(output, direction=direction)
        np.testing.assert_array_equal(images.input, first)
        np.testing.assert_array_equal(images.target, second)
    message = "real.png is 16x6, its output 8x6: say which half is real, --direction=AtoB for the right one, BtoA for the left"
    with pytest.raises(FolderError, match=f"{message}$"):
        outputs.read(output, direction=None)


def test_grey_and_deep_stay_what_they_are(tmp_path):
    """A 16-bit target may have 8-bit outputs: each is scaled by its own dtype."""
    images = outputs.read(Output("x", image(tmp_path / "real.png", mode="I"), (image(tmp_path / "fake.png", mode="L"),)), direction=None)
    assert (images.target.dtype, images.samples.dtype) == (np.uint16, np.uint8)
    assert images.samples.shape == (1, *images.target.shape) == (1, 6, 8, 1)
    np.testing.assert_array_equal(images.target, images.samples[0].astype(np.uint16) * 257)


def test_what_does_not_fit_is_named(tmp_path):
    real, grey, wide = (image(tmp_path / f"{name}.png", **kinds) for name, kinds in
                        {"real": {}, "grey": {"mode": "L"}, "wide": {"width": 9}}.items())  # fmt: skip
    deep, side_by_side = image(tmp_path / "deep.png", mode="I"), image(tmp_path / "pair.png", width=16)
    (tmp_path / "text.png").write_text("no image")
    for direction, files, error, message in (
        (None, (real, real, grey), FolderError, "real.png is 8x6, colour but {}/grey.png is 8x6, grey: must be the same"),
        (None, (real, wide), FolderError, "real.png is 8x6, colour but {}/wide.png is 9x6, colour: must be the same"),
        (None, (grey, grey, deep), FolderError, "grey.png has uint8 samples but {}/deep.png uint16: must be the same"),
        ("AtoB", (side_by_side, wide), FolderError, "half of {}/pair.png is 8x6, colour but {}/wide.png is 9x6, colour: must be the same"),
        ("AtoB", (real, real), FolderError, "half of {}/real.png is 4x6, colour but {}/real.png is 8x6, colour: must be the same"),
        ("AtoB", (wide, real), FolderError, "wide.png: is 9 pixels wide: a side-by-side pair must have an even width"),
        (None, (real, tmp_path / "text.png"), ImageError, "text.png: is not an image"),
    ):
        with pytest.raises(error, match=f"{re.escape(message.format(tmp_path, tmp_path))}$"):
            outputs.read(Output("x", files[0], files[1:]), direction=direction)
