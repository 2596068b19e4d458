"""Gate on what ptxas says of each kernel: no spills, no stack, registers within the kernel's limit,
and no advice that it lost speed: products of warpgroups one by one, setmaxnreg ignored.

    cmake --build build | tee build.log;  python3 tools/check_ptxas.py build.log
    python3 tools/check_ptxas.py build/csrc/kernels/cuda/libfastnn_cuda.so      # needs cuobjdump

Reads the output of `nvcc -Xptxas -v`, or of `cuobjdump -res-usage` when it is given a library.
Exits with 1 when a kernel is over its limit, or when there is none to check.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# The first pattern that matches a kernel's name gives its limit. 64 registers let 32 warps of a
# multiprocessor run, 128 let 16: memory-bound kernels need that many loads in flight.
REGISTER_LIMITS = [
    (r"elementwise_kernel", 64),
    (r"optim_update_kernel<\w+, (Adam<true>|RmsProp<true, true>)", 80),  # three arrays of state
    (r"optim_update_kernel|optim_check_kernel|optim_begin_kernel", 64),
    (r"row_kernel<.*MultiLabelMarginBwd", 136),  # loops over labels and classes per element
    (r"wgmma_kernel", 168),  # a third of them is given on (setmaxnreg)
    (r"row_norm_bwd_kernel", 232),  # the gradients of up to 32 columns stay in registers
    (r"sequence_(fwd|bwd)_kernel", 128),  # of 512 threads, one block a multiprocessor
    (r"", 128),
]


@dataclass
class Usage:
    """What one kernel takes on one architecture."""

    name: str
    arch: str
    registers: int
    stack: int
    spills: int

    @property
    def limit(self) -> int:
        return next(limit for pattern, limit in REGISTER_LIMITS if re.search(pattern, self.name))

    @property
    def problem(self) -> str:
        if self.spills:
            return f"spills {self.spills} bytes"
        if self.stack:
            return f"uses {self.stack} bytes of stack"
        if self.registers > self.limit:
            return f"uses {self.registers} registers, limit {self.limit}"
        return ""


def demangle(names: list[str]) -> list[str]:
    """Readable names, without namespaces and arguments."""
    if shutil.which("c++filt") is None:
        return names
    done = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    readable = []
    for line in done.stdout.splitlines():
        line = re.sub(r"\(anonymous namespace\)|_GLOBAL__N__\w+", "", line)
        line = re.sub(r"fastnn::(::)?|^void ", "", line).strip()
        readable.append(re.sub(r"\((int|short|char|unsigned int|bool)\)", "", line).split("(")[0])
    return readable


def find_tool(name: str) -> str | None:
    """The tool in $NAME, on the path, in a CUDA toolkit, or from PyPI (nvidia-cuda-<name>)."""
    if os.environ.get(name.upper()):
        return os.environ[name.upper()]
    places = [
        Path(p) / "bin" for p in ("/usr/local/cuda", os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    ]
    places += [p for root in sys.path if root for p in Path(root).glob("nvidia/*/bin")]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, places)))


def parse_log(text: str) -> list[Usage]:
    """The kernels in the output of ptxas -v."""
    found: list[Usage] = []
    current: Usage | None = None
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            current = Usage(match[1], match[2], 0, 0, 0)
        elif current and (
            match := re.search(
                r"(\d+) bytes stack.* (\d+) bytes spill st.* (\d+) bytes spill", line
            )
        ):
            current.stack, current.spills = int(match[1]), int(match[2]) + int(match[3])
        elif current and (match := re.search(r"Used (\d+) registers", line)):
            current.registers = int(match[1])
            found.append(current)
            current = None
    return found


def advice(text: str) -> list[str]:
    """What ptxas -v remarks on: (C7508) setmaxnreg ignored, (C7510) wgmma serialized, and so on."""
    return re.findall(
        r"^.*\(C75\d\d\).*$|^.*(?:serialized|setmaxnreg ignored).*$", text, re.MULTILINE
    )


def parse_library(path: Path) -> list[Usage]:
    """The kernels of a library, from cuobjdump; it does not tell spills from other stack."""
    tool = find_tool("cuobjdump")
    if tool is None:
        sys.exit("check_ptxas: cuobjdump was not found: pip install nvidia-cuda-cuobjdump")
    text = subprocess.run(
        [tool, "-res-usage", str(path)], capture_output=True, text=True, check=True
    ).stdout
    pattern = r"arch = (\w+)|Function (\w+):\s*REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)"
    found, arch = [], ""
    for match in re.finditer(pattern, text):
        if match[1]:
            arch = match[1]
        else:
            found.append(Usage(match[2], arch, int(match[3]), int(match[4]) + int(match[5]), 0))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="+", type=Path, help="build logs or libraries")
    parser.add_argument(
        "--all", action="store_true", help="print every kernel, not a summary per name"
    )
    args = parser.parse_args()
    found: list[Usage] = []
    remarks: list[str] = []
    for path in args.inputs:
        if path.suffix in (".so", ".o", ".cubin"):
            found += parse_library(path)
        else:
            text = path.read_text(errors="replace")
            found += parse_log(text)
            remarks += advice(text)
    for usage, name in zip(found, demangle([u.name for u in found]), strict=True):
        usage.name = name
    groups: dict[str, list[Usage]] = {}
    for usage in sorted(found, key=lambda u: u.name):
        groups.setdefault(usage.name if args.all else usage.name.split("<")[0], []).append(usage)
    print(f"{'kernel':60} {'count':>5} {'registers':>10} {'limit':>5} {'stack':>5} {'spills':>6}")
    for name, group in groups.items():
        registers = [u.registers for u in group]
        spread = (
            f"{min(registers)}-{max(registers)}"
            if min(registers) < max(registers)
            else str(registers[0])
        )
        print(
            f"{name:60} {len(group):5} {spread:>10} {group[0].limit:5} "
            f"{max(u.stack for u in group):5} {max(u.spills for u in group):6}"
        )
    bad = [u for u in found if u.problem]
    for usage in bad:
        print(f"FAILED {usage.name} ({usage.arch}): {usage.problem}")
    for remark in remarks:
        print(f"FAILED {remark}")
    if not found:
        print("FAILED no kernels were found: expected the output of nvcc -Xptxas -v")
    print(f"check_ptxas: {len(found)} kernels, {len(bad)} over their limits")
    return 1 if bad or remarks or not found else 0


if __name__ == "__main__":
    sys.exit(main())
