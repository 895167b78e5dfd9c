"""The studio in a real browser; skipped if Gradio, Playwright or Chromium is missing."""

import base64
import contextlib
import http.client
import io
import json
import math
import os
import re
import secrets
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from chromium import needs_chromium
from i2i_jax.data.palettes import PALETTES
from i2i_jax.studio import session

pytest.importorskip("gradio", reason="needs the extra `studio`")
pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
pytestmark = needs_chromium

ROOT = Path(__file__).parents[1]
PATIENCE = 60_000  # milliseconds
SAMPLES, SAMPLE = "#samples img", "#samples .thumbnail-item"


@pytest.fixture(scope="module")
def studio(trained, tmp_path_factory):
    """A server with three runs: its address and process id. It must leave no files behind, though uploads go on while it ends."""
    kept = tmp_path_factory.mktemp("kept")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    named = [f"--run={run}" for run in (trained("bicycle"), trained("pix2pix"), "facades")]
    command = [sys.executable, "-m", "i2i_jax", "studio", f"--port={port}", *named]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "GRADIO_SERVER_NAME": "0.0.0.0", "TMPDIR": str(kept)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout and server.stdout.readline() == f"open http://127.0.0.1:{port} in a browser; Ctrl-C ends the studio\n"
        yield f"http://127.0.0.1:{port}", server.pid
        assert list(kept.glob("i2i_jax_studio_*"))
        with ThreadPoolExecutor(4) as clients:
            clients.map(upload_until_refused, [f"http://127.0.0.1:{port}"] * 4)
            server.terminate()
    assert (server.returncode, list(kept.glob("i2i_jax_studio_*"))) == (0, [])


@pytest.fixture(scope="module")
def address(studio):
    return studio[0]


@pytest.fixture
def page(browser, address):
    """The open page, with eight samples; it may send requests to the studio only, and its scripts must not fail."""
    page, requested, errors = browser.new_page(viewport={"width": 1280, "height": 1000}), [], []
    page.set_default_timeout(PATIENCE)
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(address)
    page.locator(SAMPLES).nth(7).wait_for()
    yield page
    page.close()
    assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []


def middle(part) -> tuple[float, float]:
    box = part.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def draw(page) -> None:
    """Draws a ring."""
    x, y = middle(page.locator("#drawing"))
    for i in range(25):
        angle = 2 * math.pi * i / 24
        page.mouse.move(x + 120 * math.cos(angle), y + 120 * math.sin(angle))
        if not i:
            page.mouse.down()
    page.mouse.up()


def shown(page) -> str:
    return page.locator("#picture img").get_attribute("src")


def wait_for_another(page, old: str, what: str = "#picture img") -> None:
    page.wait_for_function("([what, old]) => document.querySelector(what)?.src != old", arg=[what, old])


def put(page, button: str, file: Path) -> None:
    page.get_by_test_id(f"{button}-upload-button").set_input_files(file)


def drawn(page) -> str:
    return page.locator("#drawing").evaluate("canvas => canvas.toDataURL()")


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def duration(film) -> float:
    """Milliseconds of a film. Frames that equal the one before are stored as one."""
    return sum(frame.load() and frame.info["duration"] for frame in ImageSequence.Iterator(decoded(film.get_attribute("src"))))


def z(page) -> list[float]:
    return [float(page.get_by_label(f"range slider for z{i}").input_value()) for i in (1, 2)]


def choose_run(page, index: int) -> None:
    page.get_by_label("Run").click()
    page.get_by_role("option").nth(index).click()


def test_the_page_opens_with_an_example_and_follows_the_drawing(page):
    assert page.get_by_role("heading", name="Shapes").is_visible()
    page.get_by_text("Draw the outline of one closed shape, and see how it could be filled.").wait_for()
    samples = page.locator(SAMPLES)
    page.locator("#picture img").wait_for()
    assert samples.count() == 8

    first = samples.first.get_attribute("src")
    draw(page)
    wait_for_another(page, first, SAMPLES)

    before, drawing = samples.first.get_attribute("src"), drawn(page)
    page.get_by_role("button", name="Clear").click()
    samples.first.wait_for(state="detached")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("([what, before]) => document.querySelector(what)?.src == before", arg=[SAMPLES, before])
    assert drawn(page) == drawing

    page.locator("#examples img").nth(1).click()
    wait_for_another(page, before, SAMPLES)


def test_an_empty_field_is_named(page):
    page.get_by_label("Seed", exact=True).fill("")
    page.get_by_text("Seed is empty: type a whole number, at least 0").first.wait_for()


def test_a_session(page, tmp_path):
    samples = page.locator(SAMPLES)
    first = samples.first.get_attribute("src")
    page.get_by_role("button", name="Another seed").click()
    wait_for_another(page, first, SAMPLES)

    middle = shown(page)
    page.locator(SAMPLE).nth(2).click()
    wait_for_another(page, middle)
    slider = page.get_by_label("range slider for z1")
    before, value = shown(page), float(slider.input_value())
    assert value != 0
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight" if value < 2 else "ArrowLeft")
    wait_for_another(page, before)

    moved = shown(page)
    Image.fromarray(np.full((50, 50, 3), (30, 180, 40), np.uint8)).save(tmp_path / "style.png")
    put(page, "Use the style of an image", tmp_path / "style.png")
    wait_for_another(page, moved)


def test_a_walk_leads_from_one_clicked_sample_to_another(page):
    note, film = page.locator("#walk-note"), page.locator("#film img")
    note.get_by_text("Click one sample, then another of the samples 1 to 8").wait_for()
    page.locator(SAMPLE).nth(6).click()
    note.get_by_text("From sample 7: click another of the samples 1 to 8").wait_for()
    page.locator(SAMPLE).nth(1).click()
    note.get_by_text("From sample 7 to sample 2, and back").wait_for()
    film.wait_for()
    page.locator("#between .thumbnail-item").nth(11).wait_for()
    assert duration(film) == (2 * 12 - 2) * session.MILLISECONDS

    page.get_by_label("number input for Pictures").fill("5")
    page.locator("#between .thumbnail-item").nth(5).wait_for(state="detached")
    assert duration(film) == (2 * 5 - 2) * session.MILLISECONDS

    page.get_by_label("number input for Samples").fill("1")
    note.get_by_text("There is only sample 1: set Samples to 2 or more.").wait_for()
    film.wait_for(state="hidden")


def test_the_pad_chooses_both_numbers_of_the_latent(page):
    assert page.locator("#pad text").all_text_contents() == [str(i + 1) for i in range(8)]
    before = shown(page)
    pad = page.locator("#pad")
    side = pad.bounding_box()["width"]
    pad.click(position={"x": side * 0.75, "y": side * 0.75})
    wait_for_another(page, before)
    np.testing.assert_allclose(z(page), [1.5, -1.5], atol=0.05)

    before, (x, y) = shown(page), z(page)
    pad.focus()
    page.keyboard.press("ArrowUp")
    wait_for_another(page, before)
    np.testing.assert_allclose(z(page), [x, y + 0.1], atol=0.011)

    before = shown(page)
    page.get_by_label("number input for z1").fill("-2")
    wait_for_another(page, before)
    page.wait_for_function("document.querySelector('#point').cx.baseVal.value == -2")


def test_a_link_restores_drawing_seed_and_latent(page, browser, tmp_path):
    before, samples = shown(page), page.locator(SAMPLES)
    draw(page)
    wait_for_another(page, before)
    first = samples.first.get_attribute("src")
    page.get_by_label("Seed", exact=True).fill("77")
    wait_for_another(page, first, SAMPLES)
    before = shown(page)
    page.locator(SAMPLE).nth(3).click()
    wait_for_another(page, before)
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("holds seed, latent and drawing.").wait_for()

    other = browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(page.url)
    other.wait_for_function("picture => document.querySelector('#picture img')?.src == picture", arg=shown(page))
    assert other.locator(SAMPLES).first.get_attribute("src") == samples.first.get_attribute("src")
    assert (drawn(other), z(other), other.get_by_label("Seed", exact=True).input_value()) == (drawn(page), z(page), "77")
    other.goto(page.url.partition("drawing=")[0] + "drawing=AAAA")
    other.get_by_text("The drawing of this link is damaged: it is left out.").wait_for()
    other.close()

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    before = shown(page)
    put(page, "Upload an image", tmp_path / "photo.png")
    wait_for_another(page, before)
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("holds seed and latent, but no picture: photos are too large for it.").wait_for()


def test_classes_are_painted_by_their_names(page):
    before = page.locator(SAMPLES).first.get_attribute("src")
    choose_run(page, 2)
    page.get_by_role("heading", name="House fronts").wait_for()
    wait_for_another(page, before, SAMPLES)
    page.get_by_role("button", name="door", exact=True).click()
    before = page.locator(SAMPLES).first.get_attribute("src")
    page.mouse.click(*middle(page.locator("#drawing")))
    wait_for_another(page, before, SAMPLES)
    picture = np.asarray(decoded(drawn(page)).convert("RGB"))
    assert tuple(picture[picture.shape[0] // 2, picture.shape[1] // 2]) == PALETTES["facades"].classes["door"]


def test_a_clock_runs_while_a_click_is_answered(page):
    held, release, clock = [], [], page.locator("#samples .progress-text")
    page.route("**/queue/join*", lambda route: route.continue_() if release else held.append(route))
    first = page.locator(SAMPLES).first.get_attribute("src")
    page.get_by_label("Seed", exact=True).fill("3")
    clock.wait_for()
    release.append(True)
    for request in held:
        request.continue_()
    wait_for_another(page, first, SAMPLES)
    clock.wait_for(state="hidden")


def test_uploads(page, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    put(page, "Upload an image", tmp_path / "broken.png")
    page.get_by_text("broken.png: is not an image").first.wait_for()
    Image.new("1", (6000, 6000)).save(tmp_path / "bomb.png")
    put(page, "Upload an image", tmp_path / "bomb.png")
    page.get_by_text("bomb.png: is 6000x6000: 36000000 pixels, more than max_pixels=25000000 allows").first.wait_for()
    (tmp_path / "heavy.png").write_bytes(bytes(21 * 2**20))
    put(page, "Upload an image", tmp_path / "heavy.png")
    page.get_by_text("exceed the maximum allowed size of 20.0 Mb").first.wait_for()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 600, 3), np.uint8)).save(tmp_path / "wide.png")
    put(page, "Upload an image", tmp_path / "wide.png")
    page.get_by_text("wide.png is 2.0 times too wide for this model: it is squeezed to 64 × 64 pixels").first.wait_for()
    page.wait_for_function("what => document.querySelector(what)?.naturalWidth == 128", arg=SAMPLES)
    size = page.locator(SAMPLES).first.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])")
    assert size == [128, 64]


def test_changing_to_a_run_without_latent(page):
    choose_run(page, 1)
    page.get_by_label("range slider for z1").wait_for(state="hidden")
    page.locator(SAMPLES).nth(7).wait_for()


@pytest.mark.parametrize("path", ["gradio_api/file=/etc/passwd", "gradio_api/file=../../../etc/passwd", "file=/etc/passwd"])
def test_other_files_are_not_served(address, path):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{address}/{path}")
    assert error.value.code in (403, 404)
    error.value.close()


def test_the_server_refuses_large_files(address):
    with pytest.raises(urllib.error.HTTPError) as error:
        uploaded(address, bytes(21 * 2**20))
    assert error.value.code == 413
    error.value.close()


def upload_until_refused(address: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        while True:
            uploaded(address, bytes(200_000))


def uploaded(address: str, file: bytes) -> dict:
    """Uploads a file as the page does, but without a browser."""
    body = b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n" + file + b"\r\n--x--\r\n"
    request = urllib.request.Request(f"{address}/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
    with urllib.request.urlopen(request) as response:
        return {"path": json.load(response)[0], "meta": {"_type": "gradio.FileData"}}


def answered(address: str, function: int, *arguments) -> bool:
    """Whether one of the page's functions answers without an error."""
    session = secrets.token_hex(8)
    join = json.dumps({"fn_index": function, "data": arguments, "session_hash": session}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{address}/gradio_api/queue/join", join, {"Content-Type": "application/json"})).close()
    with urllib.request.urlopen(f"{address}/gradio_api/queue/data?session_hash={session}") as events:
        ends = (json.loads(line[5:]) for line in events if line.startswith(b"data:"))
        return next(end["success"] for end in ends if end["msg"] == "process_completed")


def test_fifty_requests_at_once_take_the_memory_of_one(studio):
    """Uploads of 4 million pixels are read, or drawings of a million pixels are translated."""
    address, pid = studio
    with urllib.request.urlopen(f"{address}/config") as response:
        config = json.load(response)
    functions = {function["api_name"]: function["id"] for function in config["dependencies"]}
    run = next(part["props"]["value"] for part in config["components"] if part["props"].get("label") == "Run")
    image = io.BytesIO()
    Image.new("RGB", (2000, 2000)).save(image, "PNG")
    drawing = session.url(np.arange(1024**2 * 3, dtype=np.uint8).reshape(1024, 1024, 3))

    def ask(number: int) -> bool:
        if number % 2:
            return answered(address, functions["read"], run, uploaded(address, image.getvalue()))
        return answered(address, functions["follow"], run, drawing, 1, number, [0.0, 0.0])

    def peak() -> float:
        """Peak memory of the server in MB."""
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024

    assert ask(0)
    assert ask(1)
    alone = peak()
    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(ask, range(50)))
    assert peak() - alone < 150  # MB; 50 decoded uploads would take 600


def test_urls_are_not_downloaded_instead_of_uploads():
    import gradio

    from i2i_jax.studio import page  # noqa: F401

    with pytest.raises(gradio.Error, match="the studio downloads nothing"):
        gradio.Image().async_move_resource_to_block_cache("http://127.0.0.1/picture.png").send(None)


def test_it_listens_on_loopback_only(address):
    port = int(address.rsplit(":", 1)[1])
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("no address but loopback")
    with socket.socket() as other:
        assert other.connect_ex((own, port)) != 0
