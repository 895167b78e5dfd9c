"""train.profile: a trace of some steps."""

import gzip
import json

import jax
import numpy as np
import pytest

from i2i_jax.config import Config, ConfigError, profiled_steps, validate
from i2i_jax.training import profile


def run_steps(workdir, option: str, first: int = 1, last: int = 6) -> list[int]:
    """Runs the steps from `first` to `last`, each a jitted sum; returns those at whose end the trace was written."""
    config, results, done, written = Config(), [np.ones(8)], [], []
    config.train.profile = option
    double = jax.jit(lambda x: 2 * x)
    for step in profile.traced(range(first, last + 1), config, workdir, wait=lambda: jax.block_until_ready(results)):
        if list(workdir.rglob("perfetto_trace.json.gz")) and not written:
            written.append(step - 1)
        results.append(double(results[-1]))
        done.append(step)
    assert done == list(range(first, last + 1)) and results[-1][0] == 2.0 ** len(done)
    return written


def traced_steps(workdir) -> list[int]:
    (trace,) = workdir.rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))
    events = events["traceEvents"] if isinstance(events, dict) else events
    return sorted(int(event["args"]["step_num"]) for event in events if event.get("name") == "step" and "args" in event)


@pytest.mark.slow
def test_the_steps_asked_for_are_traced(tmp_path, capsys):
    assert run_steps(tmp_path, "2:3") == [4]
    assert traced_steps(tmp_path / "profile") == [2, 3, 4]
    assert capsys.readouterr().out == f"profile written: {tmp_path}/profile; TensorBoard's profile plugin and Perfetto open it\n"


@pytest.mark.slow
def test_a_run_that_resumes_or_ends_in_between_traces_what_is_left(tmp_path):
    run_steps(tmp_path, "2:5", first=5)
    assert traced_steps(tmp_path / "profile") == [5, 6]


def test_no_trace_without_the_option(tmp_path):
    assert run_steps(tmp_path, "") == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["100", "0:5", "5:0", "-1:3", "a:b", "1:2:3", ":"])
def test_another_form_is_refused(text):
    config = Config()
    config.train.profile = text
    with pytest.raises(ConfigError, match=f"train.profile is '{text}': must be START:COUNT"):
        validate(config)


def test_the_steps_of_the_option():
    assert list(profiled_steps("100:3")) == [100, 101, 102] and not profiled_steps("")
