"""python -m i2i_jax COMMAND --OPTION=VALUE ...; also installed as `i2i COMMAND`.

`i2i COMMAND --help` shows examples and all options, `i2i --version` the version. The commands:
"""

import importlib
import sys

import i2i_jax
from i2i_jax.commands import app
from i2i_jax.config import nearest

# The module of each command and what it does.
COMMANDS = {
    "demo": ("i2i_jax.commands.demo", "translate drawn label maps with a model of the package, in seconds"),
    "train": ("i2i_jax.main", "train a model, or resume a run that was stopped"),
    "translate": ("i2i_jax.commands.translate", "translate images with a trained run"),
    "evaluate": ("i2i_jax.commands.evaluate", "evaluate a trained run on held-out pairs, or images of another model"),
    "compare": ("i2i_jax.commands.compare", "compare runs on one page: options, curves and samples"),
    "studio": ("i2i_jax.commands.studio", "draw in a browser and see how trained runs translate it"),
    "models": ("i2i_jax.commands.models", "list the trained models that come with the package"),
    "config": ("i2i_jax.commands.config", "show the options of a config: values, types, meaning"),
    "pairs": ("i2i_jax.commands.pairs", "make a folder of pairs from photos, or from two folders"),
    "check": ("i2i_jax.commands.check", "check a folder of pairs and report what it contains"),
    "convert": ("i2i_jax.commands.convert", "convert checkpoints of the original PyTorch projects to a run, or back"),
    "pack": ("i2i_jax.commands.pack", "pack a trained run into one file"),
    "export": ("i2i_jax.commands.export", "export a trained generator as StableHLO, as ONNX, or as a page to draw on in a browser"),
    "push": ("i2i_jax.commands.push", "upload a trained run, packed, to the Hugging Face hub"),
}


def main() -> None:
    """Runs the command that the first argument names, with the remaining arguments."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help", "help"):
        with app.ignore_closed_pipe():
            print((__doc__ or "").strip(), *(f"  {command:<10} {text}" for command, (_, text) in COMMANDS.items()), sep="\n")
        return
    if name == "--version":
        with app.ignore_closed_pipe():
            print(f"i2i_jax {i2i_jax.__version__}")
        return
    if name not in COMMANDS:
        app.fail(f"unknown command {name!r}{nearest(name, COMMANDS)}: one of {', '.join(COMMANDS)}", 2)
    sys.argv = [f"{sys.argv[0]} {name}", *sys.argv[2:]]
    importlib.import_module(COMMANDS[name][0]).cli()


if __name__ == "__main__":
    main()
