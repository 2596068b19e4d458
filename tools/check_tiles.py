"""Gate on the register tiles of GEMM and convolution: widest registers, nothing spilled.

    python3 tools/check_tiles.py build        # a build tree; needs objdump

In each instruction set's objects, the loop of every tile that multiplies most has to do so in that
set's widest registers, or in those of the vector that its name says, and must not touch vectors on
the stack: what a benchmark on a busy machine does not show. Exits with 1 when a tile fails, or when
there is none to check.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WIDEST = {"v2": "xmm", "v3": "ymm", "v4": "zmm", "v4bf16": "zmm", "v4amx": "tmm"}
SOURCES = ("linear", "linear_bf16", "conv")
TILE = re.compile(
    r"\b((?:(?:along_|amx_|conv_|dot_|images_|lanes_|patch_|threes_|threes_weight_)?tile|few_rows)<[^>]+>)\("
)
VECTOR = re.compile(r"float __vector\((\d+)\)")
OF_LANES = {"4": "xmm", "8": "ymm", "16": "zmm"}
MULTIPLY = re.compile(r"v?(?:fn?m(?:add|sub)\d*|mul|t?dpbf16)ps")
ON_STACK = re.compile(r"\(%rsp\b|-0x[0-9a-f]+\(%rbp\)")  # without a frame %rbp is like any other


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly."""

    address: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where a jump goes."""
        match = re.match(r"([0-9a-f]+)\b", self.operands) if self.name[0] == "j" else None
        return int(match[1], 16) if match else None


def functions(objdump: str) -> Iterator[tuple[str, list[Instruction]]]:
    """(name, instructions) of the tiles in a disassembly."""
    for block in re.split(r"\n\n", objdump):
        header, _, body = block.strip().partition("\n")
        match = TILE.search(header)
        if match is None:
            continue
        lines = re.findall(r"^ *([0-9a-f]+):\t(\S+) *([^\n#<]*)", body, re.M)
        yield match[1], [Instruction(int(a, 16), name, rest.strip()) for a, name, rest in lines]


def multiplications(loop: list[Instruction]) -> float:
    """Their share of a loop."""
    return sum(bool(MULTIPLY.match(i.name)) for i in loop) / len(loop)


def multiplying_loops(code: list[Instruction]) -> list[list[Instruction]]:
    """Bodies of the backward jumps that multiply, and hold no other such."""
    spans = [(i.target, i.address) for i in code if i.target is not None and i.target <= i.address]
    bodies = {(a, b): [i for i in code if a <= i.address <= b] for a, b in spans}
    found = [s for s, body in bodies.items() if multiplications(body)]
    inner = [s for s in found if not any(s[0] <= a and b <= s[1] and s != (a, b) for a, b in found)]
    return [bodies[s] for s in inner]


def problem(code: list[Instruction], register: str) -> str:
    """What is wrong with a tile; "" if nothing. Loops over what is left at an end do not count."""
    loop = max(multiplying_loops(code), key=multiplications, default=None)
    if loop is None:
        return "has no loop that multiplies"
    for i in loop:
        vector = re.search(r"%([xyzt]mm)\d", i.operands)
        if MULTIPLY.match(i.name) and vector and vector[1] != register:
            return f"multiplies in {vector[1]}: {i.name} {i.operands}"
        if vector and ON_STACK.search(i.operands):
            return f"spills: {i.name} {i.operands}"
    return ""


def objects(build: Path) -> Iterator[tuple[str, Path]]:
    """(level, object) of the sources with tiles."""
    for level in WIDEST:
        for source in SOURCES:
            pattern = f"**/fastnn_kernels_{level}.dir/**/{source}.cc.o"
            yield from ((level, path) for path in build.glob(pattern))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("build", type=Path)
    checked = failed = 0
    for level, path in objects(parser.parse_args().build):
        command = ["objdump", "-d", "-C", "--no-show-raw-insn", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for name, code in functions(text):
            checked += 1
            named = VECTOR.search(name)
            register = OF_LANES[named[1]] if named else WIDEST[level]
            if why := problem(code, register):
                failed += 1
                print(f"{level} {name} {why}")
    print(f"{checked} tiles, {failed} failed")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
