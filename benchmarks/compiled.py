"""Reads compiled programs: what each instruction moves through memory, and where collectives stand."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
HBM = 0  # the memory space of arrays that name none; a TPU's others are on the chip

COMPUTATION = re.compile(r"(ENTRY )?%(\S+) \(.*\{")
INSTRUCTION = re.compile(r"  (?:ROOT )?%(\S+) = (.+?) ([a-z][\w-]*)\((.*?)\)(.*)")
ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([\d,]*)(?::(?:T\(([\d,]*)\))?([^}]*))?\})?")
MOVES_NOTHING = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "partition-id", "replica-id", "after-all"}
SLICES = {"slice", "dynamic-slice", "gather"}
COPIES = {"copy", "transpose"}


class Array(NamedTuple):
    """An array in a program.

    Attributes:
        dtype: XLA's name of it.
        shape: its sizes.
        order: its dimensions from the one whose elements are adjacent to the outermost one.
        tile: sizes of the tiles of the first dimensions of `order`, the outermost first; empty without tiles.
        space: the memory that holds it, HBM or another.
    """

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    tile: tuple[int, ...]
    space: int

    @property
    def bytes(self) -> int:
        """Bytes of its elements."""
        return BYTES.get(self.dtype, 0) * math.prod(self.shape)

    @property
    def padded_bytes(self) -> int:
        """Bytes that it occupies, in whole tiles."""
        sizes = [self.shape[dimension] for dimension in self.order]
        sizes += [1] * (len(self.tile) - len(sizes))
        tiles = [*reversed(self.tile), *[1] * (len(sizes) - len(self.tile))]
        return BYTES.get(self.dtype, 0) * math.prod(-(-size // tile) * tile for size, tile in zip(sizes, tiles, strict=True))


class Instruction(NamedTuple):
    """An instruction: `kind` is XLA's opcode, `operands` the names of its operands or the number of a parameter, `attributes` the rest."""

    name: str
    results: tuple[Array, ...]
    kind: str
    operands: tuple[str, ...]
    attributes: str


class Program(NamedTuple):
    """The computations of a compiled program by name; the instructions of `entry` in the order in which they run."""

    computations: dict[str, dict[str, Instruction]]
    entry: dict[str, Instruction]

    def called(self, instruction: Instruction) -> dict[str, Instruction]:
        """The computation that a fusion consists of; empty for other instructions."""
        match = re.search(r"calls=%([^\s,]+)", instruction.attributes)
        return self.computations[match[1]] if match and instruction.kind == "fusion" else {}


class Traffic(NamedTuple):
    """Bytes read from and written to HBM, and how many of them are padding."""

    bytes: int
    padding: int


class Copy(NamedTuple):
    """A copied array: its bytes, and whether the copy has another order of elements or other tiles."""

    bytes: int
    changes_layout: bool


class Placed(NamedTuple):
    """A collective: bytes of its result per device; shares of the program's convolutions before it starts, and before it is done."""

    kind: str
    bytes: int
    start: float
    done: float


def collectives(program: str) -> list[tuple[str, int]]:
    """Returns (kind, bytes of its result per device) of each collective in the text of a compiled program."""
    return [(kind, sum(array.bytes for array in _arrays(shapes))) for shapes, kind in COLLECTIVE.findall(program)]


def parse(text: str) -> Program:
    """Reads the text of a compiled program."""
    computations, entry, body = {}, {}, {}
    for line in text.splitlines():
        if match := COMPUTATION.match(line):
            body = computations[match[2]] = {}
            entry = body if match[1] else entry
        elif match := INSTRUCTION.match(line):
            name, results, kind, operands, attributes = match.groups()
            names = [operands] if kind == "parameter" else re.findall(r"%([^\s,)]+)", operands)
            body[name] = Instruction(name, _arrays(results), kind, tuple(names), attributes)
    return Program(computations, entry)


def _arrays(shapes: str) -> tuple[Array, ...]:
    numbers = lambda text: tuple(map(int, filter(None, (text or "").split(","))))  # noqa: E731
    found = []
    for dtype, sizes, order, tile, rest in ARRAY.findall(shapes):
        space = re.search(r"S\((\d+)\)", rest)
        found.append(Array(dtype, numbers(sizes), numbers(order), numbers(tile), int(space[1]) if space else HBM))
    return tuple(found)


def donated(text: str) -> int:
    """The number of results that take the place of arguments."""
    return len(re.findall(r"\{\d*\}: \(\d+, \{\d*\}", text.partition("\n")[0]))


def hbm_traffic(program: Program) -> Traffic:
    """What all instructions read from HBM and write to it. Of an operand of which only slices are used, these are read."""
    moved = [array for instruction in program.entry.values() for array in _moved(program, instruction) if array.space == HBM]
    total = sum(array.padded_bytes for array in moved)
    return Traffic(total, total - sum(array.bytes for array in moved))


def _moved(program: Program, instruction: Instruction) -> Iterator[Array]:
    """The arrays that an instruction reads and writes. An asynchronous one reads when it starts, and has written when it is done."""
    if instruction.kind in MOVES_NOTHING:
        return
    if not instruction.kind.endswith("-done"):
        yield from _read(program, instruction)
    if not instruction.kind.endswith("-start"):
        yield from instruction.results


def _read(program: Program, instruction: Instruction) -> Iterator[Array]:
    body = program.called(instruction)
    parameters = {inner.operands[0]: inner.name for inner in body.values() if inner.kind == "parameter"}
    for number, operand in enumerate(instruction.operands):
        whole = program.entry[operand].results
        uses = list(_uses(body, parameters[str(number)])) if body else [instruction]
        if uses and all(use.kind in SLICES for use in uses):
            yield from (use.results[-1]._replace(space=whole[0].space) for use in uses)
        elif uses and all(use.kind == "slice-start" for use in uses):
            yield from (use.results[1]._replace(space=whole[0].space) for use in uses)
        else:
            yield from whole


def _uses(body: dict[str, Instruction], name: str) -> Iterator[Instruction]:
    """The instructions that use the result of another; for a bitcast, which does nothing, those that use its own."""
    for instruction in body.values():
        if name in instruction.operands:
            yield from _uses(body, instruction.name) if instruction.kind == "bitcast" else [instruction]


def copies(program: Program) -> list[Copy]:
    """The arrays that are copied, each by an instruction of its own. Prefetches into other memories do not count."""
    found = []
    for instruction in program.entry.values():
        kinds = {inner.kind for inner in program.called(instruction).values()} or {instruction.kind}
        if kinds & COPIES and kinds <= COPIES | {"parameter", "bitcast"}:
            before, after = (program.entry[instruction.operands[0]].results[0], instruction.results[0])
            found.append(Copy(after.bytes, kinds != {"copy"} or (before.order, before.tile) != (after.order, after.tile)))
    return found


def placed_collectives(program: Program) -> list[Placed]:
    """The collectives of a program among its convolutions, in the order in which they start."""
    total = max(1, sum(_convolves(program, instruction) for instruction in program.entry.values()))
    placed, convolutions = {}, 0
    for instruction in program.entry.values():
        convolutions += _convolves(program, instruction)
        kind = instruction.kind.removesuffix("-start")
        if kind in COLLECTIVES:
            size = sum(array.bytes for array in instruction.results)
            placed[instruction.name] = Placed(kind, size, convolutions / total, convolutions / total)
        elif kind.removesuffix("-done") in COLLECTIVES:
            [start] = instruction.operands
            placed[start] = placed[start]._replace(done=convolutions / total)
    return list(placed.values())


def _convolves(program: Program, instruction: Instruction) -> bool:
    """Whether it is a convolution, one of cuDNN's, or a fusion around a convolution."""
    kinds = {inner.kind for inner in program.called(instruction).values()} | {instruction.kind}
    return "convolution" in kinds or '"__cudnn$conv' in instruction.attributes
