"""The commands `pairs`, which makes folders of pairs, and `check`, which inspects them."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

import runs
from i2i_jax.data import folder, photos


@pytest.fixture(scope="module")
def photo_dir(tmp_path_factory) -> Path:
    """30 photos: 27 crops of scikit-image's pictures, and recompressed copies of three of them."""
    path = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in ("astronaut", "chelsea", "coffee"):
        for i in range(9):
            picture = getattr(data, name)()
            top, left = random.integers(0, np.array(picture.shape[:2]) - 150)
            Image.fromarray(picture[top : top + 120, left : left + 150]).save(path / f"{name}_{i}.png")
        Image.open(path / f"{name}_0.png").save(path / f"again_{name}.jpg", quality=60)
    return path


def files(path: Path) -> dict[str, Path]:
    return {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}


def split_of(path: Path, stem: str) -> str:
    (file,) = (path / "B").glob(f"*/{stem}.*")
    return file.parent.name


def test_photos_become_pairs(command, photo_dir, tmp_path):
    output = tmp_path / "some" / "pairs"
    status, out, err = command("pairs", f"--photos={photo_dir}", "--make=grey", f"--output={output}", "--size=64")
    assert status == 0, err
    for name in ("astronaut", "chelsea", "coffee"):
        assert split_of(output, f"{name}_0") == split_of(output, f"again_{name}")
    assert "near-duplicates: 3" in out and "several splits" not in out
    for split, count in (("train", 24), ("val", 3), ("test", 3)):
        pairs = folder.pairs(output, split, input_channels=1)
        assert len(pairs) == count
        assert pairs[0].input.shape == (64, 64, 1) and pairs[0].target.shape == (64, 64, 3)
        np.testing.assert_array_equal(pairs[0].input[..., 0], photos.grey(pairs[0].target, np.random.default_rng()))
    assert [path.name for path in output.parent.iterdir()] == ["pairs"]
    command("pairs", f"--photos={photo_dir}", "--make=grey", f"--output={tmp_path / 'again'}", "--size=64")
    assert {name: file.read_bytes() for name, file in files(tmp_path / "again").items()} == {
        name: file.read_bytes() for name, file in files(output).items()
    }


def test_two_folders_become_pairs_of_their_files(command, photo_dir, tmp_path):
    (tmp_path / "sketches").mkdir()
    for file in photo_dir.iterdir():
        Image.open(file).convert("L").save(tmp_path / "sketches" / f"{file.stem}.png")
    output = tmp_path / "pairs"
    status, _, err = command("pairs", f"--inputs={tmp_path / 'sketches'}", f"--targets={photo_dir}", f"--output={output}", "--test=0")
    assert status == 0, err
    assert sorted(path.name for path in (output / "A").iterdir()) == ["train", "val"]
    targets = {file.name: file.read_bytes() for name, file in files(output).items() if name.startswith("B/")}
    assert targets == {file.name: file.read_bytes() for file in photo_dir.iterdir()}


def test_what_cannot_be_made(command, photo_dir, tmp_path):
    output = tmp_path / "pairs"
    bad = tmp_path / "bad"
    bad.mkdir()
    for file in list(photo_dir.iterdir())[:5]:
        (bad / file.name).write_bytes(file.read_bytes())
    (bad / "broken.png").write_bytes(b"no image")
    there = tmp_path / "there"
    there.mkdir()
    (there / "file").touch()
    both = "give --photos=DIR --make=TASK, or --inputs=DIR --targets=DIR"
    cases = [
        ([], 2, both),
        ([f"--photos={photo_dir}"], 2, both),
        ([f"--photos={photo_dir}", "--make=edges", f"--inputs={photo_dir}"], 2, both),
        ([f"--inputs={photo_dir}"], 2, both),
        ([f"--inputs={photo_dir}", f"--targets={photo_dir}", "--make=edges"], 2, both),
        ([f"--photos={photo_dir}", "--make=sketch"], 2, "--make"),
        ([f"--photos={tmp_path / 'none'}", "--make=edges"], 1, f"{tmp_path / 'none'}: no such folder"),
        ([f"--photos={tmp_path / 'there'}", "--make=edges"], 1, "has no image files"),
        ([f"--photos={bad}", "--make=edges"], 1, f"{bad / 'broken.png'}: is not an image"),
        ([f"--inputs={photo_dir}", f"--targets={bad}"], 1, "in one folder only"),
        ([f"--photos={photo_dir}", "--make=blur", "--size=8", f"--output={there}"], 1, f"{there} is there already"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for options, expected, message in cases:
        status, _, err = command("pairs", f"--output={output}", *options)
        assert status == expected, err
        assert err.splitlines()[-1].startswith("error: ") and message in err.splitlines()[-1]
        assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_extra_is_named(command, photo_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage.feature", None)
    status, _, err = command("pairs", f"--photos={photo_dir}", "--make=edges", f"--output={tmp_path / 'pairs'}")
    assert status == 1
    assert err.splitlines()[-1] == 'error: this needs skimage: pip install "i2i-jax[pairs]"'
    assert not list(tmp_path.iterdir())


def test_check_reports_problems(command, photo_dir, tmp_path):
    """It lists problems and near-duplicates across splits, and writes a contact sheet of the usable pairs."""
    photo_files = {file.stem: file for file in photo_dir.iterdir()}

    def save(split: str, side: str, stem: str, size=(64, 64), source: str = "") -> None:
        path = tmp_path / side / split / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(photo_files[source or stem]).convert("L" if side == "A" else "RGB").resize(size).save(path)

    for split, stems in {"train": ["chelsea_0", "coffee_1", "coffee_2", "coffee_3", "coffee_4"], "test": ["astronaut_0"]}.items():
        for stem in stems:
            save(split, "A", stem)
            save(split, "B", stem)
    status, out, _ = command("check", str(tmp_path))
    assert status == 0
    lines = out.splitlines()
    assert [line.split(": ")[0] for line in lines[:8]] == [
        "train", "size, width x height", "proportions, width / height", "  data.resize=square (the default)", "  data.resize=width",
        "  data.resize=none", "  data.resize=pad", "A",
    ]  # fmt: skip
    assert lines[:2] == ["train: 5 pairs, test: 1 pairs", "size, width x height: 64x64 (6)"]
    assert lines[7:9] == ["A: grey of 8 bits (6)", "B: colour of 8 bits (6)"]
    assert [re.sub(r"\d+ to \d+|( (\d+|<1)){8}", "", line) for line in lines[9:11]] == [
        f"{side} values:  (uint8); in 8 equal parts of this range: %" for side in "AB"
    ]
    assert lines[11:] == [
        "A is grey in all pairs: data.input_channels=1 reads it as one channel (with data.direction=BtoA: data.target_channels=1)"
    ]

    save("test", "A", "copy", source="coffee_2"), save("test", "B", "copy", source="coffee_2")
    save("train", "A", "coffee_1", size=(64, 60))
    save("train", "B", "alone", source="coffee_5")
    broken = tmp_path / "A" / "train" / "coffee_3.png"
    broken.write_bytes(broken.read_bytes()[:1000])
    sheet = tmp_path / "sheet.png"
    status, out, err = command("check", str(tmp_path), f"--sheet={sheet}")
    assert (status, err) == (1, f"error: {tmp_path}: 3 of 8 pairs cannot be used\n")
    assert "cannot be used: 3" in out
    for part in (
        f"B/train/alone.png: has no partner in {tmp_path / 'A' / 'train'}",
        f"coffee_1.png is 64x60 but {tmp_path / 'B' / 'train' / 'coffee_1.png'} is 64x64: must be of one size",
        "coffee_3.png: ",
        "near-duplicates in several splits, so that test metrics are too good: 1\n  train/coffee_2, test/copy\n",
        "64x64 (5)",
    ):
        assert part in out, out
    height, width, _ = np.asarray(Image.open(sheet)).shape
    assert width > 6 * 128 and 2 * 128 < height < 3 * 128


def test_check_of_side_by_side_files(command, tmp_path):
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 20 + i % 2, 3), np.uint8)).save(tmp_path / f"{i}.png")
    status, out, _ = command("check", str(tmp_path))
    assert status == 1
    assert "train: 3 pairs\nsize, width x height: 10x8 (2)\n" in out
    assert "1.png: is 21 pixels wide: a side-by-side pair must have an even width" in out


def test_check_takes_a_higher_limit_of_pixels(command, tmp_path):
    Image.new("RGB", (20, 8)).save(tmp_path / "a.png")
    for limit, status in ((159, 1), (160, 0)):
        code, out, _ = command("check", str(tmp_path), f"--max_pixels={limit}", f"--sheet={tmp_path / 'sheet.png'}")
        assert code == status
        assert ("a.png: is 20x8: 160 pixels, more than max_pixels=159 allows" in out) == (status == 1)
        (tmp_path / "sheet.png").unlink(missing_ok=True)


def test_check_of_what_is_no_folder_of_pairs(command, tmp_path):
    for options, expected, message in (([], 2, "name one folder"), ([str(tmp_path)], 1, "has no image files")):
        status, _, err = command("check", *options)
        assert status == expected
        assert message in err


@pytest.mark.slow
def test_from_photos_to_a_page(command, photo_dir, tmp_path):
    """The commands of the README in a row: pairs, check, train, translate."""
    pairs, run, out = tmp_path / "pairs", tmp_path / "run", tmp_path / "out"
    assert command("pairs", f"--photos={photo_dir}", "--make=edges", f"--output={pairs}", "--size=64")[0] == 0
    assert command("check", str(pairs), f"--sheet={tmp_path / 'sheet.png'}")[0] == 0
    runs.train(runs.tiny("pix2pix", pairs, dataset="folder"), run)
    assert "Generator" in (run / "index.html").read_text() and len(list((run / "samples").iterdir())) == 1
    status, output, err = command("translate", f"--run={run}", f"--input={pairs / 'A' / 'test'}", f"--output={out}")
    assert status == 0, err
    assert f"3 translated: open {out / 'index.html'}" in output
    assert (out / "index.html").read_text().count("<figure") == 6
