"""Seconds until the page of `export --format=web` shows answers, in Chromium (extras `onnx` and `browser`).

python benchmarks/painter.py [--run=facades --rounds=10 --onnxruntime_web=DIR]
"""

import functools
import http.server
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import tables
import timing
from absl import flags
from playwright.sync_api import Browser, Page, sync_playwright

from i2i_jax.commands import app
from i2i_jax.inference import model
from i2i_jax.interop import export_web

_RUN = flags.DEFINE_string("run", "facades", f"A trained run: {app.RUN}.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Repetitions of each action.", lower_bound=1)
_RUNTIME = flags.DEFINE_string("onnxruntime_web", None, "A folder with onnxruntime-web (default: npm downloads it).")

SETTLED = '#answers[aria-busy="false"]'


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Prints nothing."""


def opening(browser: Browser, address: str) -> tuple[float, float]:
    """Seconds until the first answer and until all, in a browser that has not loaded the page before."""
    with browser.new_context() as context:
        page, start = context.new_page(), time.perf_counter()
        page.goto(address, wait_until="commit")
        page.locator(".answer").first.wait_for()
        page.locator("#loading").wait_for(state="detached")
        first = time.perf_counter() - start
        page.locator(SETTLED).wait_for()
        return first, time.perf_counter() - start


def until_settled(page: Page, action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    page.locator(SETTLED).wait_for()
    return time.perf_counter() - start


def click_on_drawing(page: Page, share: float) -> None:
    box = page.locator("#drawing").bounding_box() or {}
    page.mouse.click(box["x"] + share * box["width"], box["y"] + share * box["height"])


def measure(browser: Browser, address: str, rounds: int) -> dict[str, list[float]]:
    first, all_answers = zip(*(opening(browser, address) for _ in range(rounds)), strict=True)
    page = browser.new_page()
    page.goto(address)
    page.locator(SETTLED).wait_for()
    slider = page.locator("#sliders input").first
    return {
        "the page opens: the first answer": list(first),
        "the page opens: all answers": list(all_answers),
        "a touch of the brush: all answers": [
            until_settled(page, functools.partial(click_on_drawing, page, i / rounds)) for i in range(rounds)
        ],
        "a slider moves: its answer": [until_settled(page, functools.partial(slider.press, "ArrowRight")) for _ in range(rounds)],
    }


def main(argv: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as driver:
        folder = Path(temporary) / "painter"
        runtime = Path(_RUNTIME.value) if _RUNTIME.value else None
        export_web.to_web(model.load(_RUN.value), folder, name=_RUN.value, runtime=runtime)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox"])
        seconds = measure(browser, f"http://127.0.0.1:{server.server_port}/", _ROUNDS.value)
        browser.close()
        server.shutdown()
    found = {name: timing.spread(values) for name, values in seconds.items()}
    table = tables.lines(["", "seconds"], [[name, timing.shown(values)] for name, values in found.items()])
    timing.write("painter", found, table, "onnx")


if __name__ == "__main__":
    app.start(main)
