"""Hooks of mkdocs: the generated pages of the site, and links of the guides that lead out of docs/."""

import functools
import itertools
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from i2i_jax.__main__ import COMMANDS
from i2i_jax.config import OPTIONS, TYPES, Config, flatten

ROOT = Path(__file__).parents[1]

# Pages of the site that are files of the repository outside docs/.
INCLUDED = {
    "README.md": "project/readme.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "i2i_jax/pretrained/facades.md": "models/facades.md",
    "i2i_jax/pretrained/shapes.md": "models/shapes.md",
}

MODELS = ("unet", "resnet", "label_maps", "discriminators", "encoders", "layers")
METRICS = ("distortion", "lpips", "frechet", "kernel", "diversity", "latent", "modes", "segmentation")
NETWORKS_OF_METRICS = ("features", "backbones", "inception", "weights")

# The modules on each page of the API reference.
API = {
    "api/model.md": ["i2i_jax.inference.model"],
    "api/build.md": ["i2i_jax.build"],
    "api/train_state.md": ["i2i_jax.train_state"],
    "api/objectives.md": ["i2i_jax.objectives"],
    "api/losses.md": ["i2i_jax.losses"],
    "api/sampling.md": ["i2i_jax.sampling"],
    "api/types.md": ["i2i_jax.types"],
    "api/config.md": ["i2i_jax.config"],
    "api/training.md": ["i2i_jax.training"],
    "api/models.md": ["i2i_jax.models", *(f"i2i_jax.models.{name}" for name in MODELS)],
    "api/metrics.md": ["i2i_jax.metrics", *(f"i2i_jax.metrics.{name}" for name in (*METRICS, *NETWORKS_OF_METRICS))],
    "api/images.md": ["i2i_jax.data.images"],
    "api/folder.md": ["i2i_jax.data.folder"],
    "api/torch.md": ["i2i_jax.interop.torch"],
    "api/notebook.md": ["i2i_jax.notebook"],
}

# What is shown of a module whose imported names are public too, or shown on the page of their own module.
MEMBERS = {
    "i2i_jax.training": ["train", "Stopped", "Diverged"],
    "i2i_jax.models": ["GENERATORS", "ENCODERS", "DISCRIMINATORS", "Networks"],
}

# A link to a source file becomes a link to its page of the reference, if it has one.
PAGE_OF_SOURCE = {
    **{f"{module.replace('.', '/')}{end}": page for page, modules in API.items() for module in modules for end in (".py", "/__init__.py")},
    "i2i_jax/config.py": "reference/options.md",
    "i2i_jax/__main__.py": "reference/commands.md",
}

# Pages with a tab of their own have no neighbours to show beside them.
SINGLE = ("index.md", "reference/options.md", "reference/commands.md")

FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?\[(?P<text>[^\]]*)\]\()(?P<target>[^)\s]+)\)")
HTML_LINK = re.compile(r"""((?:src|href)=")(?P<target>[^"]+)(")""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    for source, page in INCLUDED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    for page, modules in API.items():
        files.append(File.generated(config, page, content=api_page(modules)))
    files.append(File.generated(config, "reference/options.md", content=options_page()))
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the repository has them become links of the site, except in code blocks."""
    if page.file.src_uri in SINGLE:
        page.meta.setdefault("hide", ["navigation"])
    sources = {target: source for source, target in INCLUDED.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    if page.file.generated_by and source.startswith("docs/"):
        return markdown

    def link(match: re.Match) -> str:
        address = site_address(match["target"], source, page.file.src_uri, config.repo_url)
        return f"{match[1]}{address})" if address else match["text"]

    def html_link(match: re.Match) -> str:
        return f"{match[1]}{site_address(match['target'], source, page.file.src_uri, config.repo_url) or match['target']}{match[3]}"

    pieces = FENCE.split(markdown)
    return "".join(piece if i % 2 else HTML_LINK.sub(html_link, LINK.sub(link, piece)) for i, piece in enumerate(pieces))


def site_address(target: str, source: str, page: str, repo_url: str | None) -> str | None:
    """Where a link of the repository's file `source` leads from `page` of the site; None if it has no address there."""
    path, hash_sign, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return target
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if not (ROOT / file).exists():
        return target  # the strict build says what is wrong with it
    pages = INCLUDED | PAGE_OF_SOURCE
    if file.startswith("docs/") or file in pages:
        on_site = pages.get(file) or file.removeprefix("docs/")
        return posixpath.relpath(on_site, posixpath.dirname(page) or ".") + hash_sign + anchor
    return f"{repo_url.rstrip('/')}/blob/main/{file}{hash_sign}{anchor}" if repo_url else None


def api_page(modules: list[str]) -> str:
    """One directive of mkdocstrings for each module; the first one is the page's title."""
    parts = []
    for module in modules:
        level = 1 if module == modules[0] else 2
        parts += [f"::: {module}", "    options:", "      show_root_heading: true", f"      heading_level: {level}"]
        if module in MEMBERS:
            parts.append(f"      members: [{', '.join(MEMBERS[module])}]")
        parts.append("")
    return "\n".join(parts)


def options_page() -> str:
    """Every option of the config, by section."""
    head = """# Options

Set an option with `--config.SECTION.OPTION=VALUE`, for example `--config.data.batch_size=4`. The defaults below are those of
`Config()`; each config (`bicycle`, `pix2pix:facades`, ...) sets some of them differently: `i2i config NAME` shows its values. **Resume**
says whether a resumed run may change the option; any other change is refused, since it would make it another run.
"""
    parts = [head]
    for section, names in itertools.groupby(OPTIONS, lambda name: name.rpartition(".")[0]):
        parts += [f"## {section or 'The run'}\n", "| Option | Meaning | Type | Default | Allowed | Resume |", "|---|---|---|---|---|---|"]
        parts += [*(option_row(name) for name in names), ""]
    return "\n".join(parts)


def option_row(name: str) -> str:
    known = OPTIONS[name]
    choices = ", ".join(f"`{choice}`" for choice in known.choices)
    default = repr(flatten(Config())[name]).replace("'", '"')
    cells = [
        f"`{name}`{{ #{name} }}",
        cell(known.help),
        " or ".join(f"`{kind}`" for kind in TYPES[name].split(" | ")),
        f"`{default}`",
        choices or cell(known.allowed()),
        "yes" if known.resumable else "no",
    ]
    return f"| {' | '.join(cells)} |"


def commands_page() -> str:
    """The help of every command, as --help prints it."""
    parts = ["# Commands", f"\n```text\n{help_of()}\n```\n"]
    with ThreadPoolExecutor() as pool:
        for (name, (_, summary)), text in zip(COMMANDS.items(), pool.map(help_of, COMMANDS), strict=True):
            parts += [f"## {name}\n", f"{cell(summary[0].upper() + summary[1:])}.\n", *command_section(name, text)]
    return "\n".join(parts)


def command_section(command: str, text: str) -> Iterator[str]:
    """The usage and examples as a block, the flags as a table."""
    usage, *_ = re.split(r"^  --", text, maxsplit=1, flags=re.MULTILINE)
    yield f"```text\n{usage.strip()}\n```\n"
    if flags := re.findall(r"^  --(\S+) +(.*)$", text, re.MULTILINE):
        yield from ("| Option | Meaning |", "|---|---|")
        yield from (f"| `--{name}`{{ #{command}-{name} }} | {cell(meaning)} |" for name, meaning in flags)
        yield ""


@functools.cache
def help_of(*command: str) -> str:
    """What `i2i COMMAND --help` prints."""
    run = subprocess.run([sys.executable, "-m", "i2i_jax", *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def cell(text: str) -> str:
    """Plain text with code in backticks, in a cell of a table: nothing else in it is Markdown."""
    pieces = text.split("`")
    pieces[::2] = [re.sub(r"[*_<>|\[\]&]", lambda match: f"&#{ord(match[0])};", piece) for piece in pieces[::2]]
    return "`".join(pieces)
