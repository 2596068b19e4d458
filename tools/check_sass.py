"""Gate on the machine code: 16-byte accesses in hot kernels, no local memory, no generic addresses;
products of warpgroups (HGMMA), as many as are written, tiles by TMA and matrix stores (STSM),
barriers of clusters (UCGABAR), products of warps (HMMA).

    python3 tools/check_sass.py build/csrc/kernels/cuda/libfastnn_cuda.so [--require]

Needs cuobjdump and nvdisasm (pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm); without them
it says so and exits with 0, or with 1 under --require. Exits with 1 when a kernel fails.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from check_ptxas import demangle, find_tool

# Kernels whose time is memory traffic, and the accesses they must have.
NEEDED = [
    (r"elementwise_kernel<(\w+), (\w+), 0", ["STG.128"]),  # no input: fill, uniform
    (r"elementwise_kernel", ["LDG.128", "STG.128"]),
    (r"row_norm_(fwd|bwd)_kernel", ["LDG.128", "STG.128"]),
    (r"row_kernel<.*(Softmax|LogSumExpBwd|CrossEntropyBwd|Dropout)", ["LDG.128", "STG.128"]),
    (r"row_kernel", ["LDG.128"]),
    (r"pointwise_loss_bwd_kernel", ["LDG.128", "STG.128"]),
    (r"pointwise_loss_fwd_kernel|sum_chunks_kernel|grad_norm_(max|sum)_kernel", ["LDG.128"]),
    (r"plane_norm_(fwd|bwd)_kernel", ["LDG.128", "STG.128"]),
    (r"add_activation_kernel|penalty_bwd_kernel|grad_(scale|clamp)_kernel", ["LDG.128", "STG.128"]),
    (r"take_kernel|gather_kernel|copy_rows_kernel", ["LDG.128", "STG.128"]),
    (r"optim_update_kernel", ["LDG.128", "STG.128"]),
    (r"optim_check_kernel", ["LDG.128"]),
    (r"mlp_step_kernel", ["LDS.128", "LDG.128", "STG.128"]),  # weights, rows, sums
    (r"mlp_sums_kernel", ["LDG.128"]),
    (r"conv_kernel<float", ["LDS.128", "STG.128"]),  # strips of both factors; y
    (r"conv_kernel|conv_weight_kernel", ["LDS.128"]),
    (r"conv_bias_kernel|ending_kernel", ["LDG.128"]),
    (r"sequence_(fwd|bwd)_kernel<.*bf16", ["LDS.128", "HMMA", "UCGABAR_ARV", "UCGABAR_WAIT"]),
    (r"sequence_(fwd|bwd)_kernel", ["LDS.128", "UCGABAR_ARV", "UCGABAR_WAIT"]),
    (r"wgmma_kernel<float", ["UTMALDG", "USETMAXREG", "STG.128"]),
    (r"wgmma_kernel", ["UTMALDG", "USETMAXREG", "STSM", "STG.128", "STG.64"]),
]
# Whose stores to other blocks' shared memory look like generic ones.
OF_CLUSTERS = r"sequence_(fwd|bwd)_kernel"
# The products of a stage of k, by the type of the factors. More of them are a loop that was taken
# apart, whose pieces may wait for one another.
PRODUCTS = {"float": "64x{}x8.F32.TF32", "bf16": "64x{}x16.F32.BF16", "f16": "64x{}x16.F32"}
STEPS = 4


def accesses(sass: str) -> Counter[str]:
    """Counts LDG.128, LDS.32, LDL, STL, ... in the code of one function."""
    counts: Counter[str] = Counter()
    for op, flags in re.findall(r"\b(LDG|STG|LDS|LDL|STL|LD|ST)((?:\.\w+)*)\b", sass):
        width = next((w for w in ("128", "64") if f".{w}" in flags), "32")
        counts[f"{op}.{width}" if op in ("LDG", "STG", "LDS") else op] += 1
    counts.update(re.findall(r"\b(UTMALDG|USETMAXREG|STSM|HMMA|UCGABAR_ARV|UCGABAR_WAIT)\b", sass))
    counts.update(re.findall(r"\bHGMMA\.([\w.]+)", sass))
    return counts


def product_problems(name: str, counts: Counter[str]) -> list[str]:
    """What is wrong with the products of warpgroups in a kernel, if it should have any."""
    if "wgmma_kernel" not in name:
        return []
    match = re.search(r"wgmma_kernel<\W*(\w+), .*?Tile<\W*\w+, (\d+)", name)
    wanted = PRODUCTS[match[1]].format(match[2]) if match else "of a known type"
    have = counts[wanted]
    return [] if have == STEPS else [f"has {have} HGMMA.{wanted}, expected {STEPS}"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", type=Path)
    parser.add_argument("--require", action="store_true", help="fail when the tools are missing")
    args = parser.parse_args()
    cuobjdump, nvdisasm = find_tool("cuobjdump"), find_tool("nvdisasm")
    if cuobjdump is None or nvdisasm is None:
        print("check_sass: NOT CHECKED: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
        return 1 if args.require else 0
    path = os.pathsep.join([str(Path(nvdisasm).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [cuobjdump, "-sass", str(args.library)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path},
    )
    functions = re.split(r"^\s*Function : ", done.stdout, flags=re.MULTILINE)[1:]
    names = demangle([f.split("\n", 1)[0].strip() for f in functions])
    columns = [
        "LDG.128",
        "LDG.64",
        "LDG.32",
        "STG.128",
        "STG.64",
        "STG.32",
        "LDS.128",
        "LDL",
        "STL",
        "LD",
        "ST",
    ]
    failures: list[str] = []
    rows: dict[str, list[Counter[str]]] = {}
    for name, body in zip(names, functions, strict=True):
        counts = accesses(body)
        needed = next((n for pattern, n in NEEDED if re.search(pattern, name)), [])
        problems = [f"has no {n}" for n in needed if not counts[n]]
        bad = ["LDL", "STL", "LD"] + ["ST"] * (re.search(OF_CLUSTERS, name) is None)
        problems += [f"has {counts[n]} {n}" for n in bad if counts[n]]
        problems += product_problems(name, counts)
        failures += [f"FAILED {name}: {p}" for p in problems]
        rows.setdefault(name.split("<")[0], []).append(counts)
    print(
        f"{'kernel (most of any instance)':40} {'count':>5} " + " ".join(f"{c:>7}" for c in columns)
    )
    for name, group in sorted(rows.items()):
        print(
            f"{name:40} {len(group):5} "
            + " ".join(f"{max(c[k] for c in group):7}" for k in columns)
        )
    print(*failures, sep="\n", end="\n" if failures else "")
    print(f"check_sass: {len(functions)} kernels, {len(failures)} failures")
    return 1 if failures or not functions else 0


if __name__ == "__main__":
    sys.exit(main())
