"""The pages of runs, evaluations and translations: content, escaping and links."""

import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from i2i_jax.config import Config, to_json
from i2i_jax.pages import grids, meanings
from i2i_jax.pages.evaluation import write_evaluation
from i2i_jax.pages.run import DEVICE_FIGURES, MAX_POINTS, write_run
from i2i_jax.pages.translation import ROWS, Translated, write_translation
from i2i_jax.storage import files
from i2i_jax.training.log import RunLog

HOSTILE = "</script><script>alert('&\"')</script>"


EVALUATION = {
    "step": 2000,
    "split": "test",
    "figures": {"l1": 0.125, "psnr": "Infinity", "lpips_v0.1_alex": 0.5, "kl_by_dimension": [0.25, 4.75]},
    "standard_errors": {"l1": 0.0625},
    "metrics": ["l1", "psnr"],
    "notes": ["<few> images"],
    "weights": {"alex.pth": "5eed"},
    "versions": {"jax": "0.10.2"},
}


class Page(HTMLParser):
    """The parsed page: elements with their attributes, scripts, and text outside of scripts and styles."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements, self.text, self.scripts, self._inside = [], "", [], ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0], parse_constant=lambda constant: pytest.fail(constant))


def run_folder(workdir: Path, *, rows: int = 30, total: int = 6000) -> Path:
    config = Config()
    config.train.steps = total
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(to_json(config))
    with (workdir / "metrics.jsonl").open("w") as file:
        for i in range(1, rows + 1):
            row = {"step": 100 * i, "time": 10.0 * i, "generator/gan": 1 / i, "generator/l1": i, "discriminator/gan": 0.25}
            file.write(json.dumps(row | {"learning_rate": 2e-4, "steps_per_second": 10.0}) + "\n")
    for step in (1000, 2000):
        grids.save_grid(workdir / f"samples/{step:08d}.png", [[np.zeros((96, 96), np.uint8)]], labels=["input"])
    files.atomic_write(workdir / "evaluation/00002000.json", json.dumps(EVALUATION).encode())
    return workdir


def page_of(workdir: Path) -> Page:
    write_run(workdir)
    return Page(workdir / "index.html")


def test_the_page_of_a_run(tmp_path):
    page = page_of(run_folder(tmp_path / "my run"))
    assert "my run" in page.text
    for text in ("3,000 of 6,000", "bicycle_gan · shapes · training", "0:05:00", "20.0", "2.0e-4", "0.1250", "Infinity", "weights.l1"):
        assert text in page.text
    assert page.data["charts"][0]["steps"] == list(range(100, 3001, 100))
    assert {chart["name"]: [term["name"] for term in chart["terms"]] for chart in page.data["charts"]} == {
        "Generator": ["gan", "l1"],
        "Discriminator": ["gan"],
    }
    assert page.data["charts"][0]["terms"][1]["values"] == [float(i) for i in range(1, 31)]
    assert page.data["charts"][0]["terms"][0]["colour"] == page.data["charts"][1]["terms"][0]["colour"]
    (sheet,) = page.data["sheets"]
    assert [sample["step"] for sample in sheet["samples"]] == [1000, 2000]
    assert all((tmp_path / "my run" / sample["source"]).is_file() for sample in sheet["samples"])
    assert page.data["finished"] is False


def test_what_the_devices_did_is_shown_where_it_is_known(tmp_path):
    workdir = run_folder(tmp_path)
    assert not any(name in page_of(workdir).text for name, _ in DEVICE_FIGURES.values())
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    rows[-2] |= {"share_of_time_in_steps": 0.2, "device_memory_peak_gb": 1.5}
    rows[-1] |= {"share_of_time_in_steps": 0.8, "device_memory_peak_gb": 2.25, "share_of_peak": 0.125, "tflops_per_second": "NaN"}
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = page_of(workdir).text
    assert all(shown in text for shown in ("time in steps50 %", "share of its peak12 %", "device memory, at most2.25 GB"))
    assert "TFLOP/s of a device" not in text


def test_a_run_at_its_last_step_is_finished(tmp_path):
    page = page_of(run_folder(tmp_path, total=3000))
    assert page.data["finished"] is True
    assert "finished" in page.text and "time left" not in page.text


@pytest.mark.parametrize("name", ["run", "translation"])
def test_a_page_loads_nothing_from_elsewhere(tmp_path, name):
    run_folder(tmp_path)
    write_run(tmp_path) if name == "run" else write_translation(tmp_path, [Translated("a.png", ["b.png"])], title="x")
    text = (tmp_path / "index.html").read_text()
    assert not re.search(r"https?:|//[a-z]+\.|@import|\bfetch\(|XMLHttpRequest|\burl\((?!#)", text)
    page = Page(tmp_path / "index.html")
    assert not [value for value in page.attributes("src") + page.attributes("href") if ":" in value and value != "data:,"]


def test_an_empty_folder_has_a_page(tmp_path):
    page = page_of(tmp_path)
    assert "none yet" in page.text
    assert page.data["charts"] == page.data["figures"] == page.data["sheets"] == []


def test_unreadable_files_are_left_out(tmp_path):
    run_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "evaluation/00003000.json").write_bytes(b'{"step": 30\xff')
    (tmp_path / "samples/00003000.png").write_bytes(b"no image")
    (tmp_path / "samples/notes.png").write_bytes(b"")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3100, "gen')
    page = page_of(tmp_path)
    assert page.data["charts"][0]["steps"][-1] == 3000
    (sheet,) = page.data["sheets"]
    assert [sample["step"] for sample in sheet["samples"]] == [1000, 2000, 3000]
    assert sheet["size"] is None


def test_everything_from_files_is_escaped(tmp_path):
    workdir = run_folder(tmp_path / "a<b>&c")
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["path"] = config[HOSTILE] = HOSTILE
    (workdir / "config.json").write_text(json.dumps(config))
    (workdir / "command.txt").write_text(f"run --path {HOSTILE}\n")
    (workdir / "evaluation/<i>.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3100, f"generator/{HOSTILE}": "NaN"}) + "\n")
    page = page_of(workdir)
    assert len(page.scripts) == 3
    assert page.text.count(HOSTILE) == 7  # command; option name and value; data path; column and cell of the evaluation; warning
    assert "a<b>&c" in page.text
    assert HOSTILE in [term["name"] for term in page.data["charts"][0]["terms"]]


def test_the_page_of_an_evaluation(tmp_path):
    path, sheet = tmp_path / "00002000.html", tmp_path / "00002000" / "first.png"
    write_evaluation(path, EVALUATION, {"best by l1": sheet}, title="<run>")
    page = Page(path)
    l1 = f"l1 ↓{meanings.FIGURES['l1']}0.1250 ± 0.0625"
    for text in ("<run>", "step2000", "splittest", l1, "lpips_v0.1_alex ↓LPIPS to the target0.5000", "<few> images", "5eed"):
        assert text in page.text
    assert "kl_by_dimension" not in page.text
    assert page.attributes("src") == ["00002000/first.png"]
    assert "best by l1" in page.text


def test_the_page_of_a_run_links_to_its_evaluations(tmp_path):
    run_folder(tmp_path)
    assert "evaluation/00002000.html" not in page_of(tmp_path).attributes("href")
    write_evaluation(tmp_path / "evaluation" / "00002000.html", EVALUATION, {}, title="x")
    page = page_of(tmp_path)
    assert "evaluation/00002000.html" in page.attributes("href")
    rows = re.findall('<th scope="row">([^<]*)<', (tmp_path / "index.html").read_text())
    assert rows == ["step", "split", "l1", "psnr", "lpips_v0.1_alex"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_are_gaps_and_a_warning(tmp_path, value):
    with RunLog(tmp_path, total_steps=10, start_step=0) as log:
        log.write(1, {"generator/gan": 1.0})
        log.write(2, {"generator/gan": value})
        log.write(3, {"generator/gan": 3.0})
    page = page_of(tmp_path)
    assert page.data["charts"][0]["terms"][0]["values"] == [1.0, None, 3.0]
    assert "NaN or Inf at step 2: generator/gan" in page.text


@pytest.mark.parametrize("rows", [999, 1000, 12_345])
def test_long_runs_are_thinned_evenly_and_end_at_the_last_row(tmp_path, rows):
    page = page_of(run_folder(tmp_path, rows=rows, total=2_000_000))
    steps = page.data["charts"][0]["steps"]
    assert len(steps) <= MAX_POINTS
    assert steps[-1] == rows * 100
    assert len(set(np.diff(steps)[:-1])) == 1
    assert page.data["charts"][0]["terms"][1]["values"] == [step / 100 for step in steps]
    assert (tmp_path / "index.html").stat().st_size < 200_000


def test_the_same_rows_are_shown_as_a_run_grows(tmp_path):
    before = page_of(run_folder(tmp_path, rows=5000)).data["charts"][0]["steps"]
    after = page_of(run_folder(tmp_path, rows=5001 + 300)).data["charts"][0]["steps"]
    assert set(before[:-1]) < set(after)


def test_a_translated_folder_shows_each_input_style_and_output(tmp_path):
    output = tmp_path / "out"
    rows = [
        Translated(tmp_path / "in put/a#1?.png", [output / "a#1?_1.png", output / "a#1?_2.png"], style=tmp_path / "s:<i>.png"),
        Translated(tmp_path / "in put/b.png", [output / "b.png"]),
    ]
    write_translation(output, rows, title="<b>maps</b>")
    page = Page(output / "index.html")
    sources = page.attributes("src")
    assert not any(set(source) & set("#?:<> ") for source in sources)
    resolved = [Path(os.path.normpath(output / unquote(source))) for source in sources]
    assert resolved == [rows[0].input, rows[0].style, *rows[0].outputs, rows[1].input, *rows[1].outputs]
    assert page.attributes("loading") == ["lazy"] * 6
    for text in ("<b>maps</b>", "2 images", "a#1?.png", "b.png", "input", "style", "output"):
        assert text in page.text


def test_a_large_translated_folder_has_several_linked_pages(tmp_path):
    rows = [Translated(tmp_path / f"{i:04d}.png", []) for i in range(2 * ROWS + 1)]
    write_translation(tmp_path, rows, title="x")
    names = ["index.html", "page_0002.html", "page_0003.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    pages = [Page(tmp_path / name) for name in names]
    assert [source for page in pages for source in page.attributes("src")] == [f"{i:04d}.png" for i in range(len(rows))]
    for name, page in zip(names, pages, strict=True):
        assert "401 images" in page.text
        assert [a["href"] for tag, a in page.elements if tag == "a" and "html" in a["href"]] == 2 * names
        assert {a["href"] for _, a in page.elements if "aria-current" in a} == {name}


def test_a_file_name_that_is_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    write_translation(tmp_path, [Translated(tmp_path / name, [])], title="x")
    assert "caf%E9.png" in (tmp_path / "index.html").read_text("utf-8")
