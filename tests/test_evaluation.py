import json
import re

import numpy as np
import pytest

from i2i_jax import build, config, evaluation
from i2i_jax.data import augment, shapes


def figures(out: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^(\w+) +([\d.]+)$", out, re.MULTILINE)}


@pytest.mark.parametrize("name", ["bicycle", "pix2pix"])
def test_evaluate_prints_a_table_and_writes_json(command, trained, name):
    run = trained(name)
    answers = [command("evaluate", f"--run={run}", "--samples=3", "--inputs=4") for _ in range(2)]
    assert answers[0] == answers[1]
    status, out, err = answers[0]
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "step 2, split test, inputs 4, samples 3"
    written = json.loads((run / "evaluation" / "00000002_test.json").read_text())
    protocol = {key: written.pop(key) for key in ("step", "split", "inputs", "samples")}
    assert protocol == {"step": 2, "split": "test", "inputs": 4, "samples": 3}
    expected = {"l1", "modes", "valid", "total_variation"} | ({"l1_encoded"} if name == "bicycle" else set())
    assert set(written) == expected
    assert figures(out) == {key: float(f"{value:.4f}") for key, value in written.items()}
    assert "00000002_test" in (run / "index.html").read_text()


def test_the_figures_are_those_of_training(command, trained):
    """Of the same checkpoint, pairs and samples."""
    run = trained("bicycle")
    assert command("evaluate", f"--run={run}", "--split=val")[0] == 0
    written = json.loads((run / "evaluation" / "00000002_val.json").read_text())
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    for name in ("l1", "l1_encoded"):
        assert written[name] == pytest.approx(row[f"eval/{name}"], abs=1e-6)


def test_wrong_usage(command, trained):
    for option, message in (("--split=all", "split"), ("--samples=0", "samples"), ("--input=3", "input")):
        status, _, err = command("evaluate", f"--run={trained('bicycle')}", option)
        assert (status, err.count("\n")) == (2, 1), err
        assert message in err


def test_figures_of_known_cases():
    outline, material = shapes.example("test", 0)
    answers = [augment.scale(shapes.render(shapes.coverage(outline), m)) for m in range(6)]
    image = np.asarray(augment.scale(np.stack([outline] * 3, -1)))
    target = np.asarray(answers[material])
    perfect = evaluation.Case(image, target, np.stack(answers), target)
    collapsed = evaluation.Case(image, target, np.stack([target] * 6), -target)
    found = evaluation.evaluate([perfect], known_modes=True)
    assert found["modes"] == 6
    assert found["valid"] == 1
    assert found["total_variation"] == pytest.approx(0)
    assert found["l1_encoded"] == 0
    found = evaluation.evaluate([collapsed], known_modes=True)
    assert (found["l1"], found["modes"]) == (0, 1)
    assert found["total_variation"] == pytest.approx(5 / 6)
    assert found["l1_encoded"] == pytest.approx(np.abs(target).mean())
    both = evaluation.evaluate([perfect, collapsed], known_modes=True)
    assert both["modes"] == 3.5
    assert set(evaluation.evaluate([collapsed._replace(encoded=None)], known_modes=False)) == {"l1"}


def test_samples_that_would_be_equal_are_made_once(trained):
    run = trained("pix2pix")
    game, state = build.load(run)
    options = build.read_config(run)
    pairs = build.pairs(options, "val")
    for mode, count in ((build.mode(options), 3), (build.mode(options)._replace(dropout=False), 1)):
        found = evaluation.cases(game.networks, mode, pairs, size=64, inputs=2, samples=3)(state)
        assert [case.samples.shape for case in found] == [(count, 64, 64, 3)] * 2
        assert all(case.encoded is None for case in found)


def test_every_figure_can_choose_the_best():
    assert set(evaluation.HIGHER_IS_BETTER) == set(config.CHOICES["eval.best_metric"])
