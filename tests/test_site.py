"""The documentation's site builds without a warning, its links lead somewhere, and its reference is complete."""

import html.parser
import importlib.util
import logging
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from chromium import needs_chromium, served
from i2i_jax import pretrained
from i2i_jax.__main__ import COMMANDS
from i2i_jax.config import OPTIONS

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://example.org/someone/i2i_jax"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocstrings")), reason="needs the extra `docs`"
    ),
]


class Tags(html.parser.HTMLParser):
    """The ids of a page, the links to follow, and the files that the browser loads by itself."""

    def __init__(self, page: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(values["href"])
        elif "src" in values:
            self.loaded.append(values["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the built site, whose name its addresses begin with as on GitHub's pages."""
    folder = tmp_path_factory.mktemp("site") / "i2i_jax"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    build = subprocess.run(command, cwd=ROOT, env=os.environ | {"REPO_URL": REPOSITORY}, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Tags]:
    return {page: Tags(page) for page in sorted(site.rglob("*.html")) if page.name != "404.html"}


def test_every_guide_is_on_the_site(site):
    assert [guide.stem for guide in (ROOT / "docs").glob("*.md") if not (site / f"{guide.stem}.html").is_file()] == []


def test_links_and_images_lead_somewhere(site, pages):
    """Those in raw HTML too, which the build does not check."""
    broken = []
    for page, tags in pages.items():
        for link in [*tags.links, *tags.loaded]:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "data", "mailto"):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].ids):
                broken.append(f"{page.relative_to(site)}: {link}")
    assert broken == []


def test_no_page_loads_anything_from_elsewhere(pages):
    assert [address for tags in pages.values() for address in tags.loaded if urlsplit(address).netloc] == []


def test_links_out_of_the_guides(site, pages):
    """To pages of the site where there are such, otherwise to the repository."""
    assert {"results.html", "reference/options.html", "api/train_state.html"} <= set(pages[site / "index.html"].links)
    assert f"{REPOSITORY}/blob/main/colab/train_tpu.ipynb" in pages[site / "tpu.html"].links
    assert "../guarantees.html" in pages[site / "project/readme.html"].links
    assert "../gallery/answers.jpg" in pages[site / "project/readme.html"].loaded


def test_every_option_and_command(site, pages):
    assert set(OPTIONS) <= pages[site / "reference/options.html"].ids
    assert {*COMMANDS, "train-workdir", "translate-sync"} <= pages[site / "reference/commands.html"].ids


@pytest.mark.parametrize(
    "name",
    [
        "train_state.TrainState",
        "train_state.Game.train_step",
        "inference.model.load",
        "inference.model.Model.encode",
        "build.game",
        "objectives.bicycle_gan",
        "losses.kl",
        "sampling.translate",
        "types.Batch",
        "config.Config",
        "training.train",
        "training.Stopped",
        "training.Diverged",
        "models.unet.UNet",
        "metrics.distortion.ssim",
        "data.images.read",
        "data.folder.pairs",
        "interop.torch.params_from_state_dict",
        "notebook.train",
    ],
)
def test_public_names_are_in_the_reference(name, site, pages):
    assert any(f"i2i_jax.{name}" in tags.ids for page, tags in pages.items() if page.parent == site / "api")


def test_fields_are_in_the_signature_of_their_class(site, pages):
    """Of dataclasses, named tuples and Flax modules; without an entry of their own."""
    text = " ".join(re.sub(r"<[^>]+>", "", (site / "api/train_state.html").read_text("utf-8")).split())
    assert "TrainState( step : Any, params : dict".replace(" ", "") in text.replace(" ", "")
    assert "i2i_jax.train_state.TrainState.params" not in pages[site / "api/train_state.html"].ids


def hooks_of(name: str):
    """The module docs/NAME.py."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks


def test_without_an_address_of_the_repository():
    """A link to a file that the site does not have becomes its text."""
    hooks = hooks_of("hooks")
    assert hooks.site_address("../colab/translate.ipynb", "docs/tpu.md", "tpu.md", None) is None
    assert hooks.site_address("../README.md#speed", "docs/tpu.md", "tpu.md", None) == "project/readme.md#speed"
    assert hooks.site_address("docs/tpu.md", "README.md", "project/readme.md", None) == "../tpu.md"
    assert hooks.site_address("https://example.org", "README.md", "project/readme.md", None) == "https://example.org"


@needs_chromium
def test_painters(runtime, site, pages, request):
    """A visitor of the front page follows its links to a page to draw on for each model of the package."""
    for library, extra in (("onnx", "onnx"), ("onnxruntime", "onnx"), ("playwright.sync_api", "browser")):
        pytest.importorskip(library, reason=f"needs the extra `{extra}`")
    tab, problems = request.getfixturevalue("browser").new_page(), []
    with served(site.parent) as home:
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("response", lambda response: response.status < 400 or problems.append(response.url))
        tab.on("request", lambda asked: asked.url.startswith((f"{home}i2i_jax/", "blob:", "data:")) or problems.append(asked.url))
        for name in pretrained.NAMES:
            tab.goto(f"{home}i2i_jax/index.html")
            tab.locator(f"a[href='painter/{name}/index.html']").click()
            tab.locator('#answers[aria-busy="false"]').wait_for()
            assert tab.locator(".answer").count() == 4
    assert problems == []
    for page in ("painter.html", "models.html"):
        assert {f"painter/{name}/index.html" for name in pretrained.NAMES} <= set(pages[site / page].links)


def test_without_painters(monkeypatch, tmp_path, caplog):
    """The site is built without them where there is no onnxruntime-web, and one line says so."""
    hooks = hooks_of("painters")
    monkeypatch.setenv(hooks.RUNTIME, str(tmp_path))
    with caplog.at_level(logging.INFO):
        assert hooks.painters() == {}
    (record,) = caplog.records
    assert record.getMessage().startswith(f"The site has no painters: I2I_ONNXRUNTIME_WEB: {tmp_path} has no ort.wasm.bundle.min.mjs and ")
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="index.md"))
    assert hooks.on_page_markdown(f"before\n\n{hooks.MARK}\n", page=page, config=None, files=None) == "before\n\n\n"
