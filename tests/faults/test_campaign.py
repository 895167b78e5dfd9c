"""Kills and stops a run and resumes it with the same command: a short version of benchmarks/faults.py, which repeats every fault."""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def campaign():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import campaign

        yield campaign
        for name in ("campaign", "crash_target", "tables"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("system", "faults"),
    [
        ("pix2pix", [("dataset preparation", 20, 0.0), ("asynchronous save", 2, 0.01), ("SIGTERM", 3, 0.0)]),
        ("bicycle", [("deletion of an old checkpoint", 7, 0.0), ("Ctrl-C", 2, 0.0), ("renaming a finished file", 9, 0.0)]),
    ],
)
def test_a_run_that_is_killed_and_stopped_ends_as_an_undisturbed_one(campaign, tmp_path, system, faults):
    """pix2pix covers dropout, batch norm and alternating updates; BicycleGAN covers latents."""
    whole, parts = (campaign.Place(system, 24, tmp_path / name, tmp_path / "compiled") for name in ("whole", "parts"))
    ended = whole.run(None)
    assert ended.finished and ended.output.splitlines()[-1] == f"done: open {whole.folder / 'run' / 'index.html'}"
    expected = campaign.record(whole)
    assert expected["steps"] and set(expected["grids"]) == {f"{step:08d}.png" for step in range(4, 25, 4)}
    wanted = [campaign.Fault(*fault) for fault in faults]
    hit, wrong = campaign.run_with_faults(parts, wanted[::-1], expected)
    assert not wrong
    assert [fault for fault, _ in hit] == wanted
