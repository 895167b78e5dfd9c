"""A hook of mkdocs: the site carries a page to draw on for each model of the package, and links them where a guide has the mark."""

import functools
import logging
import os
import posixpath
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from i2i_jax import pretrained
from i2i_jax.inference.model import load
from i2i_jax.interop import export_web
from i2i_jax.optional import MissingExtra
from i2i_jax.storage.onnxruntime_web import OPTION, RuntimeMissing

MARK = "<!-- painters -->"  # GitHub shows nothing in its place
RUNTIME = "I2I_ONNXRUNTIME_WEB"  # the environment variable that names a folder with onnxruntime-web; by default npm downloads it
LINKS = {"facades": "paint a house front", "shapes": "draw an outline"}  # by the model's name

log = logging.getLogger(f"mkdocs.hooks.{__name__}")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files of the painters."""
    for address, content in painters().items():
        files.append(File.generated(config, address, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links take the place of the mark; nothing, if there are no painters."""
    here = posixpath.dirname(page.file.src_uri) or "."
    links = [f"[{text}]({posixpath.relpath(f'painter/{name}/index.html', here)})" for name, text in LINKS.items()]
    return markdown.replace(MARK, f"**Try it in this browser**: {' or '.join(links)}." if painters() else "")


@functools.cache
def painters() -> dict[str, bytes]:
    """The files of the painters by their address on the site. If they cannot be exported, none, and a line of the build says why."""
    runtime = Path(os.environ[RUNTIME]) if RUNTIME in os.environ else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            for name in LINKS:
                export_web.to_web(load(pretrained.file(name)), folder / name, name=name, runtime=runtime)
        except (MissingExtra, RuntimeMissing) as error:
            log.info("The site has no painters: %s", str(error).replace(OPTION, RUNTIME))
            return {}
        return {f"painter/{file.relative_to(folder).as_posix()}": file.read_bytes() for file in folder.rglob("*") if file.is_file()}
