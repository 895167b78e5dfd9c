"""Shows all options of a config, with their values, types and meaning: python -m i2i_jax config NAME[:DATASET]

i2i config bicycle
i2i config pix2pix:facades
i2i config mine.py          a config file of your own
"""

import textwrap
from collections.abc import Iterator, Sequence

from i2i_jax import configs
from i2i_jax.commands import app
from i2i_jax.config import OPTIONS, TYPES, Config, ConfigError, flatten


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        raise ConfigError(f"name one config, for example bicycle or pix2pix:facades: one of {', '.join(configs.NAMES)}, or a file")
    with app.ignore_closed_pipe():
        print(*_lines(configs.read(argv[1])), sep="\n")


def _lines(config: Config) -> Iterator[str]:
    """Each option as a flag of train, then its type, default, allowed values and meaning."""
    defaults = flatten(Config())
    for name, value in flatten(config).items():
        default = "" if value == defaults[name] else f"default {defaults[name]}"
        facts = "; ".join(filter(None, (TYPES[name], default, OPTIONS[name].allowed())))
        yield f"--config.{name}={value}"
        yield from (textwrap.indent(textwrap.fill(text, 100), "    ") for text in (facts, OPTIONS[name].help))


def cli() -> None:
    app.run(main, files=True)
