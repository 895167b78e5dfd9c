"""Reads the collectives of a compiled program."""

import math
import re

COLLECTIVE = re.compile(r" = (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}


def collectives(program: str) -> list[tuple[str, int]]:
    """Returns (kind, bytes of its result per device) of each collective in the text of a compiled program."""
    found = []
    for shapes, kind in COLLECTIVE.findall(program):
        arrays = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        found.append((kind, sum(BYTES[dtype] * math.prod(map(int, filter(None, sizes.split(",")))) for dtype, sizes in arrays)))
    return found
