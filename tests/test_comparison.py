"""i2i compare: one self-contained page about several runs."""

import base64
import io
import json

import pytest
from PIL import Image

from i2i_jax.config import HIGHER_IS_BETTER, METRICS
from i2i_jax.pages import meanings
from i2i_jax.pages.comparison import GRIDS, write_comparison
from i2i_jax.storage import files
from test_page import Page, run_folder


@pytest.fixture
def runs(tmp_path):
    """Two runs of different length and weight of l1; the second has one more loss term and no samples."""
    first, second = run_folder(tmp_path / "plain"), run_folder(tmp_path / "tuned", rows=12)
    config = json.loads((second / "config.json").read_text())
    config["weights"]["l1"] = 25.0
    (second / "config.json").write_text(json.dumps(config))
    with (second / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 1300, "generator/mode_seeking": 0.5, "eval/l1": 0.25}) + "\n")
    for grid in (second / "samples").iterdir():
        grid.unlink()
    return [first, second]


def page_of(tmp_path, runs) -> Page:
    write_comparison(tmp_path / "page.html", runs)
    return Page(tmp_path / "page.html")


def test_the_curves_of_all_runs_share_a_chart(tmp_path, runs):
    charts = {chart["name"]: chart for chart in page_of(tmp_path, runs).data["charts"]}
    assert list(charts) == ["Generator gan", "Generator l1", "Discriminator gan", "Generator mode_seeking"]
    plain, tuned = charts["Generator l1"]["terms"]
    assert (plain["name"], tuned["name"]) == ("plain", "tuned") and plain["colour"] != tuned["colour"]
    assert plain["steps"] == list(range(100, 3001, 100)) and tuned["steps"] == list(range(100, 1201, 100))
    assert tuned["values"] == [float(i) for i in range(1, 13)]
    assert charts["Generator l1"]["steps"] == plain["steps"]
    (only,) = charts["Generator mode_seeking"]["terms"]
    assert (only["name"], only["colour"], only["steps"]) == ("tuned", tuned["colour"], [1300])


def test_figures_say_what_they_mean_and_which_direction_is_better(tmp_path, runs):
    (chart,) = page_of(tmp_path, runs).data["figures"]
    assert (chart["name"], chart["higher"], chart["meaning"]) == ("l1", False, meanings.FIGURES["l1"])


def test_only_options_that_differ_are_listed(tmp_path, runs):
    text = page_of(tmp_path, runs).text
    assert "weights.l110.025.0" in text.replace("\n", "") and "weights.kl" not in text
    assert "All options are equal" in page_of(tmp_path, [runs[0], runs[0]]).text


def test_samples_are_in_the_page(tmp_path, runs):
    (sheet,) = page_of(tmp_path, runs).data["sheets"]
    assert sheet["name"] == "plain" and [sample["step"] for sample in sheet["samples"]] == [1000, 2000]
    kind, data = sheet["samples"][0]["source"].split(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as embedded, Image.open(runs[0] / "samples/00001000.png") as original:
        assert kind == "data:image/webp;base64" and embedded.size == original.size
    assert page_of(tmp_path, runs).attributes("src") == []


def test_many_samples_are_thinned_and_end_with_the_newest(tmp_path, runs):
    png = (runs[0] / "samples/00001000.png").read_bytes()
    for step in range(100):
        files.atomic_write(runs[0] / f"samples/{step:08d}.png", png)
    (sheet,) = page_of(tmp_path, runs).data["sheets"]
    steps = [sample["step"] for sample in sheet["samples"]]
    assert len(steps) == GRIDS and steps[0] == 0 and steps[-1] == 2000


def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path):
    page = page_of(tmp_path, [run_folder(tmp_path / name / "run") for name in "ab"])
    assert [term["name"] for term in page.data["charts"][0]["terms"]] == ["a/run", "b/run"]


def test_evaluations_of_all_runs_are_columns(tmp_path, runs):
    text = page_of(tmp_path, runs).text
    assert "plain · 00002000" in text and "tuned · 00002000" in text and meanings.FIGURES["l1"] in text


def test_the_command(tmp_path, runs, command):
    assert command("compare", *map(str, runs), f"--output={tmp_path}/both.html") == (0, f"written: {tmp_path}/both.html\n", "")
    assert Page(tmp_path / "both.html").data["charts"]


def test_what_is_no_run_is_refused(tmp_path, runs, command):
    for arguments, message in (
        ([runs[0]], "1 runs: name 2 to 6 folders of runs"),
        ([runs[0], tmp_path / "nowhere"], f"{tmp_path}/nowhere: has no metrics.jsonl: name the folder of a run, as given to --workdir"),
    ):
        assert command("compare", *map(str, arguments)) == (2, "", f"error: {message}\n")


def test_every_figure_has_a_meaning():
    assert [figure for figure in HIGHER_IS_BETTER if not meanings.of_figure(figure)] == []
    known = {figure for figures in METRICS.values() for figure in figures}
    assert set(meanings.FIGURES) - known == {"kl"}
    assert meanings.of_figure("fid_low") == f"{meanings.FIGURES['fid']}: lower end of the 95 % interval"
    assert meanings.of_figure("step") == ""
