"""python -m i2i_jax COMMAND --OPTION=VALUE ...; also installed as `i2i COMMAND`.

`i2i COMMAND --help` shows examples and every option, `i2i --version` the version. The commands:
"""

import importlib
import sys

import i2i_jax
from i2i_jax.commands import app
from i2i_jax.config import nearest

COMMANDS = {
    "train": ("i2i_jax.main", "train a system, or go on with a run that was stopped"),
    "translate": ("i2i_jax.commands.translate", "translate images with a trained run"),
    "evaluate": ("i2i_jax.commands.evaluate", "measure a trained run on pairs it was not trained on"),
    "studio": ("i2i_jax.commands.studio", "draw in a browser and see what trained runs make of it"),
    "config": ("i2i_jax.commands.config", "show the options of a config: values, types, what they mean"),
    "pairs": ("i2i_jax.commands.pairs", "make a folder of pairs of photos, or of two folders"),
    "check": ("i2i_jax.commands.check", "report what a folder of pairs holds"),
    "convert": ("i2i_jax.commands.convert", "read PyTorch's files of both original projects, or write them"),
    "pack": ("i2i_jax.commands.pack", "pack a trained run into one file"),
    "export": ("i2i_jax.commands.export", "write a trained generator for programs that have jax"),
    "push": ("i2i_jax.commands.push", "put a trained run, packed, on the Hugging Face hub"),
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help", "help"):
        with app.listing():
            print((__doc__ or "").strip(), *(f"  {command:<10} {text}" for command, (_, text) in COMMANDS.items()), sep="\n")
        return
    if name == "--version":
        with app.listing():
            print(f"i2i_jax {i2i_jax.__version__}")
        return
    if name not in COMMANDS:
        app.fail(f"unknown command {name!r}{nearest(name, COMMANDS)}: one of {', '.join(COMMANDS)}", 2)
    sys.argv = [f"{sys.argv[0]} {name}", *sys.argv[2:]]
    importlib.import_module(COMMANDS[name][0]).cli()


if __name__ == "__main__":
    main()
