"""The disk cache of resized pairs: the same batches with and without it, whatever happens to the file, the disk or other processes."""

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import imagecodecs
import jax
import numpy as np
import pytest
import test_storage

import runs
from i2i_jax.data import folder, loader, pixel_cache, values
from i2i_jax.data.pairs import Pair
from i2i_jax.storage import cache, files

full_disk = test_storage.full_disk
SIZE, COUNT = 8, 6


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch) -> Path:
    """The folder of the caches, in which the disk's free space does not matter."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pixel_cache, "FREE", -(10**15))
    return cache.folder(pixel_cache.FOLDER)


def write(file: Path, seed: int, dtype=np.uint8, shape=(10, 12, 3)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if dtype is np.float32:
        with file.open("wb") as array:
            np.save(array, np.random.default_rng(seed).uniform(0, 255, shape).astype(dtype))
        return
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    file.write_bytes(imagecodecs.png_encode(image))


@pytest.fixture(params=["side by side", "two files"])
def make_pairs(request, tmp_path):
    """Writes a folder of pairs in one of the two layouts; returns its path."""

    def make(dtypes=(np.uint8,), name="pairs", seed=0) -> Path:
        root = tmp_path / name
        for i in range(COUNT):
            for side in "AB" if request.param == "two files" else ".":
                write(root / side / f"{i}.png", 2 * i + (side == "B") + 100 * seed, dtypes[i % len(dtypes)])
        return root

    return make


def opened(root: Path, **options):
    return folder.pairs(root, "train", val_fraction=0.0, **options)


def take(pairs, count=9, disk_cache_gb=1.0, **options):
    options = {"load_size": SIZE, "batch_size": 4, "seed": 0, "cache_gb": 0.0, "disk_cache_gb": disk_cache_gb} | options
    return list(itertools.islice(loader.batches(pairs, **options), count))


def fill(pairs, most_gb, indices=range(COUNT)):
    """Writes pairs to their cache without threads, which would read ahead; returns the cache, which is in use until it is deleted."""
    resized = {index: loader._resized(pairs[index], SIZE) for index in (0, *indices)}
    kept = pixel_cache.opened(pairs, SIZE, example=resized[0], most_gb=most_gb)
    for index in indices:
        kept.write(index, resized[index])
    return kept


def assert_same(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        for array, wanted in zip(batch, other, strict=True):
            assert array.dtype == wanted.dtype
            np.testing.assert_array_equal(array, wanted)


def only_file(cache_folder: Path) -> Path:
    [file] = cache_folder.iterdir()
    return file


class Counted:
    """Pairs that count how often one is read."""

    def __init__(self, pairs):
        self.pairs, self.fingerprint, self.reads = pairs, pairs.fingerprint, 0

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        self.reads += 1
        return self.pairs[index]

    def name(self, index):
        return self.pairs.name(index)


@pytest.mark.parametrize(
    "dtypes", [(np.uint8,), (np.uint16,), (np.uint8, np.uint16), (np.uint16, np.uint8), (np.float32,), (np.float32, np.uint8)], ids=str
)
@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_batches_are_the_same_with_and_without_it(make_pairs, dtypes, direction):
    scale = values.Scale(0, 255) if np.float32 in dtypes else values.BY_TYPE
    pairs = opened(make_pairs(dtypes), direction=direction, input_scale=scale, target_scale=scale)
    expected = take(pairs, disk_cache_gb=0.0)
    for _ in range(2):
        assert_same(take(pairs), expected)


@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (1, 1)])
def test_rows_of_any_number_of_channels(make_pairs, channels):
    pairs = opened(make_pairs(), input_channels=channels[0], target_channels=channels[1])
    for size in (5, SIZE):  # 8 divides the bytes of some rows only
        for _ in range(2):
            assert_same(take(pairs, load_size=size), take(pairs, disk_cache_gb=0.0, load_size=size))


def test_each_pair_is_decoded_once(make_pairs):
    first, second = (Counted(opened(root)) for root in [make_pairs()] * 2)
    take(first, 20, threads=1)
    take(second, 20, threads=1)
    assert (first.reads, second.reads) == (1 + COUNT, 1), "the first pair is always decoded, for its shape"


def test_it_is_off(make_pairs, cache_folder):
    pairs = opened(make_pairs())
    take(pairs, disk_cache_gb=0.0)
    take(pairs, cache_gb=1.0)  # fits in memory
    assert not cache_folder.exists()


def test_another_order_uses_the_same_file(make_pairs, cache_folder):
    pairs = opened(make_pairs())
    take(pairs)
    assert_same(take(pairs, seed=7, batch_size=3), take(pairs, seed=7, batch_size=3, disk_cache_gb=0.0, cache_gb=1.0))
    only_file(cache_folder)


@pytest.mark.parametrize("change", ["content", "touched", "direction", "channels", "max_pairs", "load_size"])
def test_what_changes_the_pixels_changes_the_file(make_pairs, cache_folder, change):
    root = make_pairs()
    take(opened(root))
    reading, options = {}, {}
    file = next(root.rglob("3.png"))
    if change == "content":
        write(file, 1000)
    elif change == "touched":
        os.utime(file, (1, 1))
    elif change == "load_size":
        options = {"load_size": SIZE + 1}
    else:
        reading = {"direction": {"direction": "BtoA"}, "channels": {"input_channels": 1}, "max_pairs": {"max_pairs": 5}}[change]
    pairs = opened(root, **reading)
    assert_same(take(pairs, **options), take(pairs, disk_cache_gb=0.0, **options))
    assert len(list(cache_folder.iterdir())) == 2


def test_a_subset_has_its_own_file(make_pairs, cache_folder):
    root = make_pairs()
    take(opened(root))
    write(root / "0.png" if (root / "0.png").exists() else root / "A" / "0.png", 0, shape=(10, 11, 3))  # an odd width, or another size
    pairs = opened(root, skip_bad=True)
    assert len(pairs) == COUNT - 1
    assert_same(take(pairs), take(pairs, disk_cache_gb=0.0))
    assert len(list(cache_folder.iterdir())) == 2


def test_pairs_without_a_fingerprint_have_no_cache(cache_folder):
    class Plain(list):
        def name(self, index):
            return str(index)

    image = np.zeros((4, 4, 3), np.uint8)
    take(Plain([Pair(image, image)] * 3))
    assert not cache_folder.exists()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.999])
def test_writing_that_was_interrupted(make_pairs, cache_folder, kept):
    """Rows whose end was lost in a crash are decoded again, and the file is whole afterwards."""
    pairs = opened(make_pairs())
    expected = take(pairs, disk_cache_gb=0.0)
    take(pairs)
    file = only_file(cache_folder)
    whole = file.read_bytes()
    end = pixel_cache.PAGE + int(kept * (len(whole) - pixel_cache.PAGE))
    with file.open("r+b") as torn:
        torn.seek(end)
        torn.write(bytes(len(whole) - end))
    assert_same(take(pairs), expected)
    assert file.read_bytes() == whole


def test_a_run_that_was_killed_leaves_rows_for_the_next(make_pairs):
    pairs = opened(make_pairs())
    fill(pairs, 1.0, indices=(1, 4))
    counted = Counted(pairs)
    batches = take(counted, threads=1)
    assert counted.reads == 1 + COUNT - 2
    assert_same(batches, take(pairs, disk_cache_gb=0.0))


def test_no_byte_can_flip_unseen(make_pairs, cache_folder):
    pairs = opened(make_pairs())
    expected = take(pairs, disk_cache_gb=0.0)
    take(pairs)
    file = only_file(cache_folder)
    whole = file.read_bytes()
    for offset in (*range(0, COUNT * 8, 11), *range(pixel_cache.PAGE, len(whole), 307)):
        with file.open("r+b") as damaged:
            damaged.seek(offset)
            damaged.write(bytes([whole[offset] ^ 1]))
        assert_same(take(pairs), expected)


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:100], lambda content: content + b"x"])
def test_a_file_of_another_length(make_pairs, cache_folder, damage):
    pairs = opened(make_pairs())
    expected = take(pairs, disk_cache_gb=0.0)
    take(pairs)
    file = only_file(cache_folder)
    whole = file.read_bytes()
    file.unlink()  # earlier batches may still be read ahead from it
    file.write_bytes(damage(whole))
    assert_same(take(pairs), expected)
    assert file.read_bytes() == whole


RUN = """
import hashlib, itertools, sys
from i2i_jax.data import folder, loader, pixel_cache
pixel_cache.FREE = -10**15
pairs = folder.pairs(sys.argv[1], "train", val_fraction=0.0)
print("ready", flush=True)
sys.stdin.readline()
batches = loader.batches(pairs, load_size=8, batch_size=4, seed=int(sys.argv[2]), cache_gb=0.0, disk_cache_gb=1.0)
print(hashlib.sha256(b"".join(array.tobytes() for batch in itertools.islice(batches, 60) for array in batch)).hexdigest())
"""


def test_two_runs_at_once(make_pairs, cache_folder):
    root = make_pairs()
    command = [sys.executable, "-c", RUN, str(root)]
    environment = os.environ | {"PYTHONPATH": str(Path(folder.__file__).parents[2])}
    processes = [
        subprocess.Popen([*command, seed], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for seed in "01"
    ]
    for run in processes:
        assert run.stdout and run.stdout.readline() == "ready\n"
    for run in processes:
        assert run.stdin
        run.stdin.write("\n")
        run.stdin.flush()
    outputs = [run.communicate()[0].strip() for run in processes]
    pairs = opened(root)
    for seed, output in enumerate(outputs):
        expected = take(pairs, 60, disk_cache_gb=0.0, seed=seed)
        assert output == hashlib.sha256(b"".join(array.tobytes() for batch in expected for array in batch)).hexdigest()
    only_file(cache_folder)


def test_two_caches_in_one_process_share_the_rows(make_pairs):
    pairs = opened(make_pairs())
    resized = [loader._resized(pair, SIZE) for pair in pairs]
    one, two = (pixel_cache.opened(pairs, SIZE, example=resized[0], most_gb=1.0) for _ in range(2))
    one.write(2, resized[2])
    for array, expected in zip(two.read(2), resized[2], strict=True):
        np.testing.assert_array_equal(array, expected)
    assert two.read(3) is None
    assert not one.read(2).input.flags.writeable


def test_a_full_disk(make_pairs, full_disk, monkeypatch, caplog):
    """The cache is removed, one line says so, and the batches are the same."""
    disk, reason = full_disk
    pairs = opened(make_pairs())
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
    options = {"load_size": 100, "count": 12}
    expected = take(pairs, disk_cache_gb=0.0, **options)
    assert_same(take(pairs, **options), expected)
    [line] = caplog.messages
    assert (
        line.startswith(f"{cache.folder(pixel_cache.FOLDER)}/") and f".pixels: cannot be written ({reason}): {pixel_cache.ADVICE}" in line
    )
    assert not list(cache.folder(pixel_cache.FOLDER).iterdir())


def test_a_folder_that_cannot_be_written(make_pairs, tmp_path, caplog):
    (tmp_path / "cache").mkdir(exist_ok=True)
    pairs = opened(make_pairs())
    cache.folder().mkdir(exist_ok=True)
    (cache.folder() / pixel_cache.FOLDER).write_text("a file")
    assert_same(take(pairs), take(pairs, disk_cache_gb=0.0))
    [line] = caplog.messages
    assert "cannot be written (File exists): " in line and "data.disk_cache_gb=0" in line


def test_free_space_is_left(make_pairs, cache_folder, monkeypatch, caplog):
    """Without free space there is no cache; if the space runs out later, what is there is read and nothing is added."""
    pairs = opened(make_pairs())
    expected = take(pairs, disk_cache_gb=0.0)
    monkeypatch.setattr(pixel_cache, "FREE", 10**15)
    assert_same(take(pairs), expected)
    assert [line.partition(".pixels: ")[2] for line in caplog.messages] == [
        f"has room for 0 of {COUNT} resized pairs: {pixel_cache.ADVICE}"
    ]
    assert not list(cache_folder.iterdir())
    monkeypatch.setattr(pixel_cache, "FREE", -(10**15))
    resized = [loader._resized(pair, SIZE) for pair in pairs]
    rows = pixel_cache.opened(pairs, SIZE, example=resized[0], most_gb=1.0)
    rows.write(0, resized[0])
    monkeypatch.setattr(pixel_cache, "FREE", 10**15)
    for index in (1, 2):
        rows.write(index, resized[index])
    assert rows.read(0) is not None and rows.read(1) is None
    assert len(caplog.messages) == 2 and "is not written any more" in caplog.messages[1]


def file_size(pairs, rows=COUNT) -> int:
    return pixel_cache.Layout(len(pairs), ((SIZE, SIZE, 3),) * 2, ("uint8",) * 2).size(rows)


def test_a_set_larger_than_the_limit_is_kept_in_part(make_pairs, cache_folder, caplog):
    pairs = opened(make_pairs())
    limit = file_size(pairs, 4) + 5
    for most, rows in ((limit, 4), (limit, 4), (1e9, COUNT), (limit, 4)):  # the limit is raised, then lowered
        kept = fill(pairs, most / 1e9)
        assert [kept.read(index) is not None for index in range(COUNT)] == [True] * rows + [False] * (COUNT - rows)
        assert only_file(cache_folder).stat().st_size == file_size(pairs, rows)
        del kept
    assert [line.partition(".pixels: ")[2] for line in caplog.messages] == [
        f"has room for 4 of {COUNT} resized pairs: {pixel_cache.ADVICE}"
    ] * 3
    assert_same(take(pairs, disk_cache_gb=limit / 1e9), take(pairs, disk_cache_gb=0.0))


def test_the_oldest_are_removed(make_pairs, cache_folder):
    sets = [opened(make_pairs(name=f"pairs{i}", seed=i)) for i in range(3)]
    limit = 2 * file_size(sets[0]) / 1e9
    names = []
    for age, pairs in enumerate(sets[:2]):
        fill(pairs, limit)
        [name] = {file.name for file in cache_folder.iterdir()} - set(names)
        os.utime(cache_folder / name, (1000 + age, 1000 + age))
        names.append(name)
    fill(sets[0], limit)  # the last one to be used
    fill(sets[2], limit)
    remaining = {file.name for file in cache_folder.iterdir()}
    assert names[0] in remaining and names[1] not in remaining and len(remaining) == 2


def test_a_cache_in_use_is_not_removed(make_pairs, cache_folder, caplog):
    sets = [opened(make_pairs(name=f"pairs{i}", seed=i)) for i in range(2)]
    limit = (file_size(sets[0]) + file_size(sets[0], 2)) / 1e9
    used = fill(sets[0], limit)
    assert files.is_in_use(only_file(cache_folder))
    fill(sets[1], limit)
    assert "has room for 2 of 6" in caplog.text
    assert sorted(file.stat().st_size for file in cache_folder.iterdir()) == [file_size(sets[0], 2), file_size(sets[0])]
    assert used.read(0) is not None
    del used
    assert not any(map(files.is_in_use, cache_folder.iterdir()))


@pytest.mark.slow
def test_a_run_trains_on_it(shapes_dir, tmp_path, cache_folder):
    states = [
        runs.train(runs.tiny("pix2pix", shapes_dir, {"data.cache_gb": 0.0, "data.disk_cache_gb": most_gb}), tmp_path / str(most_gb))
        for most_gb in (0.0, 1.0, 1.0)
    ]
    only_file(cache_folder)
    for state in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, state.params, states[0].params)
