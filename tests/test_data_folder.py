"""The user's own files: layouts, splits, and a one-line error for everything that can be wrong with them."""

import numpy as np
import pytest
from PIL import Image

from i2i_jax.data import folder
from i2i_jax.data.images import ImageError


def save(path, width=8, height=6, colour=(200, 100, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)


def save_side_by_side(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    both = np.concatenate([np.full((4, 4, 3), number, np.uint8), np.full((4, 4, 3), 100 + number, np.uint8)], 1)
    Image.fromarray(both).save(path)


def save_two(a, b, number):
    save(a, colour=(number,) * 3)
    save(b, colour=(100 + number,) * 3)


def contents(pairs):
    """Name to the values of input and target."""
    return {pairs.name(i): (int(pairs[i].input[0, 0, 0]), int(pairs[i].target[0, 0, 0])) for i in range(len(pairs))}


LAYOUTS = {
    "splits of side-by-side files": lambda root, split, i: save_side_by_side(root / split / f"{i}.png", i),
    "trainA and trainB": lambda root, split, i: save_two(root / f"{split}A" / f"{i}.png", root / f"{split}B" / f"{i}.png", i),
    "A/train and B/train": lambda root, split, i: save_two(root / "A" / split / f"{i}.png", root / "B" / split / f"{i}.bmp", i),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_with_splits(tmp_path, layout):
    for number, split in enumerate(["train", "train", "val", "test"]):
        LAYOUTS[layout](tmp_path, split, number)
    assert contents(folder.pairs(tmp_path, "train")) == {"0": (0, 100), "1": (1, 101)}
    assert contents(folder.pairs(tmp_path, "val")) == {"2": (2, 102)}
    assert contents(folder.pairs(tmp_path, "test", direction="BtoA")) == {"3": (103, 3)}


def flat_side_by_side(root, i):
    save_side_by_side(root / f"{i:02d}.png", i)


def flat_two(root, i):
    save_two(root / "A" / f"{i:02d}.png", root / "B" / f"{i:02d}.png", i)


@pytest.mark.parametrize("save_pair", [flat_side_by_side, flat_two])
def test_val_is_held_out_of_train_and_serves_as_test(tmp_path, save_pair):
    for number in range(20):
        save_pair(tmp_path, number)
    train, val, test = (contents(folder.pairs(tmp_path, split)) for split in folder.SPLITS)
    assert len(val) == 2
    assert val == test
    assert train | val == {f"{i:02d}": (i, 100 + i) for i in range(20)}
    assert not set(train) & set(val)


def test_what_is_held_out_depends_on_names_only(tmp_path):
    for number in range(20):
        flat_side_by_side(tmp_path / "one", number)
        flat_two(tmp_path / "two", 19 - number)
    held_out = [set(contents(folder.pairs(tmp_path / where, "val"))) for where in ("one", "two")]
    assert held_out[0] == held_out[1]


def test_the_share_held_out_is_at_least_one_pair_and_never_all(tmp_path):
    for number in range(3):
        flat_side_by_side(tmp_path, number)
    sizes = {f: [len(folder.pairs(tmp_path, split, val_fraction=f)) for split in ("train", "val")] for f in (0.01, 0.5, 0.99)}
    assert sizes == {0.01: [2, 1], 0.5: [1, 2], 0.99: [1, 2]}
    assert len(folder.pairs(tmp_path, "train", val_fraction=0.0)) == 3


def test_at_most_max_pairs(tmp_path):
    for number in range(20):
        flat_side_by_side(tmp_path, number)
    every = contents(folder.pairs(tmp_path, "train"))
    assert contents(folder.pairs(tmp_path, "train", max_pairs=5)) == dict(list(every.items())[:5])


def test_channels_go_with_the_direction(tmp_path):
    flat_two(tmp_path, 1)
    flat_two(tmp_path, 2)
    for direction in ("AtoB", "BtoA"):
        pair = folder.pairs(tmp_path, "train", direction=direction, input_channels=1)[0]
        assert (pair.input.shape, pair.target.shape) == ((6, 8, 1), (6, 8, 3))


def test_side_by_side_halves_may_differ_in_channels(tmp_path):
    for number in range(2):
        flat_side_by_side(tmp_path, number)
    pair = folder.pairs(tmp_path, "train", target_channels=1)[0]
    assert (pair.input.shape, pair.target.shape) == ((4, 4, 3), (4, 4, 1))


def test_hidden_and_other_files_are_ignored(tmp_path):
    LAYOUTS["splits of side-by-side files"](tmp_path, "val", 1)
    (tmp_path / "val" / "notes.txt").write_text("x")
    (tmp_path / "val" / "._1.png").write_text("x")
    (tmp_path / "val" / "Thumbs.db").write_text("x")
    assert len(folder.pairs(tmp_path, "val")) == 1


def test_extensions_in_capitals(tmp_path):
    save(tmp_path / "val" / "x.JPG")
    assert contents(folder.pairs(tmp_path, "val")).keys() == {"x"}


def reason(path, split="train", **options):
    with pytest.raises((folder.FolderError, ImageError)) as error:
        folder.pairs(path, split, **options)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(path), "ROOT")


def test_no_such_folder(tmp_path):
    assert reason(tmp_path / "x") == "ROOT: no such folder"


def test_a_file_is_no_folder(tmp_path):
    save(tmp_path / "x.png")
    assert reason(tmp_path / "x.png") == "ROOT: no such folder"


def test_no_images(tmp_path):
    assert reason(tmp_path).startswith("ROOT: has no image files (.png, .jpg")


def test_one_of_two_folders_is_missing(tmp_path):
    save(tmp_path / "A" / "x.png")
    assert reason(tmp_path) == "ROOT/B: no such folder, though ROOT/A exists"


def test_unpaired_names(tmp_path):
    flat_two(tmp_path, 1)
    for number in range(5):
        save(tmp_path / "A" / f"alone{number}.png")
    expected = "ROOT/A and ROOT/B: 'alone0', 'alone1', 'alone2' and 2 more in one folder only (5 of 6 names)"
    assert reason(tmp_path) == expected


def test_a_name_twice(tmp_path):
    save(tmp_path / "x.png")
    save(tmp_path / "x.jpg")
    save(tmp_path / "y.jpg")
    assert reason(tmp_path) == "ROOT: 'x' found more than once, with different extensions (1 names)"


def test_sizes_that_differ_within_a_pair(tmp_path):
    save(tmp_path / "trainA" / "x.png", 8, 6)
    save(tmp_path / "trainB" / "x.png", 8, 7)
    save(tmp_path / "valA" / "y.png")
    save(tmp_path / "valB" / "y.png")
    expected = "1 of 1 pairs cannot be used: ROOT/trainA/x.png is 8x6 but ROOT/trainB/x.png is 8x7: must be of one size"
    assert reason(tmp_path) == expected


def test_odd_width(tmp_path):
    save(tmp_path / "test" / "x.png", width=7)
    assert "ROOT/test/x.png: is 7 pixels wide" in reason(tmp_path, "test")


def test_all_bad_files_are_named_at_once(tmp_path):
    for number in range(6):
        save(tmp_path / "val" / f"{number}.png")
    for number in range(1, 6):
        (tmp_path / "val" / f"{number}.png").write_bytes(b"" if number == 1 else b"text")
    others = "".join(f"; ROOT/val/{number}.png: is not an image" for number in range(2, 6))
    expected = f"5 of 6 pairs cannot be used: ROOT/val/1.png: is an empty file{others}; data.skip_bad=True leaves out what cannot be used"
    assert reason(tmp_path, "val") == expected


def test_too_many_pixels_and_wrong_channels_are_found_before_training(tmp_path):
    save(tmp_path / "val" / "x.png")
    assert "x.png: is 8x6: 48 pixels, more than max_pixels=47 allows" in reason(tmp_path, "val", max_pixels=47)
    assert "x.png: has 3 channels: must have 5" in reason(tmp_path, "val", input_channels=5)


def test_a_missing_split_and_no_train_to_take_it_from(tmp_path):
    save(tmp_path / "test" / "x.png")
    assert reason(tmp_path, "val") == "ROOT: has no val split and no train split, only test"


def test_nothing_can_be_held_out_of_one_pair(tmp_path):
    save(tmp_path / "x.png")
    assert "holds out none" in reason(tmp_path, "val")
    assert len(folder.pairs(tmp_path, "train")) == 1


def test_an_unknown_split(tmp_path):
    save(tmp_path / "x.png")
    assert reason(tmp_path, "tset") == "unknown split 'tset': one of train, val, test"


def test_real_facades(shared):
    path = shared / "data" / "facades"
    splits = {split: folder.pairs(path, split, direction="BtoA") for split in folder.SPLITS}
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 360, "val": 40, "test": 106}
    photo = splits["test"][0].target
    assert photo.shape == (256, 256, 3)
    assert splits["test"][0].input.std() > photo.std()  # labels are flat colours, far apart


def test_real_maps(shared):
    sizes = [len(folder.pairs(shared / "data" / "maps", split)) for split in folder.SPLITS]
    assert sizes == [160, 40, 40]
