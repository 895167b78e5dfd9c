"""Trained models that come with the package: NAME.safetensors, a packed model, and NAME.md, its card."""

import functools
from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = ("facades", "shapes")


def file(name: str) -> Path:
    """Returns the packed file of a model in NAMES."""
    return FOLDER / f"{name}.safetensors"


def card(name: str) -> str:
    """Returns the card of a model in NAMES, as Markdown: data, command, time, figures and limits."""
    return (FOLDER / f"{name}.md").read_text("utf-8")


def description(name: str) -> str:
    """Returns what a model does, in one line, as its card begins."""
    return card(name).split("\n\n")[1].replace("\n", " ")


def resolve(run: str | Path) -> str | Path:
    """Returns the packed file if `run` is the name of a model in NAMES, any other run unchanged.

    A local file or run folder of that name takes precedence, and a line says so.
    """
    if str(run) not in NAMES:
        return run
    if Path(run).is_file() or (Path(run) / "config.json").is_file():
        _say_local(str(run))
        return run
    return file(str(run))


@functools.cache
def _say_local(name: str) -> None:
    """Prints, once, that the local run is used."""
    print(f"{name}: using the local run {Path(name).absolute()}, not the model of this name in the package")
