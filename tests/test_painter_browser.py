"""The page of `export --format=web` in a real browser: drawn on by mouse and keyboard, with the package's own arithmetic."""

import base64
import contextlib
import io
import re

import numpy as np
import pytest
from PIL import Image

import i2i_jax
import tiny
from chromium import needs_chromium, served
from i2i_jax.data import facade_layouts
from i2i_jax.data.palettes import PALETTES
from i2i_jax.inference import drawings, image_files, translation
from i2i_jax.interop import export_web

pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
pytest.importorskip("onnx", reason="needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
pytestmark = [pytest.mark.slow, needs_chromium]

FACADES = np.array([*PALETTES["facades"].classes.values()], np.uint8)


@pytest.fixture(scope="module")
def site(tmp_path_factory, runtime):
    """A function that exports a model, under a name, to a folder that is served; returns the address of the page."""
    root = tmp_path_factory.mktemp("site")
    with served(root) as home:

        def address(name: str, model=None) -> str:
            if not (root / name).exists():
                export_web.to_web(model or i2i_jax.load(name), root / name, name=name, runtime=runtime)
            return f"{home}{name}/"

        yield address


@pytest.fixture
def opened(browser, site):
    """Opens a page and waits for its answers; fails on console messages, errors, and requests to other hosts."""
    problems = []
    with contextlib.ExitStack() as contexts:

        def open(name: str, model=None, *, fragment: str = "", width: int = 1200, scheme: str = "light", **options):
            size = {"width": width, "height": 900}
            context = contexts.enter_context(contextlib.closing(browser.new_context(viewport=size, color_scheme=scheme, **options)))
            tab, address = context.new_page(), site(name, model)
            tab.on("console", lambda message: problems.append(message.text))
            tab.on("pageerror", lambda error: problems.append(str(error)))
            tab.on("request", lambda request: request.url.startswith((address, "blob:", "data:")) or problems.append(request.url))
            tab.goto(f"{address}index.html{fragment}")
            return settled(tab)

        yield open
    assert not problems


def settled(tab):
    tab.locator('#answers[aria-busy="false"]').wait_for()
    return tab


def pixels(tab, selector: str) -> np.ndarray:
    """The pixels of a canvas: uint8[h, w, 3]."""
    address = tab.locator(selector).evaluate("canvas => canvas.toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def drawing(tab) -> np.ndarray:
    return pixels(tab, "#drawing")


def answers(tab) -> np.ndarray:
    count = settled(tab).locator(".answer").count()
    return np.stack([pixels(tab, f".answer:nth-child({i + 1}) canvas") for i in range(count)])


def draw(tab, *points: tuple[float, float]) -> None:
    """Draws a line through points, which are shares of width and height, by the mouse."""
    box = tab.locator("#drawing").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=4)
    tab.mouse.up()


def expected(model, tab, *, seed: int) -> np.ndarray:
    z = np.asarray(translation.synced(model.networks, samples=4, seed=seed))
    return model(drawing(tab), z=z)


def assert_within_one_level(found: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_ten_drawings_by_mouse(opened):
    """Five outlines and five house fronts, each under another seed: four answers each, equal to the package's."""
    random = np.random.default_rng(0)
    for name in ("shapes", "facades"):
        model, tab = i2i_jax.load(name), opened(name)
        for seed in range(5):
            tab.locator("#seed").fill(str(seed))
            tab.locator("#clear").click()
            if name == "shapes":
                angles = np.linspace(0, 2 * np.pi, 10)
                radii = random.uniform(0.25, 0.4, 9)
                draw(tab, *[(0.5 + r * np.cos(a), 0.5 + r * np.sin(a)) for r, a in zip([*radii, radii[0]], angles, strict=True)])
            else:
                for brush in random.permutation(len(FACADES))[:6]:
                    tab.locator(f"[data-brush='{brush}']").click()
                    tab.get_by_role("button", name=("Brush", "Rectangle")[brush % 2]).click()
                    draw(tab, *random.uniform(0.05, 0.95, (3, 2)))
            assert len(np.unique(drawing(tab).reshape(-1, 3), axis=0)) > 3
            found = answers(tab)
            assert_within_one_level(found, expected(model, tab, seed=seed))
            assert np.ptp(found, axis=0).mean() > 5  # the answers differ


@pytest.mark.parametrize("seed", [0, 1, 123_456_789, 2**31 - 1])
def test_a_seeds_latents_are_those_of_the_package(seed, opened):
    tab = opened("facades")
    script = "async ([seed, n, d]) => (await import('./latents.js')).latents(seed, n, d).map((z) => [...z])"
    networks = i2i_jax.load("facades").networks
    z = np.asarray(translation.synced(networks, samples=500, seed=seed))
    np.testing.assert_allclose(tab.evaluate(script, [seed, 500, 8]), z, atol=2e-6)


def test_the_example_is_translated_when_the_page_opens(opened):
    tab = opened("facades")
    example = facade_layouts.layout(drawings.SEEDS["facades"])
    np.testing.assert_array_equal(drawing(tab), example[1::2, 1::2])
    assert_within_one_level(answers(tab), expected(i2i_jax.load("facades"), tab, seed=0))
    tab.locator("#example").click()
    tab.locator("#undo:enabled").wait_for()
    assert not np.array_equal(drawing(tab), example[1::2, 1::2])


def test_tools_by_mouse(opened):
    tab = opened("facades")
    tab.locator("#clear").click()
    blank = drawing(tab)
    assert (blank == FACADES[0]).all()
    tab.get_by_role("button", name="window").click()
    tab.get_by_role("button", name="Rectangle").click()
    draw(tab, (0.25, 0.25), (0.75, 0.5))
    rectangle = blank.copy()
    rectangle[32:64, 32:96] = PALETTES["facades"].classes["window"]
    np.testing.assert_array_equal(drawing(tab), rectangle)
    tab.get_by_role("button", name="Eraser").click()
    tab.locator("#size").fill("16")
    draw(tab, (0.5, 0.375), (0.5, 0.375))
    erased = drawing(tab)
    assert (erased[48, 64] == FACADES[0]).all() and 180 < (erased != rectangle).any(-1).sum() < 220  # a disc of 16 pixels
    for button, picture in (("#undo", rectangle), ("#undo", blank), ("#redo", rectangle), ("#redo", erased)):
        tab.locator(button).click()
        np.testing.assert_array_equal(drawing(tab), picture)
    assert tab.locator("#redo").is_disabled()


def test_lines_of_the_pen_are_smooth_and_do_not_get_darker(opened):
    tab = opened("shapes")
    tab.locator("#clear").click()
    draw(tab, (0.2, 0.3), (0.8, 0.6))
    once = drawing(tab)
    assert once.min() == 0 and len(np.unique(once)) > 10
    draw(tab, (0.2, 0.8), (0.2, 0.9))
    tab.keyboard.press("Control+z")
    np.testing.assert_array_equal(drawing(tab), once)


def test_the_first_line_replaces_the_example(opened):
    """Which undoing brings back; the eraser and later lines change what is there."""
    tab = opened("shapes")
    example = drawing(tab)
    tab.get_by_role("button", name="Eraser").click()
    draw(tab, (0.5, 0.1), (0.5, 0.9))
    assert (drawing(tab) < example).sum() == 0 < (drawing(tab) < 128).sum()
    tab.locator("#example").click()
    tab.get_by_role("button", name="Pen").click()
    draw(tab, (0.1, 0.1), (0.9, 0.1))
    assert (drawing(tab)[12:] == 255).all()
    draw(tab, (0.9, 0.1), (0.9, 0.9))
    assert (drawing(tab)[:12] < 128).any() and (drawing(tab)[12:] < 128).any()
    for _ in range(3):
        tab.locator("#undo").click()
    assert (drawing(tab)[12:] < 128).any() and not np.array_equal(drawing(tab), example)  # the second example


def test_drawing_by_keyboard_alone(opened):
    tab = opened("facades")
    tab.locator("#clear").click()
    tab.locator("#drawing").focus()
    for key in ("r", "4", *["Shift+ArrowLeft"] * 2, "Space", *["Shift+ArrowRight"] * 4, *["Shift+ArrowDown"] * 3, "Enter"):
        tab.keyboard.press(key)
    door = np.tile(FACADES[0], (128, 128, 1))
    door[64:88, 48:80] = PALETTES["facades"].classes["door"]
    np.testing.assert_array_equal(drawing(tab), door)
    tab.keyboard.press("b")
    tab.keyboard.press("]")
    assert tab.locator("#size-shown").text_content() == "9"
    tab.keyboard.press("Control+z")
    assert (drawing(tab) == FACADES[0]).all()
    tab.keyboard.press("Control+Shift+z")
    np.testing.assert_array_equal(drawing(tab), door)


def test_an_uploaded_picture_snaps_to_the_palette(opened, tmp_path):
    classes = np.random.default_rng(0).integers(0, 12, (128, 128))
    noisy = FACADES[classes] + np.random.default_rng(1).integers(-15, 16, (128, 128, 3))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "map.png")
    tab = opened("facades")
    tab.locator("#upload").set_input_files(tmp_path / "map.png")
    tab.locator("#undo:enabled").wait_for()
    np.testing.assert_array_equal(drawing(tab), FACADES[classes])
    (tmp_path / "text.png").write_text("no picture")
    tab.locator("#upload").set_input_files(tmp_path / "text.png")
    tab.get_by_text("text.png cannot be used").wait_for()
    np.testing.assert_array_equal(drawing(tab), FACADES[classes])


def test_latents_of_the_chosen_answer(opened):
    """The pad, the sliders and the style of a picture change its answer, and no other."""
    model, tab = i2i_jax.load("shapes"), opened("shapes")
    before = answers(tab)
    tab.locator(".answer").nth(2).click()
    tab.locator("#pad").click(position={"x": 120, "y": 20})
    moved = answers(tab)
    assert [i for i in range(4) if not np.array_equal(before[i], moved[i])] == [2]
    z = [float(text) for text in tab.locator("#sliders output").all_text_contents()]
    assert z[0] > 1.5 and z[1] > 1.5
    tab.locator("#sliders input").first.focus()
    tab.keyboard.press("Home")
    assert tab.locator("#sliders output").first.text_content() == "-3.00"
    chosen = answers(tab)[2]
    with tab.expect_download() as download:
        tab.locator("#download").click()
    assert download.value.suggested_filename == "shapes-0-3.png"
    with Image.open(download.value.path()) as saved:
        np.testing.assert_array_equal(np.asarray(saved.convert("RGB")), chosen)
    tab.locator("#style").set_input_files({"name": "style.png", "mimeType": "image/png", "buffer": png(before[0])})
    style = model.encode(before[0])
    tab.locator("#sliders output").first.filter(has_text=f"{style[0]:.2f}").wait_for()
    assert_within_one_level(answers(tab)[2], model(drawing(tab), z=style)[0])


def png(image: np.ndarray) -> bytes:
    return image_files.encode(image)


def test_a_link_restores_seed_latents_and_drawing(opened):
    tab = opened("shapes")
    assert "#" not in tab.url  # until something has changed
    draw(tab, (0.1, 0.1), (0.9, 0.2))
    tab.locator("#another").click()
    tab.locator(".answer").nth(1).click()
    tab.locator("#pad").focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_url(re.compile("#seed=1&chosen=2&z2=.*&drawing="))
    fragment = tab.url[tab.url.index("#") :]
    assert len(fragment) < 2000
    again = opened("shapes", fragment=fragment)
    np.testing.assert_array_equal(drawing(again), drawing(tab))
    np.testing.assert_array_equal(answers(again), answers(tab))
    assert again.locator("#seed").input_value() == "1"
    assert again.locator(".answer").nth(1).get_attribute("aria-pressed") == "true"
    damaged = opened("shapes", fragment=re.sub("drawing=.*", "drawing=AAAA", fragment).replace("seed=1", "seed=x"))
    damaged.get_by_text("The drawing of this link is damaged").wait_for()
    assert damaged.locator("#seed").input_value() == "0" and len(np.unique(drawing(damaged))) > 2  # the example


@pytest.mark.parametrize("name", ["shapes", "facades"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(name, scheme, opened):
    tab = opened(name, width=390, scheme=scheme, has_touch=True)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    paper, ink = tab.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    light = [sum(map(int, colour[4:-1].split(","))) for colour in (paper, ink)]
    assert abs(light[0] - light[1]) > 500 and (light[0] > light[1]) == (scheme == "light")
    before = drawing(tab)
    box = tab.locator("#drawing").bounding_box()
    tab.touchscreen.tap(box["x"] + 20, box["y"] + 20)
    assert not np.array_equal(drawing(tab), before)


def test_label_maps_as_one_channel_for_each_class(opened):
    options = {"data.name": "facades", "data.direction": "BtoA", "data.input_labels": "facades", "data.input_channels": 12}
    model = tiny.model_of(options | {"eval.best_metric": "l1"})
    tab = opened("classes", model)
    one_hot = (drawing(tab)[:, :, None] == FACADES).all(-1).astype(np.uint8) * 255
    assert (one_hot.sum(-1) == 255).all()
    assert_within_one_level(answers(tab), model(one_hot, z=np.asarray(translation.synced(model.networks, samples=4, seed=0))))


def test_ones_own_label_maps(opened, tmp_path):
    """Brushes have the colours that are found in the inputs, though these are JPEG files; the most frequent is the empty canvas."""
    colours = np.array([(10, 120, 30), (200, 200, 60), (60, 60, 200)], np.uint8)
    classes = np.random.default_rng(0).choice(3, (6, 8, 8), p=[0.6, 0.3, 0.1]).repeat(16, 1).repeat(16, 2)
    for index, label_map in enumerate(colours[classes]):
        for side in "AB":
            (tmp_path / f"train{side}").mkdir(exist_ok=True)
            Image.fromarray(label_map).save(tmp_path / f"train{side}" / f"{index}.jpg", quality=75)
    model = tiny.model_of({"data.name": "folder", "data.path": str(tmp_path), "eval.best_metric": "l1"})
    tab = opened("own", model)
    names = tab.locator("#brushes button").all_text_contents()
    assert all(re.fullmatch(r"#[0-9a-f]{6} \d+%", name) for name in names) and len(names) == 3
    found = np.array([tuple(bytes.fromhex(name[1:7])) for name in names])
    assert np.abs(found - colours).max() <= 8
    assert (drawing(tab) == found[0]).all()
    tab.locator("[data-brush='2']").click()
    draw(tab, (0.2, 0.2), (0.8, 0.8))
    assert set(map(tuple, drawing(tab).reshape(-1, 3))) == {tuple(found[0]), tuple(found[2])}
    assert_within_one_level(answers(tab), expected(model, tab, seed=0))


def test_grey_images_and_photos(opened, tmp_path):
    """A page for photos has no answers before one is uploaded."""
    options = {"data.direction": "BtoA", "data.input_channels": 1, "data.target_channels": 1, "eval.best_metric": "l1"}
    model = tiny.model_of(options)
    tab = opened("photos", model)
    assert tab.locator("#brushes, #size, [data-tool]").count() == 0 and not answers(tab).any()
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    tab.locator("#upload").set_input_files({"name": "photo.png", "mimeType": "image/png", "buffer": png(photo)})
    tab.locator("#undo:enabled").wait_for()
    grey = np.asarray(Image.fromarray(photo).convert("L"))[..., None]
    wanted = model(grey, z=np.asarray(translation.synced(model.networks, samples=4, seed=0)))
    assert_within_one_level(answers(tab), np.repeat(wanted, 3, -1))
    tab.locator("#link").click()
    tab.get_by_text("holds seed and latents, but no picture").wait_for()


def test_dropout(opened):
    """The answers of a run without latent differ by dropout, which the seed determines."""
    model = tiny.model_of({"sampling.dropout": True, "model.dropout": True, "eval.best_metric": "l1"}, objective="pix2pix")
    first, again = (answers(opened("dropout", model)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len({picture.tobytes() for picture in first}) == 4
