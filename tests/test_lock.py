"""Every dependency has a lower bound and no upper bound, and the lock file has one version of it for each Python."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("torch", "hub", "plots", "pairs", "studio", "video", "wandb", "browser", "onnx", "aot", "docs", "test", "dev")
REQUIREMENTS = [
    requirement
    for text in [*PROJECT["dependencies"], *(text for extra in EXTRAS for text in PROJECT["optional-dependencies"][extra])]
    if (requirement := Requirement(text)).name != PROJECT["name"]
]
LINUX = {
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}
LOCKED = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_a_floor_and_no_cap(requirement):
    assert [specifier.operator for specifier in requirement.specifier] == [">="]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_the_lock_has_one_version_above_the_floor(requirement, python):
    here = LINUX | {"python_version": python, "python_full_version": f"{python}.7", "implementation_version": f"{python}.7"}
    named = [locked for locked in LOCKED if canonicalize_name(locked.name) == canonicalize_name(requirement.name)]
    (locked,) = (locked for locked in named if locked.marker is None or locked.marker.evaluate(here))
    (version,) = locked.specifier
    assert version.operator == "=="
    assert requirement.specifier.contains(version.version)


def test_every_line_names_a_version():
    """Each line pins a version, none has a URL, and this package is not among them."""
    assert all(locked.specifier and not locked.url for locked in LOCKED)
    assert PROJECT["name"] not in [canonicalize_name(locked.name) for locked in LOCKED]
