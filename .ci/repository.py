"""Sets the repository's address everywhere: python .ci/repository.py https://HOST/OWNER/i2i_jax

It is defined in pyproject.toml (project.urls.Repository) and repeated in the files below; tests/test_repository.py holds them equal.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("pyproject.toml", "README.md", "CITATION.cff", "colab/*.ipynb")


def address(root: Path = ROOT) -> str:
    """The address that pyproject.toml defines."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]


def replace(new: str, root: Path = ROOT) -> list[Path]:
    """Replaces the address in all files; returns those that changed."""
    old, changed = address(root), []
    for file in (file for pattern in FILES for file in sorted(root.glob(pattern))):
        text = file.read_text("utf-8")
        if (replaced := re.sub(re.escape(old) + r"(?![\w./-])", lambda _: new, text)) != text:
            file.write_text(replaced, "utf-8")
            changed.append(file)
    return changed


if __name__ == "__main__":
    if len(sys.argv) != 2 or not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", sys.argv[1]):
        sys.exit(f"usage: python .ci/repository.py https://HOST/OWNER/NAME (now: {address()})")
    for file in replace(sys.argv[1].removesuffix(".git").rstrip("/")):
        print(file.relative_to(ROOT))
