"""Links, anchors and commands in the README, the guides and the notebooks are valid."""

import ast
import importlib.util
import json
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest

from i2i_jax import configs
from i2i_jax.__main__ import COMMANDS
from i2i_jax.config import Config, flatten

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT, ROOT / "docs", ROOT / "benchmarks", ROOT / "i2i_jax" / "pretrained")
GUIDES = [path for folder in FOLDERS for path in sorted(folder.glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
PROGRAM = re.compile(r"(?:^|\s)!?(?:python3? (-m i2i_jax\.main|-m i2i_jax [a-z]+|benchmarks/\w+\.py)|(i2i [a-z]+))(?=\s|$)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text("utf-8")
    return "\n\n".join(f"```\n{''.join(cell['source'])}\n```" for cell in json.loads(path.read_text("utf-8"))["cells"])


def code_of(text: str) -> list[str]:
    """The lines of fenced blocks, with continued lines joined, and inline code."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return lines + [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def commands_of(text: str) -> list[tuple[str, list[str]]]:
    """(program, arguments) of each of this project's commands in the text."""
    commands = []
    for line in code_of(text):
        for part in re.split(r"&&|;|\|", line):
            if match := PROGRAM.search(part):
                commands.append((match[1] or match[2], shlex.split(part[match.end() :], comments=True)))
    return commands


def source_of(program: str) -> Path:
    """The file that defines a program's flags."""
    kind, _, name = program.partition(" ")
    if not name:
        return ROOT / kind
    module = "i2i_jax.main" if name == "i2i_jax.main" else COMMANDS[name.removeprefix("i2i_jax ")][0]
    return Path(importlib.util.find_spec(module).origin)


def flags_of(source: Path) -> tuple[set[str], set[str]]:
    """The names of flags that take a value, and of those that do not."""
    calls = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)]
    named = [(node.func.attr, node.args) for node in calls if isinstance(node.func, ast.Attribute)]
    defined = [(kind, args[0].value) for kind, args in named if kind.startswith("DEFINE_")]
    bare = {name for kind, name in defined if kind.startswith("DEFINE_bool")}
    valued = {name for _, name in defined}
    if any(kind in ("DEFINE_config_file", "define_config_options") for kind, _ in named):
        valued |= {f"config.{name}" for name in flatten(Config())}
    return valued, bare | {f"no{name}" for name in bare} | {"help"}


def wrong(program: str, arguments: list[str]) -> list[str]:
    """The unknown program, flags and configs in a command."""
    try:
        valued, bare = flags_of(source_of(program))
    except (KeyError, OSError):
        return [program]
    options = [argument[2:].partition("=") for argument in arguments if argument.startswith("--")]
    unknown = [name for name, given, _ in options if name not in (valued if given else bare)]
    named = [re.split(r"[:\[]", value)[0] for name, _, value in options if name == "config"]
    return unknown + [name for name in named if name not in ("...", *configs.NAMES) and not (ROOT / name).is_file()]


@pytest.mark.parametrize("path", [*GUIDES, *NOTEBOOKS], ids=name_of)
def test_commands_are_known(path):
    assert [f"{program} {unknown}" for program, arguments in commands_of(text_of(path)) for unknown in wrong(program, arguments)] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8")) <= 9000, "tables and details belong in docs/"


def test_commands_are_found():
    assert len(commands_of((ROOT / "README.md").read_text())) > 10
    for text, unknown in [
        ("```bash\npip install x && python -m i2i_jax translate --run=RUN --sinc  # one\n```", ["sinc"]),
        ("`python -m i2i_jax.main --config=configs/bicycle.py:folder\n--config.train.step=5`", ["config.train.step"]),
        ("`i2i evaluate --run --samples=5`", ["run"]),
        ("`python -m i2i_jax transplant --run=RUN`", ["-m i2i_jax transplant"]),
        ("`python -m i2i_jax.main --config=configs/none.py`", ["configs/none.py"]),
        ("`i2i train --config=finetune:RUN --config.data.path=DIR`", []),
        ("`i2i train --config=none:facades`", ["none"]),
        ("`srun -n 4 python -m i2i_jax.main --config=... --workdir=RUN`", []),
        ("```\ni2i translate --run=RUN --sync \\\n  --size=64\n```", []),
    ]:
        [(program, arguments)] = commands_of(text)
        assert wrong(program, arguments) == unknown


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", GUIDES, ids=name_of)
def test_links_lead_somewhere(path):
    text = text_of(path)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []
