"""Imports go one way, and what is heavy or optional stays out."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "i2i_jax"

# A module imports from layers below its own, and from its own module or folder; a folder is one module.
LAYERS = (
    (
        "types",
        "cache",
        "config",
        "crashes",
        "extras",
        "files",
        "hub",
        "parallel",
        "presets",
        "processes",
        "tensorboard",
        "tiling",
        "torch_files",
    ),
    ("losses", "models", "data", "metrics"),
    ("objectives",),
    ("train_state", "sampling"),
    ("checkpoints", "divergence"),
    ("packed",),
    ("build",),
    ("build_metrics", "configs", "evaluation", "logs", "page", "translation", "conversion", "model", "notebook"),
    ("pictures", "shipping", "studio", "tracking", "video", "survey", "pairing"),
    ("export",),
    ("report",),
    ("training",),
    ("commands", "main", "__main__"),
)
RANK = {module: rank for rank, modules in enumerate(LAYERS) for module in modules} | {"interop": 2}
APART = ("losses", "models", "data", "metrics")  # never import each other
FORBIDDEN = {("objectives", "models")}  # networks come by argument

OPTIONAL = {
    "matplotlib",
    "skimage",
    "gradio",
    "IPython",
    "torch",
    "wandb",
    "huggingface_hub",
    "imageio_ffmpeg",
}  # of extras, or of a notebook

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(file: Path) -> set[str]:
    """Every absolute dotted name that `file` imports, at its top, inside a function, or by a call."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "extras.library"):
            names |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_modules(file: Path) -> set[str]:
    return {name.split(".")[1] for name in imported_names(file) if name.startswith("i2i_jax.")}


def allowed(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if (importer, imported) in FORBIDDEN or (importer in APART and imported in APART):
        return False
    return RANK[imported] <= RANK[importer]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file):
    importer = module_of(file)
    if importer == "__init__":
        assert own_modules(file) == {"model"}, "for type checkers"
        return
    assert importer in RANK, f"{importer} has no layer: give it one in LAYERS"
    wrong = sorted(imported for imported in own_modules(file) if not allowed(importer, imported))
    assert not wrong, f"{importer} may not import {wrong}"


def test_the_rules_forbid():
    assert not allowed("losses", "models")
    assert not allowed("objectives", "models")
    assert not allowed("config", "build")
    assert allowed("interop", "models")
    assert allowed("build", "checkpoints")


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
    """To import all of it, and to open a model and use it, leaves every setting of the program and of other libraries as it was."""
    ours = [file for file in FILES if module_of(file) not in ("commands", "main", "__main__")]
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in ours]
    top = {name.split(".")[0] for file in ours for name in imported_names(file)} - {"i2i_jax"} - OPTIONAL
    deep = ["orbax.checkpoint", "absl.logging", "matplotlib.pyplot", "jax.experimental.multihost_utils", "PIL.Image"]
    code = WORLD.format(libraries=sorted(top - set(sys.builtin_module_names)) + deep, modules=modules, run=str(trained("bicycle")))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr
