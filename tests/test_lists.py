"""Lists of names and numbers in the benchmarks' flags."""

import importlib.util
from pathlib import Path

import pytest
from absl import flags

from i2i_jax.config import ConfigError

SPEC = importlib.util.spec_from_file_location("lists", Path(__file__).parents[1] / "benchmarks" / "lists.py")
lists = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(lists)


def flag(text: str | None, default: list[str] | None = None) -> flags.FlagHolder:
    values = flags.FlagValues()
    holder = flags.DEFINE_list("rows", default, "Rows.", flag_values=values)
    values(["program"] if text is None else ["program", f"--rows={text}"])
    return holder


def test_names():
    assert lists.names(flag("cGAN,L1"), ["L1", "GAN", "cGAN"]) == ["cGAN", "L1"]


def test_all_names_that_are_known_if_none_is_given():
    assert lists.names(flag(None), {"L1": 1, "GAN": 2}) == ["L1", "GAN"]


def test_an_unknown_name():
    with pytest.raises(ConfigError, match=r"^--rows: unknown 'cGANs': one of L1, GAN, cGAN \(did you mean 'cGAN'\?\)$"):
        lists.names(flag("L1,cGANs"), ["L1", "GAN", "cGAN"])


@pytest.mark.parametrize(("text", "limits", "numbers"), [("0,12", (), [0, 12]), ("8,1", (1, 8), [8, 1]), (None, (1,), [1, 2])])
def test_whole_numbers(text, limits, numbers):
    assert lists.whole_numbers(flag(text, ["1", "2"]), *limits) == numbers


@pytest.mark.parametrize(
    ("text", "limits", "message"),
    [
        ("1,a", (), "--rows: 'a': must be a whole number of at least 0"),
        ("", (), "--rows: '': must be a whole number of at least 0"),
        ("1,", (), "--rows: '': must be a whole number of at least 0"),
        ("-1", (), "--rows: '-1': must be a whole number of at least 0"),
        ("1.5", (), "--rows: '1.5': must be a whole number of at least 0"),
        ("2,0", (1,), "--rows: '0': must be a whole number of at least 1"),
        ("8,9", (1, 8), "--rows: '9': must be a whole number from 1 to 8"),
    ],
)
def test_what_is_no_such_number(text, limits, message):
    with pytest.raises(ConfigError) as refused:
        lists.whole_numbers(flag(text, ["1", "2"]), *limits)
    assert str(refused.value) == message
