"""Imports follow the order of the rooms, and heavy or optional libraries are not imported by the package."""

import ast
import graphlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "i2i_jax"

# A room (a folder, or a file at the top) imports from itself and from the rooms before it.
ORDER = [
    "types", "config", "optional", "presets", "devices", "pretrained", "storage", "pages", "data", "losses", "models", "metrics",
    "objectives", "train_state", "sampling", "build", "configs", "inference", "evaluation", "interop", "training", "notebook", "studio",
    "commands", "main", "__main__",
]  # fmt: skip
LATE = ("commands", "main", "configs", "__init__")  # may import inside functions, so that --help does not wait for jax
FORBIDDEN = {("objectives", "models")}  # networks are passed as arguments

OPTIONAL = {
    "matplotlib",
    "skimage",
    "gradio",
    "IPython",
    "torch",
    "wandb",
    "huggingface_hub",
    "imageio_ffmpeg",
    "onnx",
    "onnxruntime",
}  # from extras, or present in notebooks

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(file: Path) -> set[str]:
    """Every absolute dotted name that `file` imports, at the top, inside a function or by a call."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "optional.library"):
            names |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_modules(file: Path) -> set[str]:
    """The modules of the package that a file imports, such as storage.files."""
    names = (name.removeprefix("i2i_jax.") for name in imported_names(file) if name.startswith("i2i_jax."))
    return {name if name in MODULES else name.rpartition(".")[0] for name in names} - {""}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def allowed(importer: str, imported: str) -> bool:
    return (importer, imported) not in FORBIDDEN and ORDER.index(imported) <= ORDER.index(importer)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file):
    room = room_of(file)
    imported = {module.split(".")[0] for module in own_modules(file)}
    if room == "__init__":
        assert imported == {"inference"}, "for type checkers"
        return
    assert room in ORDER, f"{room} is not in ORDER: add it"
    wrong = sorted(other for other in imported if not allowed(room, other))
    assert not wrong, f"{room} may not import {wrong}"


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: own_modules(file) for module, file in MODULES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_imports_stand_at_the_top_of_files():
    for file in FILES:
        tree = ast.parse(file.read_text())
        inner = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in tree.body}
        assert room_of(file) in LATE or not any(module.startswith("i2i_jax") for module in inner), file


def test_the_rules_forbid():
    assert not allowed("losses", "models")
    assert not allowed("objectives", "models")
    assert not allowed("config", "build")
    assert not allowed("pages", "training")
    assert allowed("interop", "models")
    assert allowed("build", "storage")


def test_the_top_of_the_package_is_small():
    """The top level holds the papers' code; everything else has a folder of its own."""
    top = [path for path in PACKAGE.iterdir() if not path.name.startswith("__pycache__")]
    assert sum(path.is_file() for path in top) <= 14
    assert sum(path.is_dir() for path in top) <= 14


def test_contributing_has_the_layout():
    layout = (ROOT / "CONTRIBUTING.md").read_text().partition("## Layout")[2].partition("```\n")[2].partition("```")[0]
    inside = layout.partition("i2i_jax/\n")[2].partition("\nconfigs/")[0]
    listed = {word.strip("/") for line in inside.splitlines() for word in line[2:34].split()}
    names = {path.name for path in PACKAGE.iterdir()} - {"__pycache__", "py.typed"}
    assert listed == names


@pytest.mark.parametrize(("library", "importers"), [("tensorflow", []), ("torch", ["torch_files.py"])])
def test_libraries_that_are_kept_out(library, importers):
    assert [file.name for file in FILES if any(name.split(".")[0] == library for name in imported_names(file))] == importers


def test_every_library_is_declared():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-") for requirement in declared}
    sources = importlib.metadata.packages_distributions()
    used = {name.split(".")[0] for file in FILES for name in imported_names(file)} - set(sys.stdlib_module_names) - {"i2i_jax"} - OPTIONAL
    undeclared = {name for name in used if names.isdisjoint(source.lower().replace("_", "-") for source in sources.get(name, []))}
    assert not undeclared


def test_orbax_in_one_file():
    importers = [file.name for file in FILES if any(name.startswith("orbax") for name in imported_names(file))]
    assert importers == ["checkpoints.py"]


def test_package_imports_nothing_heavy():
    code = "import sys, i2i_jax; print([m for m in ('jax', 'flax', 'numpy', 'tensorflow', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


WORLD = """
import gc, importlib, locale, logging, os, signal, sys, threading, warnings
for library in {libraries}:
    importlib.import_module(library)
import jax, numpy, PIL.Image

def world():
    loggers = {{name: (logger.level, logger.disabled, list(logger.filters), list(logger.handlers))
               for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)}}
    return {{
        "Pillow's limit": PIL.Image.MAX_IMAGE_PIXELS, "warning filters": list(warnings.filters), "loggers": loggers,
        "environment": dict(os.environ), "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "collector": gc.get_threshold(), "floating point": numpy.geterr(), "jax": dict(jax.config.values), "path": list(sys.path),
        "locale": locale.setlocale(locale.LC_ALL), "folder": os.getcwd(), "excepthook": sys.excepthook,
        "random": numpy.random.get_state()[1].tolist(),
    }}

before = world()
for module in {modules}:
    importlib.import_module(module)
import i2i_jax
model = i2i_jax.load({run!r})
model([PIL.Image.new("RGB", (64, 64))])
after = world()
after["loggers"] = {{name: after["loggers"][name] for name in before["loggers"]}}
changed = [name for name in before if before[name] != after[name]]
print(changed)
"""


def test_the_library_changes_nothing_outside_itself(trained):
    """Importing all modules and using a model leaves every setting of the program and of other libraries unchanged."""
    ours = [file for file in FILES if room_of(file) not in ("studio", "commands", "main", "__main__")]
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in ours]
    top = {name.split(".")[0] for file in ours for name in imported_names(file)} - {"i2i_jax"} - OPTIONAL
    deep = ["orbax.checkpoint", "absl.logging", "matplotlib.pyplot", "jax.experimental.multihost_utils", "PIL.Image"]
    code = WORLD.format(libraries=sorted(top - set(sys.builtin_module_names)) + deep, modules=modules, run=str(trained("bicycle")))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr
