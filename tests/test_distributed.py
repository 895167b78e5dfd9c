"""Several processes on one machine: they train and stop like one process, and exit when one is gone."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import runs
from i2i_jax import build
from i2i_jax.config import Config, ConfigError
from i2i_jax.devices import crashes, processes
from i2i_jax.storage import checkpoints, metrics_file
from i2i_jax.train_state import TrainState
from tiny import batch_of, mapped, sgd_game, state_of

DEADLINE = 240  # seconds, on a busy machine
# Gloo's threads print these lines in pieces, in any order
GLOO = re.compile(r"(?m)^(?:\[Gloo\] Rank | is connected to | peer ranks\. |Expected number of connected peer ranks is : |\d+)*\n")
GONE = "error: another process of this run has ended or cannot be reached"


def environment(compiled: Path, *, devices: int) -> dict[str, str]:
    here = runs.CONFIGS.parent
    return os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(here), str(here / "tests")]),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start(command: list[str], **options) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE)
    return process.returncode, GLOO.sub("", out), err


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """The compilation cache that the tests share."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def started():
    """A list of processes, which are killed after the test."""
    processes_to_kill = []
    yield processes_to_kill
    for process in processes_to_kill:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_two_processes_with_two_devices_each_train_like_one_with_four(tmp_path, started, compiled):
    address, out = free_address(), tmp_path / "result.npz"
    script = [sys.executable, str(Path(__file__).parent / "two_processes.py"), address]
    for number in "01":
        command = [*script, number, str(tmp_path / "shapes"), str(out)]
        started.append(start(command, env=environment(compiled, devices=2)))
    game, batch = sgd_game("bicycle_gan"), batch_of(16)
    after, losses = mapped(game, 4, state_of(game, batch), batch)
    first, second = map(end, started)
    assert (first[:2], second[:2]) == ((0, "done\n"), (0, "")), (first, second)
    with np.load(out) as found:
        for name, expected in zip(found, jax.tree.leaves((after.params, losses)), strict=True):
            np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6)


# ---- the command

MAIN = """
from i2i_jax import build, config, main
from i2i_jax.devices import processes
config.SIZE_MULTIPLES["unet_64"] = 8
def shallow(config, whole=build.game):
    import tiny  # which asks jax for its devices
    return tiny.shallow(whole(config))
build.game = shallow
processes.CONNECT_TIMEOUT = {patience}
{more}
main.cli()
"""
CHANGED = "processes.code_hash = lambda: 'other'"
STEPS = 40
OPTIONS = {
    "model.upsample": "transposed",  # nearest upsampling rounds the translations of another number of images otherwise
    "train.steps": STEPS,
    "train.checkpoint_every": 4,
    "train.sample_every": STEPS,
    "train.eval_every": STEPS,
    "eval.metrics": "l1",
    "eval.best_metric": "l1",
}


@pytest.fixture
def train(tmp_path, shapes_dir, started, compiled):
    """Starts the training command in one or two processes, with two devices in total.

    `differing` has options of the second process only; `patches` has code that a process runs first, by its index.
    """

    def train(
        workdir: str, *, processes: int = 2, differing: dict | None = None, patches: dict | None = None, patience: int = DEADLINE
    ) -> list[subprocess.Popen[str]]:
        address, launched = free_address(), []
        for number in range(processes):
            options = runs.TINY | runs.TINY_NETWORKS | runs.OF_16_PIXELS | OPTIONS | {"data.prepared_dir": shapes_dir}
            options |= differing if number and differing else {}
            main = MAIN.format(patience=patience, more=(patches or {}).get(number, ""))  # a busy machine can be silent for long
            command = [sys.executable, "-c", main, f"--config={runs.CONFIGS / 'pix2pix_noise.py'}"]
            command += [f"--workdir={tmp_path / workdir}", *runs.as_flags(options)]
            if processes > 1:
                command += [f"--coordinator_address={address}", f"--num_processes={processes}", f"--process_id={number}"]
            launched.append(start(command, env=environment(compiled, devices=2 // processes)))
        started.extend(launched)
        return launched

    return train


def output_until(process: subprocess.Popen[str], steps: int) -> str:
    """Its output until it has reported the given number of steps."""
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if sum(bool(re.match(r" *\d+/", line)) for line in lines) == steps:
            return "".join(lines)
    pytest.fail("ended before: " + "".join([*lines, *process.communicate()]))


def rows(workdir: Path) -> list[dict]:
    logged = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in metrics_file.TIMING} for row in logged]


def saved_state(workdir: Path, config: Config) -> TrainState:
    template = jax.eval_shape(build.game(config).init, jax.random.key(0), build.example_batch(config))
    return checkpoints.restore_for_inference(workdir / "checkpoints", template)


@pytest.mark.slow
def test_two_processes_that_are_stopped_and_killed_give_the_run_of_one(tmp_path, shapes_dir, shallow, train):
    first, second = train("run")
    output_until(first, 2)
    second.send_signal(signal.SIGTERM)
    (code, out, err), second_result = end(first), end(second)
    assert (code, err, *second_result) == (0, "", 0, "", ""), err
    stopped = re.fullmatch(rf"stopped after step (\d+) of {STEPS}; the same command resumes it", out.splitlines()[-1])
    assert stopped and (tmp_path / "run" / "checkpoints" / stopped[1]).is_dir()

    first, second = train("run")
    assert f"resumes after step {stopped[1]} of {STEPS}" in output_until(first, 6)
    second.kill()
    code, out, err = end(first)
    assert (code, err.startswith(GONE), err.count("\n")) == (1, True, 1), err

    first, second = train("run")
    output_until(first, 2)
    first.kill()
    code, out, err = end(second)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(GONE), err  # what jax's coordination service says may come before

    for workdir in ("run", "whole"):
        assert end(*train(workdir, processes=1))[0] == 0
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "run")] == list(range(1, STEPS + 1))
    config = shallow("pix2pix_noise", shapes_dir, OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, *(saved_state(tmp_path / workdir, config) for workdir in ("run", "whole")))


@pytest.mark.slow
def test_processes_with_different_options_are_refused(tmp_path, train):
    for code, out, err in map(end, train("run", differing={"train.steps": 3})):
        assert (code, out.count("\n") <= 1) == (2, True)
        assert err == f"error: train.steps is {STEPS} in process 0 and 3 in process 1: start all with the same code and options\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_with_different_code_are_refused(tmp_path, train):
    expected = (
        f"error: the code is '{processes.code_hash()}' in process 0 and 'other' in process 1: start all with the same code and options\n"
    )
    for code, out, err in map(end, train("run", patches={1: CHANGED})):
        assert (code, out.count("\n") <= 1, err) == (2, True, expected)
    assert not (tmp_path / "run").exists()


READ_ERROR = """
from i2i_jax.storage import checkpoints
def stored(path, whole=checkpoints.open_stored):
    if path.parent.name == {step!r}:
        raise OSError(5, "Input/output error")
    return whole(path)
checkpoints.open_stored = stored
"""
INVISIBLE = """
from i2i_jax.storage import checkpoints
def steps(directory, all_of_them=checkpoints._steps):
    return [step for step in all_of_them(directory) if step != {step}]
def read(directory, step, *of, whole=checkpoints._read, **more):
    return whole(directory, step if step != {step} else 10**6, *of, **more)
checkpoints._steps, checkpoints._read = steps, read
"""


@pytest.mark.slow
def test_all_processes_resume_from_the_step_that_the_first_one_chooses(tmp_path, shapes_dir, shallow, train):
    """If one cannot read it or does not see it, all exit with one line. Later the same command resumes, bit for bit."""
    config = shallow("pix2pix_noise", shapes_dir, OPTIONS | {"train.steps": STEPS})
    first, second = train("run")
    output_until(first, 6)
    first.send_signal(signal.SIGTERM)
    assert (end(first)[0], end(second)[0]) == (0, 0)
    step = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit())
    for patch, message in ((READ_ERROR, f"step {step} is damaged (OSError"), (INVISIBLE, "is not there, though it was chosen")):
        first, second = (
            end(process) for process in train("run", patches={1: patch.format(step=step if patch is INVISIBLE else str(step))})
        )
        for (code, _, err), prefix in ((first, "error: process 1: "), (second, "error: ")):
            assert (code, err.count("\n"), err.startswith(prefix)) == (1, 1, True), err
            assert message in err
    first, second = train("run", patches={0: READ_ERROR.format(step=str(step))})
    code, out, err = end(first)
    assert (code, end(second)[0]) == (0, 0), err
    assert f"resumes after step {step - step % 4 if step % 4 else step - 4} of {STEPS}" in out
    assert end(*train("whole", processes=1))[0] == 0
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, *(saved_state(tmp_path / workdir, config) for workdir in ("run", "whole")))


REFUSING = """
from i2i_jax.training import run_folder
def refuse(*_):
    raise config.ConfigError("no run")
run_folder.refuse_other_run = refuse
"""
FAILURES = {
    "a folder of its own": (
        1, REFUSING,
        2, "no run",
    ),
    "pairs that it cannot read": (
        1, "from i2i_jax.data.images import ImageError\ndef pairs(*_, **__): raise ImageError('x.png: is gone')\nbuild.pairs = pairs",
        1, "x.png: is gone",
    ),
    "a set that cannot be made": (
        0, "from i2i_jax.data.pix2pix import DownloadError\ndef pairs(*_, **__): raise DownloadError('no network')\nbuild.pairs = pairs",
        1, "no network",
    ),
    "a full disk at the start": (
        0, "from i2i_jax.storage import files\ndef write(*_): raise OSError('config.json: No space left')\nfiles.atomic_write = write",
        1, "config.json: No space left",
    ),
    "no memory for the networks": (
        1, "from i2i_jax.evaluation import evaluate\ndef make(*_, **__): raise MemoryError('of the report')\nevaluate.translations = make",
        1, "of the report",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAILURES)
def test_an_error_in_one_process_is_one_line_in_all(kind, train):
    """They exit at once, and none waits at a barrier."""
    number, patch, status, message = FAILURES[kind]
    own, other = (lambda both: (both[number], both[1 - number]))([end(process) for process in train("run", patches={number: patch})])
    assert own[0] == other[0] == status, (own, other)
    assert [line for line in own[2].splitlines() if line.startswith("error: ")] and message in own[2].splitlines()[-1], own
    assert other[2] == f"error: process {number}: {message}\n"


def test_code_is_a_hash_of_the_source_files(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "__file__", str(tmp_path / "devices" / "processes.py"))
    hashes = {processes.code_hash()}
    for name, text in (("a.py", ""), ("a.py", "x"), ("b/c.py", "x"), ("b/notes.txt", "x")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        hashes.add(processes.code_hash())
    assert len(hashes) == 4


@pytest.mark.slow
@pytest.mark.parametrize("stalled", [0, 1])
def test_a_process_that_stalls(train, stalled):
    """The other one exits by itself; none waits for ever."""
    both = train("run", patience=15)
    output_until(both[0], 2)
    both[stalled].send_signal(signal.SIGSTOP)
    code, out, err = end(both[1 - stalled])
    assert (code, err.splitlines()[-1].startswith(GONE)) == (1, True), err


def test_a_coordinator_that_does_not_exist(compiled, started):
    address = free_address()
    code = f"from i2i_jax.devices import processes; processes.CONNECT_TIMEOUT = 1\nwith processes.connected({address!r}, 2, 1): pass"
    started.append(start([sys.executable, "-c", code], env=environment(compiled, devices=1)))
    assert end(started[0]) == (1, "", f"error: not all processes connected to {address} within 1 seconds\n")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--process_id=1"], "--coordinator_address is missing: --coordinator_address, --num_processes and --process_id belong together"),
        (["--coordinator_address=host", "--num_processes=2", "--process_id=1"], "--coordinator_address is 'host': must be HOST:PORT"),
        (
            ["--coordinator_address=host:1", "--num_processes=2", "--process_id=2"],
            "--process_id is 2, --num_processes 2: must be from 0 to --num_processes - 1",
        ),
        (["--coordinator_address=host:1", "--num_processes=0", "--process_id=0"], "--num_processes 0"),
        (["--coordinator_address=host:1", "--num_processes=two", "--process_id=0"], "--num_processes=two"),
    ],
)
def test_wrong_usage(command, tmp_path, options, part):
    code, out, err = command("train", f"--config={runs.CONFIGS / 'bicycle.py'}", f"--workdir={tmp_path / 'run'}", *options)
    assert (code, out) == (2, "")
    assert part in err and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"SLURM_NTASKS": "2"}, False),  # the tasks of an allocation, in a script that srun did not start
        ({"OMPI_COMM_WORLD_SIZE": "8"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "one,two"}, True),
        ({"TPU_WORKER_HOSTNAMES": "one", "MEGASCALE_NUM_SLICES": "2"}, True),
    ],
)
def test_launchers_of_several_processes_are_recognised(monkeypatch, variables, several):
    joined = []
    monkeypatch.setattr(processes, "_join", joined.append)
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "MEGASCALE_NUM_SLICES", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with processes.connected():
        assert joined == [{}] * several
    with processes.connected(distributed=False):
        assert joined == [{}] * several
    with processes.connected(distributed=True):
        assert len(joined) == several + 1


def test_an_error_in_the_block_is_raised(monkeypatch):
    left = []
    monkeypatch.setattr(processes, "_join", lambda explicit: None)
    monkeypatch.setattr(processes.atexit, "register", left.append)
    with pytest.raises(ConfigError, match="^every process says so$"), processes.connected(distributed=True):
        raise processes.raised_by_all(ConfigError("every process says so"))
    assert not left
    for error in (OSError("disk full"), ConfigError("this process alone says so")):
        with pytest.raises(type(error), match=f"^{error}$"), processes.connected(distributed=True):
            raise error
    assert left == [crashes.exit_now] * 2
