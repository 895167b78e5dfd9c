"""The page of a run in a real browser, used by mouse, keyboard and phone."""

import json
from pathlib import Path

import numpy as np
import pytest

from chromium import needs_chromium
from i2i_jax import config
from i2i_jax.pages import grids
from i2i_jax.pages.run import write_run

pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run of 300 rows, evaluated and sampled three times."""
    folder = tmp_path_factory.mktemp("run")
    options = config.Config()
    options.train.steps = 3000
    (folder / "config.json").write_text(config.to_json(options))
    (folder / "command.txt").write_text("i2i train --config=bicycle")
    random = np.random.default_rng(0)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(10, 3001, 10):
            row = {"step": step, "time": step / 10, "generator/l1": 3 * random.uniform(), "generator/gan": 1.0, "discriminator/gan": 0.5}
            file.write(json.dumps(row | ({"eval/psnr": step / 100, "eval/l1": 1 / step} if step % 1000 == 0 else {})) + "\n")
    for step in (1000, 2000, 3000):
        grids.save_grid(folder / f"samples/{step:08d}.png", [[np.full((96, 96), step % 255, np.uint8)] * 6], labels=["input"] * 6)
    write_run(folder)
    return folder


@pytest.fixture
def opened(browser, run):
    """Opens the page at a width and in a colour scheme; fails on console messages, errors and network requests."""
    contexts, problems = [], []

    def open(width: int = 1200, scheme: str = "light", **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: problems.append(message.text))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda request: request.url.startswith(("file:", "data:")) or problems.append(request.url))
        tab.goto((run / "index.html").as_uri())
        return tab

    yield open
    for context in contexts:
        context.close()
    assert not problems


def curves(tab) -> list[str]:
    return tab.eval_on_selector_all("#charts .curve", "paths => paths.map((path) => path.getAttribute('d'))")


def steps_shown(tab) -> list[str]:
    return tab.eval_on_selector_all("#charts svg >> nth=0 >> text[text-anchor=middle]", "all => all.map((text) => text.textContent)")


def test_smoothing_by_keyboard(opened):
    tab = opened()
    before, raw = curves(tab), tab.locator("#charts .raw").count()
    assert len(before) == raw == 3
    tab.locator("#smoothing").focus()
    tab.keyboard.press("End")
    assert tab.locator("#smoothing-value").text_content() == "0.99"
    assert curves(tab)[0] != before[0]
    tab.keyboard.press("Home")
    assert tab.locator("#charts .raw").count() == 0  # without smoothing the curve is the raw values
    values = tab.locator("#charts .legend span").all_text_contents()
    assert values[1:] == ["1.000", "0.500"]


def test_zoom_by_mouse_and_keyboard(opened):
    tab = opened()
    whole = steps_shown(tab)
    box = tab.locator("#charts svg").first.bounding_box()
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + 0.5 * box["width"], middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.7 * box["width"], middle, steps=3)
    assert tab.locator("#charts .band").count() == 1
    tab.mouse.up()
    zoomed = steps_shown(tab)
    assert zoomed != whole and tab.locator("#whole").is_enabled()
    tab.locator("#whole").click()
    assert steps_shown(tab) == whole and tab.locator("#whole").is_disabled()
    chart = tab.locator("#charts svg").nth(1)
    chart.focus()
    for key in ("ArrowLeft", "+", "+"):
        chart.press(key)
    readouts = tab.locator("#charts .top span").all_text_contents()
    assert readouts == ["step 2,990"] * 2 and steps_shown(tab) != whole
    chart.press("Escape")
    assert steps_shown(tab) == whole


def test_hiding_terms_and_log_scale(opened):
    tab = opened()
    tab.get_by_role("button", name="l1").first.click()
    assert len(curves(tab)) == 2
    tab.get_by_role("button", name="l1").first.click()
    before = curves(tab)
    tab.locator("#log").check()
    assert len(curves(tab)) == 3 and curves(tab)[0] != before[0]


def test_each_metric_has_a_chart(opened):
    tab = opened()
    assert tab.locator("#figures h3").all_text_contents() == ["psnr ↑", "l1 ↓"]
    assert tab.locator("#figures .top span").all_text_contents() == ["30.00 · step 3,000", "3.3e-4 · step 3,000"]
    assert tab.locator("#figures circle").count() == 6
    chart = tab.locator("#figures svg").first
    chart.focus()
    chart.press("ArrowLeft")
    assert tab.locator("#figures .top span").first.text_content() == "20.00 · step 2,000"


def test_samples_by_slider_buttons_and_arrows(opened):
    tab = opened()

    def shown() -> str:
        return Path(tab.locator("#samples img").get_attribute("src")).stem

    assert shown() == "00003000"
    tab.locator("#sample").focus()
    tab.keyboard.press("ArrowLeft")
    assert (shown(), tab.locator("#sample").get_attribute("aria-valuetext")) == ("00002000", "step 2000")
    tab.locator("#sample").evaluate("slider => slider.blur()")
    tab.keyboard.press("ArrowLeft")
    assert shown() == "00001000" and tab.locator("#previous").is_disabled()
    tab.locator("#next").click()
    assert shown() == "00002000"
    assert tab.locator("#samples img").evaluate("image => image.naturalWidth") > 0
    tab.reload()
    assert shown() == "00002000"  # a reload keeps the sample


def test_samples_as_a_film(opened):
    tab = opened()
    tab.locator("#play").click()
    tab.wait_for_function("document.getElementById('sample').value === '0'")
    assert tab.locator("#play").text_content() == "Stop"
    tab.wait_for_function("document.getElementById('play').textContent === 'Play'")
    assert tab.locator("#sample-count").text_content() == "step 3,000 · 3 of 3"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(opened, scheme):
    tab = opened(375, scheme, has_touch=True)
    assert tab.evaluate("document.documentElement.scrollWidth") == 375
    for i in range(tab.locator(".chart").count()):
        box = tab.locator(".chart").nth(i).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 375
    paper, ink = tab.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    light = [sum(map(int, colour[4:-1].split(","))) for colour in (paper, ink)]
    assert abs(light[0] - light[1]) > 500 and (light[0] > light[1]) == (scheme == "light")
    tab.locator("#charts svg").first.tap()
    assert tab.locator("#charts .cursor").count() == 2
    tab.locator("#config summary").tap()
    assert tab.get_by_text("weights.latent").is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") == 375
