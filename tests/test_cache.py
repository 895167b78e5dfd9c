"""The user's cache directory, and the removal of its oldest files."""

import os

from i2i_jax.storage import cache


def test_the_oldest_files_go_until_the_rest_fits(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache.folder("compiled")
    assert folder == tmp_path / "i2i_jax" / "compiled"
    folder.mkdir(parents=True)
    for age, (name, size) in enumerate({"new": 30, "middle": 40, "old": 20, "oldest": 50}.items()):
        (folder / name).write_bytes(bytes(size))
        os.utime(folder / name, (10_000 - age, 10_000 - age))
    (folder / "a folder").mkdir()
    assert cache.bounded("compiled", most=140) == folder
    assert len(list(folder.iterdir())) == 5
    cache.bounded("compiled", most=89)
    assert {path.name for path in folder.iterdir()} == {"new", "middle", "a folder"}


def test_a_folder_that_is_not_there_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not cache.bounded("compiled", most=1).exists()
