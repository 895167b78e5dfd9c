"""Shows the options of a config, as train takes them, each with its type and what it means: python -m i2i_jax config FILE[:DATASET]

i2i config configs/bicycle.py
i2i config configs/pix2pix.py:facades
"""

import ast
import inspect
import io
import os
import runpy
import sys
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from i2i_jax import config as configs
from i2i_jax.commands import app
from i2i_jax.config import BOUNDS, CHOICES, Config, ConfigError, flatten


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        raise ConfigError("name one config file, as configs/bicycle.py or configs/pix2pix.py:facades")
    try:
        print(*_lines(_read(argv[1])), sep="\n", flush=True)
    except BrokenPipeError:  # as under `| head`: whoever reads has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines(config: Config) -> Iterator[str]:
    values, defaults, described = flatten(config), flatten(Config()), comments()
    for name, value in values.items():
        kind, meaning = described[name]
        default = "" if value == defaults[name] else f"default {defaults[name]}"
        facts = "; ".join(filter(None, (kind, default, _allowed(name))))
        yield f"--config.{name}={value}"
        yield from (textwrap.indent(textwrap.fill(text, 100), "    ") for text in (facts, meaning))


def comments() -> dict[str, tuple[str, str]]:
    """Of each option, by its dotted name, the type and the comment that stand in i2i_jax/config.py."""
    source = inspect.getsource(configs)
    texts = {token.start[0]: token.string[1:].strip() for token in tokenize.generate_tokens(io.StringIO(source).readline)
             if token.type == tokenize.COMMENT}  # fmt: skip
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}

    def of_class(name: str, prefix: str = "") -> dict[str, tuple[str, str]]:
        found = {}
        for field in classes[name].body:
            if isinstance(field, ast.AnnAssign):
                kind, option = ast.unparse(field.annotation), prefix + ast.unparse(field.target)
                found |= of_class(kind, f"{option}.") if kind in classes else {option: (kind, texts.get(field.lineno, ""))}
        return found

    return of_class("Config")


def _allowed(name: str) -> str:
    if name in CHOICES:
        return f"one of {', '.join(CHOICES[name])}"
    low, high = BOUNDS.get(name, (None, None))
    return "" if low is None else f"at least {low}" if high is None else f"from {low} to {high}"


def _read(named: str) -> Any:
    """The config that FILE[:DATASET] gives. Raises ConfigError."""
    file, *dataset = named.split(":", 1)
    if not Path(file).is_file():
        raise ConfigError(f"there is no file {file}")
    try:
        found = runpy.run_path(file)["get_config"](*dataset)
    except ConfigError:
        raise
    except Exception as error:  # the file is code, which may raise anything
        raise ConfigError(f"{file}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(found, Config):
        raise ConfigError(f"get_config of {file} gives a {type(found).__name__}: must be a Config")
    return found


def cli() -> None:
    app.run(main, files=True)
