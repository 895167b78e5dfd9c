"""Checkpoints: restored bit for bit, on any devices; damaged steps are skipped; each error is one line."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from i2i_jax.storage.checkpoints import CheckpointError, Checkpoints, restore_for_inference


@flax.struct.dataclass
class TrainState:
    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: dict


def replicated() -> NamedSharding:
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec())


def make_state(seed: int, width: int = 64) -> TrainState:
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "generator": {"conv": {"kernel": jax.random.normal(keys[0], (width, 48)), "bias": jnp.arange(5, dtype=jnp.bfloat16) / 3}},
        "encoder": {"dense": {"kernel": jnp.array([jnp.nan, -0.0, jnp.inf, seed])}},
        "discriminator": {"conv": {"kernel": jax.random.normal(keys[1], (3, 7))}},
    }
    stats = {"generator": {"norm": {"mean": jax.random.normal(keys[2], (5,))}}, "encoder": {}, "discriminator": {}}
    tx = optax.adam(optax.linear_schedule(1e-3, 0, 10))
    return TrainState(jnp.int32(seed), params, stats, {name: tx.init(p) for name, p in params.items()})


def template(width: int = 64, sharding=None) -> TrainState:
    abstract = jax.eval_shape(lambda: make_state(0, width))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract)


def assert_same_bits(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def write(directory: Path, steps, **options) -> Path:
    checkpoints = Checkpoints(directory, **{"keep": 9} | options)
    for step in steps:
        checkpoints.save(step, make_state(step))
    checkpoints.close()
    return directory


def steps_on_disk(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


@pytest.mark.parametrize("devices", [1, 8])
def test_restores_the_same_bits_on_other_devices(tmp_path, devices):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    saved = jax.device_put(make_state(3), replicated())
    checkpoints.save(3, saved)
    sharding = replicated() if devices == 8 else SingleDeviceSharding(jax.devices()[1])
    restored = checkpoints.restore(template(sharding=sharding))
    assert_same_bits(restored, saved)
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(restored))
    checkpoints.close()


def test_state_may_be_donated_while_it_is_written(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    state = make_state(1, width=20_000)
    expected = jax.tree.map(lambda x: np.array(x, copy=True), state)
    checkpoints.save(1, state)
    zeros = jax.jit(lambda state: jax.tree.map(jnp.zeros_like, state), donate_argnums=0)
    jax.block_until_ready(zeros(state))
    assert_same_bits(checkpoints.restore(template(width=20_000)), expected)
    checkpoints.close()


@pytest.mark.parametrize(("higher_is_better", "best"), [(False, 2), (True, 4)])
def test_keeps_the_newest_and_the_best(tmp_path, higher_is_better, best):
    options = {"keep": 2, "best_metric": "l1", "higher_is_better": higher_is_better}
    checkpoints = Checkpoints(tmp_path, **options)
    scores = {1: 0.5, 2: 0.1, 3: float("nan"), 4: 0.9, 5: 0.4, 6: None, 7: None}
    for step, score in scores.items():
        checkpoints.save(step, make_state(step), metrics=None if score is None else {"l1": score, "other": 1.0})
    assert (checkpoints.latest(), checkpoints.best()) == (7, best)
    checkpoints.close()
    assert steps_on_disk(tmp_path) == [best, 6, 7]

    reopened = Checkpoints(tmp_path, **options)
    reopened.save(8, make_state(8))
    assert (reopened.latest(), reopened.best()) == (8, best)
    reopened.close()
    assert steps_on_disk(tmp_path) == [best, 7, 8]


def test_without_a_metric_the_newest_stay(tmp_path):
    write(tmp_path, [1, 2, 3, 4], keep=2)
    assert steps_on_disk(tmp_path) == [3, 4]
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.best() is None
    checkpoints.close()


def test_an_empty_directory_has_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path / "a" / "b", keep=1, best_metric="l1")
    assert checkpoints.latest() is None and checkpoints.best() is None
    with pytest.raises(CheckpointError, match=r"a/b: no checkpoint$"):
        checkpoints.restore(template())
    checkpoints.close()


@pytest.mark.parametrize("step", [1, 2])
def test_refuses_a_step_not_after_the_newest(tmp_path, step):
    checkpoints = Checkpoints(write(tmp_path, [2]), keep=2)
    with pytest.raises(CheckpointError, match=f"cannot save step {step}: step 2 is there already"):
        checkpoints.save(step, make_state(9))
    assert_same_bits(checkpoints.restore(template()), make_state(2))
    checkpoints.close()


def largest_file(step_path: Path) -> Path:
    return max((file for file in step_path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def truncate(file: Path, size: int | None = None):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 if size is None else size])


def flip_a_bit(file: Path):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


DAMAGES = {
    "everything in it deleted": lambda step: [shutil.rmtree(path) if path.is_dir() else path.unlink() for path in step.iterdir()],
    "state deleted": lambda step: shutil.rmtree(step / "state"),
    "arrays deleted": lambda step: shutil.rmtree(step / "state" / "ocdbt.process_0"),
    "data deleted": lambda step: largest_file(step).unlink(),
    "data truncated": lambda step: truncate(largest_file(step)),
    "data empty": lambda step: truncate(largest_file(step), 0),
    "metadata deleted": lambda step: (step / "state" / "_METADATA").unlink(),
    "metadata truncated": lambda step: truncate(step / "state" / "_METADATA"),
    "array metadata empty": lambda step: truncate(step / "state" / "array_metadatas" / "process_0", 0),
    "index truncated": lambda step: truncate(step / "state" / "manifest.ocdbt"),
    "bit flipped in the index": lambda step: flip_a_bit(step / "state" / "manifest.ocdbt"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_falls_back_from_a_damaged_step_and_trains_on(tmp_path, caplog, capfd, damage):
    damage(write(tmp_path, [1, 2]) / "2")
    checkpoints = Checkpoints(tmp_path, keep=2)
    caplog.clear()
    assert_same_bits(checkpoints.restore(template()), make_state(1))
    assert checkpoints.latest() == 1
    [warning] = caplog.messages
    assert f"{tmp_path}: step 2 is damaged" in warning and "\n" not in warning
    assert "Traceback" not in capfd.readouterr().err

    checkpoints.save(2, make_state(20))
    checkpoints.close()
    assert (tmp_path / "2.damaged").is_dir()
    assert_same_bits(restore_for_inference(tmp_path, template()), make_state(20))


def test_a_step_damaged_twice_is_set_aside_twice(tmp_path):
    write(tmp_path, [1])
    for _ in range(2):
        checkpoints = Checkpoints(tmp_path, keep=2)
        checkpoints.save(2, make_state(2))
        checkpoints.wait()
        truncate(largest_file(tmp_path / "2"))
        assert_same_bits(checkpoints.restore(template()), make_state(1))
        checkpoints.close()
    assert steps_on_disk(tmp_path) == [1]


def test_torn_metrics_cost_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3, best_metric="l1")
    for step in (1, 2):
        checkpoints.save(step, make_state(step), metrics={"l1": 1 / step})
    checkpoints.close()
    truncate(tmp_path / "2" / "metrics" / "metrics")
    reopened = Checkpoints(tmp_path, keep=3, best_metric="l1")
    assert reopened.best() == 1
    assert_same_bits(reopened.restore(template()), make_state(2))
    reopened.close()


def test_passes_over_foreign_files(tmp_path):
    write(tmp_path, [1])
    (tmp_path / "7").write_text("a file, not a step")
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("0005", "-3", "2.damaged", "best", "9.orbax-checkpoint-tmp"):
        (tmp_path / name).mkdir()
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.latest() == 1
    assert_same_bits(checkpoints.restore(template()), make_state(1))
    checkpoints.save(8, make_state(8))
    checkpoints.close()
    assert (tmp_path / "notes.txt").read_text() == "mine" and (tmp_path / "7").is_file() and (tmp_path / "best").is_dir()


def test_reports_that_all_steps_are_damaged_and_moves_nothing(tmp_path):
    write(tmp_path, [1, 2])
    for step in (1, 2):
        truncate(largest_file(tmp_path / str(step)))
    before = sorted(tmp_path.rglob("*"))
    checkpoints = Checkpoints(tmp_path, keep=2)
    with pytest.raises(CheckpointError, match=f"^{tmp_path}: all checkpoints are damaged: 1, 2$"):
        checkpoints.restore(template())
    checkpoints.close()
    assert sorted(tmp_path.rglob("*")) == before


def without(name: str) -> TrainState:
    whole = template()
    return whole.replace(params={key: value for key, value in whole.params.items() if key != name})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (template(width=32), r"step 1: params.generator.conv.kernel is float32\[64, 48\], the model's is float32\[32, 48\]"),
        (template().replace(step=jax.ShapeDtypeStruct((), jnp.int8)), r"step 1: step is int32\[\], the model's is int8\[\]"),
        (
            template().replace(batch_stats={"generator": template().params}),
            r"step 1 has no batch_stats.generator.discriminator.conv.kernel",
        ),
        (without("encoder"), r"step 1 has params.encoder.dense.kernel, which the model does not have"),
    ],
)
def test_names_the_first_array_that_does_not_fit(tmp_path, other, message):
    checkpoints = Checkpoints(write(tmp_path, [1]), keep=1)
    with pytest.raises(CheckpointError, match=message) as error:
        checkpoints.restore(other)
    assert "\n" not in str(error.value)
    checkpoints.close()
    assert steps_on_disk(tmp_path) == [1]


def inference_template() -> dict:
    whole = template()
    return {part: {name: getattr(whole, part)[name] for name in ("generator", "encoder")} for part in ("params", "batch_stats")}


def test_inference_reads_only_what_it_names(tmp_path):
    write(tmp_path, [1, 2])
    shape = inference_template()
    for step, expected in [(None, 2), (1, 1), (2, 2)]:
        state = make_state(expected)
        partial = {part: {name: getattr(state, part)[name] for name in shape[part]} for part in shape}
        assert_same_bits(restore_for_inference(tmp_path, shape, step=step), partial)


def test_inference_from_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best_metric="psnr", higher_is_better=True)
    for step, psnr in [(1, 20.0), (2, 30.0), (3, 25.0)]:
        checkpoints.save(step, make_state(step), metrics={"psnr": psnr})
    checkpoints.close()
    assert restore_for_inference(tmp_path, {"step": template().step}, step="best")["step"] == 2


def test_inference_falls_back_and_changes_nothing(tmp_path):
    truncate(largest_file(write(tmp_path, [1, 2]) / "2"))
    before = sorted(tmp_path.rglob("*"))
    assert restore_for_inference(tmp_path, template()).step == 1
    with pytest.raises(CheckpointError, match="step 2 is damaged"):
        restore_for_inference(tmp_path, template(), step=2)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("step", "message"), [(7, "no checkpoint 7: there is 1"), ("best", "no checkpoint 'best': there is 1")])
def test_inference_names_the_steps_there_are(tmp_path, step, message):
    with pytest.raises(CheckpointError, match=message):
        restore_for_inference(write(tmp_path, [1]), template(), step=step)


def test_inference_without_checkpoints(tmp_path):
    with pytest.raises(CheckpointError, match="absent: no checkpoint$"):
        restore_for_inference(tmp_path / "absent", template())
    assert not (tmp_path / "absent").exists()


def test_a_directory_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file: cannot hold checkpoints") as error:
        Checkpoints(tmp_path / "file", keep=1)
    assert "\n" not in str(error.value)


SAVE_ON_A_FULL_DISK = """
import resource, sys
import jax
from i2i_jax.storage.checkpoints import CheckpointError, Checkpoints
checkpoints = Checkpoints(sys.argv[1], keep=2)
checkpoints.save(1, {"params": jax.numpy.ones(3)})
checkpoints.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
checkpoints.save(2, {"params": jax.random.normal(jax.random.key(0), (1000, 1000))})
try:
    checkpoints.wait()
except CheckpointError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_costs_no_earlier_step(tmp_path):
    # In a separate process, because Orbax's threads would raise their errors in a later test.
    command = [sys.executable, "-c", SAVE_ON_A_FULL_DISK, str(tmp_path)]
    output = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True).stdout
    assert output.startswith(f"{tmp_path}: cannot save") and output.count("\n") == 1
    restored = restore_for_inference(tmp_path, {"params": jax.ShapeDtypeStruct((3,), jnp.float32)})
    assert np.array_equal(restored["params"], np.ones(3))


SAVE_WITHOUT_END = """
import itertools, sys
import jax.numpy as jnp
from i2i_jax.storage.checkpoints import Checkpoints
checkpoints = Checkpoints(sys.argv[1], keep=2)
for step in itertools.count(1):
    checkpoints.save(step, {"params": jnp.full((1000, 1000), step)})
    print(step, flush=True)
"""


def test_after_a_kill_the_newest_whole_step_is_found(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", SAVE_WITHOUT_END, str(tmp_path)], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE)
    with child:
        begun = next(int(line) for line in child.stdout if int(line) >= 4)
        child.send_signal(signal.SIGKILL)
    checkpoints = Checkpoints(tmp_path, keep=2)
    newest = checkpoints.latest()
    assert newest >= begun - 1
    restored = checkpoints.restore({"params": jax.ShapeDtypeStruct((1000, 1000), jnp.int32)})
    assert np.array_equal(restored["params"], np.full((1000, 1000), newest))
    checkpoints.save(newest + 1, restored)
    checkpoints.close()
    assert not list(tmp_path.glob("*tmp*"))
