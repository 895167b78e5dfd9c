"""Layouts of other projects, lists of pairs, what is not used, and refusals that say what would do."""

import numpy as np
import pytest
from PIL import Image

import runs
from i2i_jax.config import Config
from i2i_jax.data import folder, layouts, listing, splits
from i2i_jax.inference import jobs


def save(path, number=0, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number, number, number + 1)).save(path)
    return path


def save_two(a, b, number):
    save(a, number)
    save(b, 100 + number)


def contents(pairs):
    """Name to the values of input and target."""
    return {pairs.name(i): (int(pairs[i].input[0, 0, 0]), int(pairs[i].target[0, 0, 0])) for i in range(len(pairs))}


def reason(root, split="train", **options):
    with pytest.raises(folder.FolderError) as error:
        folder.pairs(root, split, **options)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(root), "ROOT")


FOLDERS = {
    "train_A and train_B": ("{split}_A/{name}.png", "{split}_B/{name}.jpg"),
    "train/A and train/B": ("{split}/A/{name}.png", "{split}/B/{name}.jpg"),
    "trainA and trainB": ("{split}A/{name}.png", "{split}B/{name}.bmp"),
    "A/train and B/train": ("A/{split}/{name}.png", "B/{split}/{name}.bmp"),
    "NAME_A and NAME_B in train": ("{split}/{name}_A.png", "{split}/{name}_B.png"),
}


@pytest.mark.parametrize("val", ["val", "validation"])
@pytest.mark.parametrize("name", ["{i}", "city {i}/x", "deep/er/{i}"])
@pytest.mark.parametrize("paths", FOLDERS)
def test_splits_in_two_folders(tmp_path, paths, name, val):
    for i, split in enumerate(["train", "train", val, "test"]):
        save_two(*(tmp_path / path.format(split=split, name=name.format(i=i)) for path in FOLDERS[paths]), i)
    names = [name.format(i=i) for i in range(4)]
    lossless = "jpg" not in FOLDERS[paths][1]
    splits_of_pairs = {split: contents(folder.pairs(tmp_path, split)) for split in folder.SPLITS}
    assert [list(pairs) for pairs in splits_of_pairs.values()] == [names[:2], names[2:3], names[3:]]
    assert {name: pair for pairs in splits_of_pairs.values() for name, pair in pairs.items()} == {
        name: (i, 100 + i) if lossless else (i, pytest.approx(100 + i, abs=2)) for i, name in enumerate(names)
    }
    assert layouts.Listing(tmp_path).unused() == ""


def test_side_by_side_files_in_subfolders_of_a_split(tmp_path):
    for name in ("a/1", "a/2", "b/2", "b/3"):
        save(tmp_path / "train" / f"{name}.png")
    assert list(contents(folder.pairs(tmp_path, "train", val_fraction=0.0))) == ["a/1", "a/2", "b/2", "b/3"]
    assert len(folder.pairs(tmp_path, "val", val_fraction=0.5)) == 2


def test_subfolders_of_the_same_names_are_no_side_by_side_files(tmp_path):
    for name in ("input/1", "input/2", "target/1", "target/2"):
        save(tmp_path / "train" / f"{name}.png")
    assert reason(tmp_path).startswith("ROOT/train: input/ and target/ hold files of the same names: name them train/A/ and train/B/ if ")


def test_files_beside_subfolders_are_read_without_these(tmp_path):
    for name in ("1", "2", "old/3"):
        save_two(tmp_path / "A" / f"{name}.png", tmp_path / "B" / f"{name}.png", 1)
    assert list(contents(folder.pairs(tmp_path, "all"))) == ["1", "2"]
    assert layouts.Listing(tmp_path).unused() == "A/old/ (1 image), B/old/ (1 image)"


def test_names_that_end_in_a_and_b(tmp_path):
    for i in range(3):
        save_two(tmp_path / f"x{i}_A.png", tmp_path / f"x{i}_B.png", i)
    save(tmp_path / "preview.png")
    assert contents(folder.pairs(tmp_path, "all", direction="BtoA")) == {f"x{i}": (100 + i, i) for i in range(3)}
    assert layouts.Listing(tmp_path).unused() == "1 .png file"
    assert not splits.of_folder(tmp_path, val_fraction=0.5, before=None).side_by_side
    save(tmp_path / "alone_B.png")
    assert reason(tmp_path, "all") == "ROOT/*_A and ROOT/*_B: 'alone' without a partner (1 of 4 names)"


def test_a_few_such_names_among_others_are_side_by_side_files(tmp_path):
    for name in ("x_A", "x_B", "y", "z"):
        save(tmp_path / f"{name}.png")
    assert list(contents(folder.pairs(tmp_path, "all"))) == ["x_A", "x_B", "y", "z"]


LISTS = {
    "no header": "in/{0},out/{1}\n",
    "header": "input,target\nin/{0},out/{1}\n",
    "header of other names": "Photo,Drawing\r\nin/{0},out/{1}\r\n",
    "columns in another order": "id,target,input\n7,out/{1},in/{0}\n",
    "byte order mark, spaces and empty lines": "\ufeffinput,target\n\nin/{0} , out/{1}\n,\n",
    "quoted": 'input,target\n"in/{0}","./out/../out/{1}"\n',
}


@pytest.mark.parametrize("text", LISTS)
@pytest.mark.parametrize("named", [True, False])
def test_lists_of_pairs(tmp_path, text, named):
    save_two(tmp_path / "in" / "a, 1.png" if text == "quoted" else tmp_path / "in" / "1.png", tmp_path / "out" / "one.png", 1)
    save(tmp_path / "in" / "2.png")
    (tmp_path / "pairs.csv").write_text(LISTS[text].format("a, 1.png" if text == "quoted" else "1.png", "one.png"), encoding="utf-8")
    name = "in/a, 1" if text == "quoted" else "in/1"
    assert contents(folder.pairs(tmp_path / "pairs.csv" if named else tmp_path, "train")) == {name: (1, 101)}
    assert layouts.Listing(tmp_path).unused() == "1 .png file"


def test_splits_in_a_list(tmp_path):
    lines = []
    for i, split in enumerate(["", "train", "validation", "Test"]):
        save_two(tmp_path / "data" / f"{i}.png", tmp_path / "data" / f"{i} target.png", i)
        lines.append(f"{i}.png,{i} target.png,{split}\n")
    file = tmp_path / "data" / "my.csv"
    file.write_text("".join(lines))
    expected = {"train": {"0": (0, 100), "1": (1, 101)}, "val": {"2": (2, 102)}, "test": {"3": (3, 103)}}
    assert {split: contents(folder.pairs(file, split)) for split in folder.SPLITS} == expected
    assert contents(folder.pairs(file, "test", direction="BtoA")) == {"3": (103, 3)}


def test_held_out_of_a_list_by_name_wherever_the_list_lies(tmp_path):
    names = []
    for where in ("one", "two"):
        for i in range(20):
            save_two(tmp_path / where / "a" / f"{i}.png", tmp_path / where / "b" / f"{i}.png", i)
        (tmp_path / where / "pairs.csv").write_text(
            "".join(f"a/{i}.png,b/{i}.png\n" for i in (range(20) if where == "one" else range(19, -1, -1)))
        )
        names.append(list(contents(folder.pairs(tmp_path / where, "val"))))
    assert names[0] == names[1] and len(names[0]) == 2


def test_an_input_with_several_targets(tmp_path):
    save(tmp_path / "a.png"), save(tmp_path / "b" / "1.png", 1), save(tmp_path / "c" / "1.png", 2)
    (tmp_path / "pairs.csv").write_text("a.png,b/1.png\na.png,c/1.png\n")
    assert contents(folder.pairs(tmp_path, "all")) == {"a": (0, 1), "a c/1": (0, 2)}
    save(tmp_path / "a.bmp", 3), save(tmp_path / "c" / "1.bmp", 4)
    (tmp_path / "pairs.csv").write_text("a.png,b/1.png\na.png,c/1.png\na.bmp,c/1.bmp\n")
    assert contents(folder.pairs(tmp_path, "all")) == {"a": (0, 1), "a c/1": (0, 2), "a.bmp c/1.bmp": (3, 4)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ROOT/pairs.csv: lists no pairs: must have lines input,target or input,target,split"),
        ("input,target\n", "ROOT/pairs.csv: lists no pairs: must have lines input,target or input,target,split"),
        ("1.png;2.png\n", "ROOT/pairs.csv, line 1: has 1 columns: must be input,target or input,target,split"),
        ("input,target\n1.png\n", "ROOT/pairs.csv, line 2: has 1 columns: must be input,target or input,target,split"),
        ("1.png,2.png\n1.png,3.png\n", "ROOT/pairs.csv, line 2: ROOT/3.png: no such file"),
        ("1.png,\n", "ROOT/pairs.csv, line 1: an empty path: no such file"),
        ("1.png,2.png,dev\n", "ROOT/pairs.csv, line 1: unknown split 'dev': one of train, val, test"),
        ("1.png,2.png\n1.png,./2.png\n", "ROOT/pairs.csv, line 2: 1.png and ./2.png are listed before: each pair must be listed once"),
        ("1.png|3.png,2.png\n", "ROOT/pairs.csv, line 1: ROOT/3.png: no such file"),
        ("1.png|,2.png\n", "ROOT/pairs.csv, line 1: an empty path: no such file"),
        ("input,target\n1.png,2.png\n2.png|1.png,2.png\n",
         "ROOT/pairs.csv, line 3: has 2 input files, but line 2 has 1: must be as many"),
    ],
)  # fmt: skip
def test_wrong_lists(tmp_path, text, message):
    save(tmp_path / "1.png"), save(tmp_path / "2.png")
    (tmp_path / "pairs.csv").write_text(text)
    assert reason(tmp_path) == message


def test_lists_that_cannot_be_read(tmp_path):
    assert reason(tmp_path / "none.csv") == "ROOT: no such file"
    (tmp_path / "pairs.csv").write_bytes(b"\xff\xfe,x")
    assert reason(tmp_path).startswith("ROOT/pairs.csv: is not a CSV file in UTF-8 (")


def test_layouts_of_earlier_versions_come_first(tmp_path):
    """A run that was begun on them reads the same pairs."""
    layouts_of_folders = [("trainA", "trainB"), ("A/train", "B/train"), ("A", "B"), ("train_A", "train_B")]
    for i, folders in reversed(list(enumerate(layouts_of_folders))):
        for side in folders:
            save(tmp_path / side / f"{i}.png")
        assert list(contents(folder.pairs(tmp_path, "all"))) == [str(i)]


@pytest.mark.parametrize("one", ["", "train/"])
def test_two_layouts_at_once_are_refused(tmp_path, one):
    for side in "AB":
        save(tmp_path / f"train_{side}" / "x.png")
    save(tmp_path / f"{one}preview.png")
    place = f"ROOT/{one}".rstrip("/")
    assert (
        reason(tmp_path) == f"ROOT: has pairs in ROOT/train_A and ROOT/train_B, but also image files in {place}: move one of them elsewhere"
    )


def test_two_new_layouts_at_once_are_refused(tmp_path):
    for side in "AB":
        save(tmp_path / f"train_{side}" / "x.png"), save(tmp_path / "train" / side / "x.png")
    expected = "ROOT: has pairs in ROOT/train_A and ROOT/train_B, but also ROOT/train/A and ROOT/train/B: move one of them elsewhere"
    assert reason(tmp_path) == expected


def test_one_half_of_the_new_layouts(tmp_path):
    save(tmp_path / "train_A" / "x.png")
    assert reason(tmp_path) == "ROOT/train_B: no such folder, though ROOT/train_A exists"
    save(tmp_path / "y.png")
    assert list(contents(folder.pairs(tmp_path, "all"))) == ["y"], "as ever"


def test_test_inputs_without_targets_are_not_used(tmp_path):
    for side in ("train_A", "train_B", "test_A"):
        save(tmp_path / side / "x.png")
    assert layouts.layout(tmp_path).keys() == {"train"}
    assert layouts.Listing(tmp_path).unused() == "test_A/ (1 image)"


def test_a_refusal_names_what_is_there_and_what_would_do(tmp_path):
    save(tmp_path / "photos" / "x.png"), save(tmp_path / "labels" / "x.png"), (tmp_path / "x.mat").write_text("")
    text = reason(tmp_path)
    assert "), only labels/ (1 image), photos/ (1 image), 1 .mat file; would do: trainA/ and trainB/, train_A/ and train_B/, " in text


def test_what_is_not_used(tmp_path):
    for split in ("train", "val"):
        save_two(tmp_path / "A" / split / "x.png", tmp_path / "B" / split / "x.png", 1)
    for name in ("A/train/notes.txt", "A/notes.txt", "B/val/x.NPY", "B/val/README", ".DS_Store", "A/.x.png"):
        (tmp_path / name).write_text("")
    save(tmp_path / "masks" / "x.png")
    for i in range(12):
        (tmp_path / f"empty{i:02d}").mkdir()
    text = layouts.Listing(tmp_path).unused()
    assert text == ", ".join(f"empty{i:02d}/" for i in range(10)) + " and 6 more"
    for i in range(12):
        (tmp_path / f"empty{i:02d}").rmdir()
    assert layouts.Listing(tmp_path).unused() == "masks/ (1 image), 1 .npy file, 2 .txt files, 1 other file"


def test_a_run_from_before_keeps_what_it_holds_out_beside_validation(tmp_path):
    """Earlier versions did not read a folder named validation, and held pairs out of train."""
    for i in range(10):
        save(tmp_path / ("validation" if i > 7 else "train") / f"{i}.png")
    assert list(contents(folder.pairs(tmp_path, "val"))) == ["8", "9"]
    for held_out, names in ((["3"], ["3"]), (["8", "9"], ["8", "9"])):
        assert list(contents(folder.pairs(tmp_path, "val", held_out=held_out))) == names
        train = [str(i) for i in range(8) if str(i) not in names]
        assert list(contents(folder.pairs(tmp_path, "train", held_out=held_out))) == train


def test_an_empty_folder_named_validation_is_not_read(tmp_path):
    for i in range(4):
        save(tmp_path / "train" / f"{i}.png")
    (tmp_path / "validation").mkdir()
    assert len(folder.pairs(tmp_path, "train")) == 3
    assert layouts.Listing(tmp_path).unused() == "validation/"


def test_links_to_folders_end(tmp_path):
    save(tmp_path / "train" / "a" / "x.png")
    (tmp_path / "train" / "a" / "again").symlink_to(tmp_path / "train")
    assert [file.name for file in listing.nested_image_files(tmp_path / "train")] == ["x.png"]


def test_check_names_grey_and_unused(tmp_path, command):
    for i in range(3):
        save(tmp_path / "train_A" / f"{i}.png", i)
        Image.new("RGB", (8, 6), (i, i, i)).save((tmp_path / "train_B").mkdir(exist_ok=True) or tmp_path / "train_B" / f"{i}.png")
    (tmp_path / "notes.txt").write_text("")
    status, out, _ = command("check", str(tmp_path))
    assert status == 0
    assert "B is grey in all pairs: data.target_channels=1 reads" in out and "A is grey" not in out
    assert "\nnot used: 1 .txt file\n" in out
    save(tmp_path / "train_B" / "2.png", 2)
    assert "is grey" not in command("check", str(tmp_path))[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peak", "words"), [(4095, "A uses 6 % of its range (up to 4095 of 65535, 12 bits in 16-bit files): "), (40_000, "")]
)
def test_check_names_a_range_that_is_mostly_empty(tmp_path, command, peak, words):
    """12-bit data in 16-bit files, beside targets that use the whole range."""
    for side, value in (("A", peak), ("B", 65_535)):
        (tmp_path / side).mkdir()
        for index in range(3):
            image = np.full((8, 8), value - index, np.uint16)
            image[0] = 0
            Image.fromarray(image).save(tmp_path / side / f"{index}.png")
    out = command("check", str(tmp_path))[1]
    assert words in out and ("of its range" in out) == bool(words) and "B uses" not in out


def test_training_names_grey_and_unused_once(shallow, tmp_path, command, capsys):
    rng = np.random.default_rng(0)
    for name in ("a/1", "a/2", "b/2", "b/3"):
        for side in "AB":
            file = tmp_path / "pairs" / "train" / side / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels if side == "A" else np.repeat(pixels[..., :1], 3, 2)).save(file)
    (tmp_path / "pairs" / "notes.txt").write_text("")

    def train(steps):
        options = {f"train.{name}_every": 1 for name in ("checkpoint", "sample", "eval")} | {"train.steps": steps}
        runs.train(shallow("pix2pix", tmp_path / "pairs", options, dataset="folder"), tmp_path / "run")
        return capsys.readouterr().out

    out = train(1)
    assert f"{tmp_path / 'pairs'}: not used: 1 .txt file\n" in out
    assert "targets are grey in the 3 pairs looked at: data.target_channels=1 would do\n" in out
    record = splits.read(tmp_path / "run")
    assert sorted({**record.train, **record.val}) == ["a/1", "a/2", "b/2", "b/3"]
    out = train(2)
    assert not any(words in out for words in ("not used:", "are grey", "has changed since"))
    status, _, err = command("evaluate", f"--run={tmp_path / 'run'}", "--split=val", "--metrics=l1")
    assert (status, err) == (0, "")
    translate = f"--run={tmp_path / 'run'}", f"--input={tmp_path / 'pairs' / 'train' / 'A'}"
    assert command("translate", *translate, f"--output={tmp_path / 'out'}")[0] == 0
    assert {str(file.relative_to(tmp_path / "out").with_suffix("")) for file in (tmp_path / "out").rglob("*.png")} == {
        f"{folder}{name}" for folder in ("", "inputs/") for name in ("a/1", "a/2", "b/2", "b/3")
    }


def test_jobs_of_folders_in_folders(tmp_path):
    """Earlier outputs in the folder are no inputs, and files beside subfolders are read without these."""
    for name in ("a/1.png", "b/1.jpg", "b/1.png", "out/a/1.png", "out/inputs/a/1.png"):
        save(tmp_path / name)
    planned = jobs.plan(tmp_path, tmp_path / "out", samples=1, config=Config())
    assert [str(job.source.relative_to(tmp_path)) for job in planned] == ["a/1.png", "b/1.jpg", "b/1.png"]
    outputs = [str(file.relative_to(tmp_path / "out")) for job in planned for file in job.outputs]
    assert outputs == ["a/1.png.png", "b/1.jpg.png", "b/1.png.png"]
    save(tmp_path / "c.png")
    assert [job.outputs for job in jobs.plan(tmp_path, tmp_path / "out", samples=1, config=Config())] == [[tmp_path / "out" / "c.png"]]
