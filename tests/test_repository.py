"""The repository's address is defined once, in pyproject.toml, and repeated correctly; CITATION.cff is valid."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml  # Flax needs it

ROOT = Path(__file__).parents[1]
TEXTS = sorted(
    path
    for pattern in ("*.md", "*.cff", "docs/*.md", "benchmarks/*.md", "colab/*.ipynb", ".github/workflows/*.yml", "mkdocs.yml")
    for path in ROOT.glob(pattern)
)
# The places of the text where the address of this repository is expected.
PLACES = re.compile(r'(?:git clone |git\+|REPOSITORY = \\?"|repository-code: "?)(https?://[^\s"\\`]+)')


@pytest.fixture(scope="module")
def repository():
    spec = importlib.util.spec_from_file_location("repository", ROOT / ".ci" / "repository.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_files_have_the_address_of_pyproject(repository):
    found = {path.relative_to(ROOT).as_posix(): PLACES.findall(path.read_text("utf-8")) for path in TEXTS}
    found = {name: addresses for name, addresses in found.items() if addresses}
    expected = {"README.md", "CITATION.cff", *(path.relative_to(ROOT).as_posix() for path in (ROOT / "colab").glob("*.ipynb"))}
    assert set(found) == expected
    assert {address for addresses in found.values() for address in addresses} == {repository.address()}


def test_the_placeholder_stands_nowhere_else(repository):
    """Where one command replaces it, nothing is left behind."""
    holding = {path for path in TEXTS if repository.address() in path.read_text("utf-8")}
    replaced = {path for pattern in repository.FILES for path in ROOT.glob(pattern)}
    assert holding <= replaced


def test_one_command_sets_the_address(repository, tmp_path):
    for name in ("pyproject.toml", "README.md", "CITATION.cff", ".ci", "colab"):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    command = [sys.executable, str(tmp_path / ".ci" / "repository.py")]
    new = "https://code.example.com/someone/i2i_jax"
    done = subprocess.run([*command, f"{new}.git"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"pyproject.toml", "README.md", "CITATION.cff"} <= set(done.stdout.split())
    assert repository.address(tmp_path) == new
    for path in [tmp_path / name for name in done.stdout.split()]:
        assert new in path.read_text("utf-8") and repository.address() not in path.read_text("utf-8")
    done = subprocess.run([*command, "nowhere"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("usage: ") and new in done.stderr


def test_the_citation_is_valid(repository):
    """By the rules of the Citation File Format 1.2.0 for the fields that are used."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["repository-code"] == repository.address()
    assert set(citation) <= {
        "cff-version", "message", "type", "title", "abstract", "authors", "version", "license", "repository-code", "keywords", "references",
    }  # fmt: skip
    works = [citation, *citation["references"]]
    assert [work["type"] for work in works] == ["software", "conference-paper", "conference-paper"]
    for work in works:
        assert work["title"] and work["authors"]
        for author in work["authors"]:
            assert set(author) in ({"name"}, {"family-names", "given-names"})
    for paper in citation["references"]:
        assert set(paper) <= {"type", "title", "authors", "year", "collection-title", "conference", "url", "pages", "doi"}
        assert isinstance(paper["year"], int) and set(paper["conference"]) == {"name"}


def test_the_bibtex_has_the_papers_of_the_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    entries = re.findall(r"@\w+\{.*?^\}", (ROOT / "docs" / "citing.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    titles = {re.sub(r"[{}]", "", re.search(r"title *= *\{(.*)\},?$", entry, re.MULTILINE)[1]) for entry in entries}
    assert {paper["title"] for paper in citation["references"]} <= titles
    assert all(re.search(r"year *= *\{(\d{4})\}", entry) for entry in entries)
