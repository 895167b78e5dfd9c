"""Programs that are traced once: the same step to the last bit, from a file that is kept, and traced again where anything differs."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax import parallel, programs
from i2i_jax.objectives import Losses


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def run():
    """Runs a step in a new function, as a new process does; gives its result and how often the step was traced."""

    def run(origin: str | None = "this test", *, rows: int = 8, devices: int = 2):
        mesh, traced = parallel.make_mesh(jax.devices()[:devices]), []

        def step(state, batch, key):
            traced.append(1)
            noise = jax.random.normal(key, state["weight"].shape) @ jnp.ones((3, 3))
            gradient = parallel.mean(batch["rows"].mean(0) + noise, parallel.AXIS)
            return {"weight": state["weight"] - gradient}, Losses({"l1": gradient.sum()}, {})

        state = jax.device_put({"weight": np.ones(3, np.float32)}, parallel.replicated(mesh))
        batch = parallel.global_batch({"rows": np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)}, mesh)
        result = parallel.data_parallel(step, mesh, origin=origin)(state, batch, jax.random.key(1))
        return result, len(traced)

    return run


def test_a_program_is_traced_once_and_the_same_to_the_last_bit(folder, run):
    plain, first, second = run(origin=None), run(), run()
    assert (plain[1], first[1], second[1]) == (1, 1, 0)
    for result, _ in (first, second):
        jax.tree.map(np.testing.assert_array_equal, result, plain[0])
    assert len(list(folder.glob("*.traced"))) == 1


@pytest.mark.parametrize("other", [{"origin": "another"}, {"rows": 4}, {"devices": 1}])
def test_another_program_is_traced(folder, run, other):
    run()
    assert run(**other)[1] == 1


@pytest.mark.parametrize(("name", "value"), [("jax_default_matmul_precision", "highest"), ("jax_threefry_partitionable", False)])
def test_another_option_of_jax_is_traced(folder, run, name, value):
    run()
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        assert run()[1] == 1
    finally:
        jax.config.update(name, before)


def test_other_code_is_traced(folder, run, monkeypatch):
    run()
    monkeypatch.setattr(programs.processes, "code", lambda: "other")
    assert run()[1] == 1


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"", lambda content: bytes(len(content))])
def test_a_damaged_file_is_made_anew(folder, run, damage):
    run()
    (file,) = folder.glob("*.traced")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert [run()[1], run()[1]] == [1, 0]
    assert file.read_bytes() == whole


def test_without_a_local_folder_nothing_is_kept(folder, run):
    jax.config.update("jax_compilation_cache_dir", None)
    assert [run()[1], run()[1]] == [1, 1]
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert [run()[1], run()[1]] == [1, 1]
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert not list(folder.glob("*.traced"))


def test_a_folder_that_cannot_be_written_stops_nothing(folder, run):
    (folder / "file").write_text("")
    jax.config.update("jax_compilation_cache_dir", str(folder / "file"))
    assert run()[1] == 1
