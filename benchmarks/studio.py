"""Seconds from a click in the studio until the page shows a new picture, in Chromium (extras `studio` and `browser`).

python benchmarks/studio.py --run=RUN [--rounds=10]
"""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import tables
import timing
from absl import flags
from playwright.sync_api import Page, sync_playwright

from i2i_jax.commands import app

_RUN = flags.DEFINE_string("run", "runs/bicycle-shapes", "The folder of a trained run that has a latent.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Repetitions of each action.", lower_bound=1)
_PORT = flags.DEFINE_integer("port", 7860, "Port for the studio.")


def draw_line(page: Page) -> None:
    """Draws a line on the canvas, from somewhere to its middle."""
    box = page.locator("canvas").first.bounding_box() or {}
    page.mouse.move(box["x"] + box["width"] * random.uniform(0.2, 0.8), box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()


def until_new(page: Page, picture: str, action: Callable[[], object]) -> float:
    """Seconds from an action until the picture at a CSS selector changes."""
    before = page.evaluate("picture => document.querySelector(picture)?.src ?? ''", picture)
    start = time.perf_counter()
    action()
    page.wait_for_function("([picture, before]) => (document.querySelector(picture)?.src ?? '') != before", arg=[picture, before])
    return time.perf_counter() - start


def measure(page: Page) -> dict[str, list[float]]:
    start = time.perf_counter()
    page.goto(f"http://127.0.0.1:{_PORT.value}")
    page.locator("#samples img").nth(7).wait_for()
    found = {"the page opens: eight samples of the example": [time.perf_counter() - start]}
    another, slider = page.get_by_role("button", name="Another seed"), page.get_by_label("range slider for z1")
    found["a stroke: eight samples"] = [until_new(page, "#samples img", lambda: draw_line(page)) for _ in range(_ROUNDS.value)]
    found["another seed: eight samples"] = [until_new(page, "#samples img", another.click) for _ in range(_ROUNDS.value)]
    found["a slider moves: its picture"] = [
        until_new(page, "#picture img", lambda: slider.press("ArrowRight")) for _ in range(_ROUNDS.value)
    ]
    samples = page.locator("#samples .thumbnail-item")
    samples.first.click()
    found["a walk: twelve pictures and their film"] = [
        until_new(page, "#film img", samples.nth(1 + index % 7).click) for index in range(_ROUNDS.value)
    ]
    return found


def main(argv: list[str]) -> None:
    command = [sys.executable, "-m", "i2i_jax", "studio", f"--run={_RUN.value}", f"--port={_PORT.value}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as studio, sync_playwright() as driver:
        assert studio.stdout
        studio.stdout.readline()
        browser = driver.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox"])
        found = {name: timing.spread(seconds) for name, seconds in measure(browser.new_page()).items()}
        browser.close()
        studio.terminate()
    table = tables.lines(["", "seconds"], [[name, timing.shown(seconds)] for name, seconds in found.items()])
    timing.write("studio", found, table, "gradio")


if __name__ == "__main__":
    app.start(main)
