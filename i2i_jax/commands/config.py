"""Shows the options of a config, as train takes them, each with its type and what it means: python -m i2i_jax config NAME[:DATASET]

i2i config bicycle
i2i config pix2pix:facades
i2i config mine.py          a file of your own
"""

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator, Sequence

from i2i_jax import config as options
from i2i_jax import configs
from i2i_jax.commands import app
from i2i_jax.config import BOUNDS, CHOICES, Config, ConfigError, flatten


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        raise ConfigError(f"name one config, as bicycle or pix2pix:facades: one of {', '.join(configs.NAMES)}, or a file")
    with app.listing():
        print(*_lines(configs.read(argv[1])), sep="\n")


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
    source = inspect.getsource(options)
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


def cli() -> None:
    app.run(main, files=True)
