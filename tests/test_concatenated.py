"""Inputs of several files: channels in the order of the list, one line for what does not fit, and the same in every command."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

import runs
from i2i_jax import build, load
from i2i_jax.config import Config, ConfigError, override
from i2i_jax.data import concatenated, folder, layouts, listing, pair_list, splits
from i2i_jax.data.images import ImageError
from i2i_jax.data.loader import RawBatch, batches
from i2i_jax.data.pairs import Fingerprinted
from i2i_jax.inference import jobs

rng = np.random.default_rng(0)
SIZE = (6, 8)


def noise(channels, dtype=np.uint8, size=SIZE):
    shape = size if channels == 1 else (*size, channels)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig" if image.ndim == 3 else None)
    else:
        Image.fromarray(image).save(path)
    return image.reshape(*image.shape[:2], -1)


def write_pairs(root, count=4, *, size=SIZE, dtype=np.uint8, split="train"):
    """Edges (grey) and a depth map and normals (TIFF of two bands and PNG of three) to a photo; returns the expected pairs by name."""
    expected, lines = {}, []
    for i in range(count):
        names = f"edges/{i}.png", f"depth/{i} d.tif", f"normals/{i}.png", f"photos/{i}.png"
        edges, depth = save(root / names[0], noise(1, size=size)), save(root / names[1], noise(2, dtype, size=size))
        normals, photo = save(root / names[2], noise(3, size=size)), save(root / names[3], noise(3, size=size))
        scale = 257 if dtype == np.uint16 else 1
        expected[f"edges/{i}"] = np.concatenate([edges * dtype(scale), depth, normals * dtype(scale)], 2), photo
        lines.append(f"{'|'.join(names[:3])},{names[3]},{split}\n")
    (root / "pairs.csv").write_text("input,target,split\n" + "".join(lines))
    return expected


def assert_pairs(pairs, expected):
    assert [pairs.name(i) for i in range(len(pairs))] == sorted(expected)
    for i in range(len(pairs)):
        for image, other in zip(pairs[i], expected[pairs.name(i)], strict=True):
            np.testing.assert_array_equal(image, other, strict=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_channels_are_those_of_the_files_in_order(tmp_path, dtype):
    expected = write_pairs(tmp_path, dtype=dtype)
    assert_pairs(folder.pairs(tmp_path, "all", input_channels=6), expected)
    reverse = folder.pairs(tmp_path, "all", input_channels=3, target_channels=6, direction="BtoA")
    assert_pairs(reverse, {name: pair[::-1] for name, pair in expected.items()})
    assert layouts.Listing(tmp_path).unused() == ""


def test_grey_and_colour_transparency_palettes_and_exif(tmp_path):
    """Each file is read as it would be read alone."""
    colours = noise(3)
    alpha = np.concatenate([colours, np.full((*SIZE, 1), 255, np.uint8)], 2)
    palette = Image.fromarray(colours).quantize(16)
    save(tmp_path / "a.png", alpha), palette.save(tmp_path / "b.png"), save(tmp_path / "c.png", noise(1))
    joined = concatenated.read([tmp_path / f"{name}.png" for name in "abc"], channels=7)
    parts = [colours, np.asarray(palette.convert("RGB")), np.asarray(Image.open(tmp_path / "c.png"))[..., None]]
    np.testing.assert_array_equal(joined, np.concatenate(parts, 2))
    turned = Image.fromarray(colours)
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "d.png", exif=exif)
    save(tmp_path / "e.png", upright := np.rot90(noise(1)))
    files = tmp_path / "d.png", tmp_path / "e.png"
    joined = concatenated.read(files, channels=4)
    np.testing.assert_array_equal(joined, np.concatenate([np.rot90(colours, -1), upright[..., None]], 2))
    assert concatenated.size(files, channels=4) == joined.shape[:2] == SIZE[::-1]


def refused(root, **options):
    with pytest.raises((ImageError, folder.FolderError)) as error:
        folder.pairs(root, "all", **options)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{root}/", "")


def test_what_does_not_fit_is_one_line(tmp_path):
    write_pairs(tmp_path)
    channels = "edges/0.png has 1 channel and depth/0 d.tif has 2 channels and normals/0.png has 3 channels: 6 together, but "
    assert refused(tmp_path) == channels + "data.input_channels is 3: data.input_channels=6 would do"
    reverse = refused(tmp_path, direction="BtoA", input_channels=3, target_channels=4)
    assert reverse == channels + "data.target_channels is 4: data.target_channels=6 would do"
    save(tmp_path / "normals" / "2.png", noise(1))
    save(tmp_path / "depth" / "3 d.tif", noise(2, size=(6, 9)))
    message = refused(tmp_path, input_channels=6)
    assert message == (
        "2 of 4 pairs cannot be used: edges/2.png has 1 channel and depth/2 d.tif has 2 channels and normals/2.png has 1 channel: "
        "4 together, but data.input_channels is 6: data.input_channels=4 would do; "
        "edges/3.png is 8x6 but depth/3 d.tif is 9x6: must be of one size; data.skip_bad=True leaves out what cannot be used"
    )
    assert len(folder.pairs(tmp_path, "all", input_channels=6, skip_bad=True)) == 2
    (tmp_path / "edges" / "0.png").write_bytes(b"")
    assert refused(tmp_path, input_channels=6).startswith("3 of 4 pairs cannot be used: edges/0.png: is an empty file; ")


def test_label_maps_are_one_file(tmp_path):
    from i2i_jax.data import labels

    write_pairs(tmp_path)
    own = labels.of_option("6")[0]
    message = f"{tmp_path}: inputs have 3 files: data.input_labels reads one label map for each input"
    assert refused(tmp_path, input_channels=6, input_labels=own) == message


def test_each_file_is_part_of_the_fingerprint(tmp_path):
    write_pairs(tmp_path)
    prints = []
    for changed in (None, "edges/1.png", "depth/1 d.tif", "normals/1.png", "photos/1.png"):
        if changed:
            save(tmp_path / changed, noise({"e": 1, "d": 2}.get(changed[0], 3)))
        pairs = folder.pairs(tmp_path, "all", input_channels=6)
        assert isinstance(pairs, Fingerprinted)
        prints.append(pairs.fingerprint)
    (tmp_path / "pairs.csv").write_text(
        (tmp_path / "pairs.csv").read_text().replace("edges/1.png|depth/1 d.tif", "depth/1 d.tif|edges/1.png")
    )
    prints.append(folder.pairs(tmp_path, "all", input_channels=6).fingerprint)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize("kept", ["memory", "disk"])
def test_batches_from_the_caches(tmp_path, monkeypatch, kept):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_pairs(tmp_path / "data", dtype=np.uint16)
    pairs = folder.pairs(tmp_path / "data", "all", input_channels=6)
    options = {"load_size": 5, "batch_size": 3, "seed": 1}
    cached = batches(pairs, **options, **({"cache_gb": 1.0} if kept == "memory" else {"cache_gb": 0.0, "disk_cache_gb": 200.0}))
    plain = batches(pairs, **options, cache_gb=0.0)
    for _ in range(6):
        batch, other = next(cached), next(plain)
        assert isinstance(batch, RawBatch) and batch.input.shape == (3, 5, 5, 6) and batch.input.dtype == np.uint16
        for x, y in zip(batch, other, strict=True):
            np.testing.assert_array_equal(x, y)


def test_held_out_by_the_name_of_the_first_file(tmp_path):
    write_pairs(tmp_path, 20)
    val = folder.pairs(tmp_path, "val", input_channels=6)
    names = {val.name(i) for i in range(len(val))}
    now = splits.of_folder(tmp_path, val_fraction=0.1, before=None)
    assert set(now.val) == names and len(names) == 2 and not now.side_by_side
    name = min(names)
    files = (tmp_path / "pairs.csv").read_text().splitlines()[1 + int(name.split("/")[1])].rsplit(",", 1)[0].replace(",", "|").split("|")
    assert now.val[name] == sum((tmp_path / file).stat().st_size for file in files)
    save(tmp_path / "new.png", noise(1)), save(tmp_path / "new d.tif", noise(2)), save(tmp_path / "n.png", noise(3))
    with (tmp_path / "pairs.csv").open("a") as stream:
        stream.write("new.png|new d.tif|n.png,n.png,train\n")
    again = splits.of_folder(tmp_path, val_fraction=0.1, before=now)
    assert set(again.val) == names and set(again.train) - set(now.train) == {"new"}


def test_names_of_inputs_that_share_files(tmp_path):
    for name in "abcd":
        save(tmp_path / f"{name}.png", noise(1))
    (tmp_path / "pairs.csv").write_text("a.png|b.png,d.png\na.png|c.png,d.png\n")
    assert [name for name, _ in folder.named(tmp_path, "all", val_fraction=0.0)] == ["a", "a c d"]


def test_a_list_is_read_once(tmp_path, monkeypatch):
    write_pairs(tmp_path, 20)
    read, calls = pair_list.read, []
    monkeypatch.setattr(pair_list, "read", lambda file: (calls.append(file), read(file))[1])
    source = layouts.Listing(tmp_path)
    for split in ("train", "val", "test", "all"):
        assert folder.named(source, split, val_fraction=0.1) == folder.named(tmp_path, split, val_fraction=0.1)
    folder.pairs(source, "train", input_channels=6)
    assert (source.unused(), len(calls)) == ("", 5)


def test_a_folder_is_listed_once(tmp_path, monkeypatch):
    for i in range(10):
        for side in "AB":
            save(tmp_path / side / f"{i}.png", noise(3))
    by_name, calls = listing.by_name, []
    monkeypatch.setattr(listing, "by_name", lambda place: (calls.append(place.name), by_name(place))[1])
    source = layouts.Listing(tmp_path)
    splits.of_folder(source, val_fraction=0.1, before=None)
    assert len(folder.pairs(source, "train")) == 9 and len(folder.pairs(source, "val")) == 1
    assert (source.unused(), calls) == ("", ["A", "B"])


def test_check(tmp_path, command):
    expected = write_pairs(tmp_path, dtype=np.uint16)
    status, out, err = command("check", str(tmp_path), f"--sheet={tmp_path / 'sheet.png'}")
    assert (status, err) == (0, "")
    assert "A1: grey of 8 bits (4)\nA2: 2 channels of 16 bits (4)\nA3: colour of 8 bits (4)\nB: colour of 8 bits (4)\n" in out
    assert "A has 3 files, channels 1 + 2 + 3 = 6 (4): data.input_channels=6\n" in out
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape[1] == 4 + 12 * 132
    save(tmp_path / "edges" / "0.png", noise(3))
    save(tmp_path / "normals" / "1.png", noise(3, size=(5, 8)))
    save(tmp_path / "depth" / "2 d.tif", expected["edges/2"][0][..., 1:3] // 100)
    status, out, err = command("check", str(tmp_path))
    assert status == 1 and err.endswith("1 of 4 pairs cannot be used\n")
    assert "A has 3 files, channels 1 + 2 + 3 = 6 (2), 3 + 2 + 3 = 8 (1): must be as many in all pairs\n" in out
    assert f"  {tmp_path}/edges/1.png is 8x6 but {tmp_path}/normals/1.png is 8x5: must be of one size\n" in out


def test_check_of_dark_files_among_others(tmp_path, command):
    for i in range(3):
        (
            save(tmp_path / f"{i}.png", noise(1)),
            save(tmp_path / f"{i}.tif", noise(1, np.uint16) // 16),
            save(tmp_path / f"{i} t.png", noise(3)),
        )
    (tmp_path / "pairs.csv").write_text("".join(f"{i}.png|{i}.tif,{i} t.png\n" for i in range(3)))
    assert "\nA2 uses 6 % of its range" in command("check", str(tmp_path))[1]


def inputs_of(path, text, **options):
    path.write_text(text)
    return [tuple(file.name for file in files) for files in pair_list.read_inputs(path, **options)]


def test_lists_of_inputs(tmp_path):
    for name in "abcd":
        save(tmp_path / f"{name}.png", noise(1))
    file = tmp_path / "list.csv"
    a, b = ("a.png", "b.png"), ("c.png", "d.png")
    assert inputs_of(file, "a.png|b.png\nc.png | d.png\n\n") == [a, b]
    assert inputs_of(file, "Edges\na.png|b.png\n") == [a]
    assert inputs_of(file, "id,input\n1,a.png|b.png\n2,a.png|b.png\n3,c.png|d.png\n") == [a, b]
    pairs = "a.png|b.png,d.png,train\nc.png|d.png,b.png,test\n"
    for text in (pairs, f"input,target,split\n{pairs}"):
        assert inputs_of(file, text) == [a, b]
        assert inputs_of(file, text, direction="BtoA") == [("d.png",), ("b.png",)]
    assert inputs_of(file, "a.png\nb.png\n", direction="BtoA") == [("a.png",), ("b.png",)]
    for text, message in {
        "": "list.csv: lists no inputs: must have a line for each, a file or several, a.png|b.png",
        "a.png|b.png\nc.png\n": "list.csv, line 2: has 1 input file, but the lines before have 2: must be as many",
        "a.png\n,x\n": "list.csv, line 2: an empty path: no such file",
    }.items():
        with pytest.raises(folder.FolderError) as error:
            inputs_of(file, text)
        assert str(error.value) == f"{tmp_path}/{message}"


def planned(source, tmp_path, options=None):
    config = override(Config(), {"data.input_channels": 2} | (options or {}))
    found = jobs.plan(source, tmp_path / "out", samples=1, config=config)
    return [str(file.relative_to(tmp_path / "out")) for job in found for file in (*job.outputs, job.preview)]


def test_outputs_are_named_after_the_first_file(tmp_path):
    for name in ("x/a/1", "x/b/1", "y/a/1", "y/b/1", "c"):
        save(tmp_path / "data" / f"{name}.png", noise(1))
    file = tmp_path / "data" / "list.csv"
    file.write_text("x/a/1.png|x/b/1.png\ny/a/1.png|y/b/1.png\nc.png|c.png\n")
    assert planned(file, tmp_path) == [name for x in ("x/a/1", "y/a/1", "c") for name in (f"{x}.png", f"inputs/{x}.png")]
    file = tmp_path / "elsewhere" / "list.csv"
    file.parent.mkdir()
    file.write_text("../data/x/a/1.png|../data/x/b/1.png\n../data/y/a/1.png|../data/y/b/1.png\n")
    assert planned(file, tmp_path) == ["x/a/1.png", "inputs/x/a/1.png", "y/a/1.png", "inputs/y/a/1.png"]
    both = f"{tmp_path}/data/x/a/1.png|{tmp_path}/data/c.png"
    assert planned(type(file)(both), tmp_path) == ["1.png", "inputs/1.png"]


def test_inputs_that_cannot_be_translated(tmp_path):
    for name in "abc":
        save(tmp_path / f"{name}.png", noise(1))
    file = tmp_path / "list.csv"
    file.write_text("a.png|b.png\na.png|c.png\n")
    with pytest.raises(ConfigError, match=f"^--input: {file} has two inputs that begin with {tmp_path}/a.png, which names the output: "):
        planned(file, tmp_path)
    file.write_text("a.png|b.png\n")
    with pytest.raises(ConfigError, match=f"^--input: {file} has inputs of 2 files, but this run reads one label map for each input$"):
        planned(file, tmp_path, {"data.input_labels": "2"})
    with pytest.raises(ConfigError, match=f"^--input: {tmp_path}/x.png does not exist$"):
        planned(type(file)(f"{tmp_path}/a.png|{tmp_path}/x.png"), tmp_path)
    found = jobs.plan(file, tmp_path / "out", samples=1, config=Config())
    with pytest.raises(ConfigError, match="^--pairs applies to side-by-side images, not to inputs of several files, such as "):
        jobs.read_sizes(found, Config(), pairs=True)
    with pytest.raises(ImageError, match="a.png has 1 channel and .*b.png has 1 channel: 2 together, but data.input_channels is 3: "):
        jobs.read_sizes(found, Config(), pairs=False)
    save(tmp_path / "b.png", noise(1, size=(6, 9)))
    two = override(Config(), {"data.input_channels": 2})
    with pytest.raises(ImageError, match="a.png is 8x6 but .*b.png is 9x6: must be of one size$"):
        jobs.read_sizes(found, two, pairs=False)
    with pytest.raises(ConfigError, match="a.png is an input: name another folder$"):
        jobs.plan(file, tmp_path, samples=1, config=two)


@pytest.mark.slow
def test_a_run_on_several_files(tmp_path, shallow, command):
    """Training, evaluation and translation, and the translation of a list equals that of the concatenated arrays."""
    expected = write_pairs(tmp_path / "data", 8, size=(16, 16))
    config = shallow("bicycle", tmp_path / "data", {"data.input_channels": 6}, dataset="folder")
    run = tmp_path / "run"
    runs.train(config, run)
    assert json.loads((run / "pairs.json").read_text())["side_by_side"] is False
    assert len(build.pairs(build.read_config(run), "val")) == 1
    status, out, err = command("evaluate", f"--run={run}", f"--data={tmp_path / 'data' / 'pairs.csv'}", "--split=all", "--metrics=l1")
    assert (status, err) == (0, "") and "l1" in out
    translate = "translate", f"--run={run}", f"--input={tmp_path / 'data' / 'pairs.csv'}", "--sync"
    status, out, _ = command(*translate, f"--output={tmp_path / 'out'}")
    assert status == 0 and out.startswith("8 translated: ")
    assert command(*translate, "--tile=16", f"--output={tmp_path / 'tiles'}")[0] == 0
    model = load(run)
    for name, (image, _) in expected.items():
        output = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "tiles" / f"{name}.png")), output)
        shown = np.asarray(Image.open(tmp_path / "out" / "inputs" / f"{name}.png"))
        np.testing.assert_array_equal(shown[:, :16], np.repeat(image[..., :1], 3, 2))
        np.testing.assert_array_equal(shown[:, 32:], image[..., 3:])
        assert shown.shape == (16, 48, 3)
        assert model(image, seed=0).shape == (1, 16, 16, 3)
    files = "|".join(str(tmp_path / "data" / name) for name in ("edges/3.png", "depth/3 d.tif", "normals/3.png"))
    assert command("translate", f"--run={run}", f"--input={files}", "--sync", f"--output={tmp_path / 'one'}")[0] == 0
    alone = np.asarray(Image.open(tmp_path / "one" / "3.png"))
    np.testing.assert_array_equal(alone, np.asarray(Image.open(tmp_path / "out" / "edges" / "3.png")))
