"""Everything to do on a GPU machine, in one command and a time budget.

    python3 tools/gpu_check.py --out DIR [--budget 540] [--only probe,bench] [--library F]
    python3 tools/gpu_check.py --out DIR --fake     # the emulated library and tiny shapes, on a CPU

Stages: probe, load, correct (pytest -m gpu), bench. Each case appends one JSON line to
DIR/results.jsonl at once, so that a kill loses one case. Exits with 1 if a case failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("probe", "load", "correct", "bench")
ITEM = {"float32": 4, "bfloat16": 2}


class Run:
    """Where results go, and how much time is left."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.fake: bool = args.fake
        self.deadline = time.monotonic() + args.budget
        self.failed = 0
        self.records: list[dict[str, Any]] = []
        args.out.mkdir(parents=True, exist_ok=True)
        self.file = args.out / "results.jsonl"
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        self.commit = commit.stdout.strip()

    @property
    def left(self) -> float:
        """Seconds until the budget is spent."""
        return self.deadline - time.monotonic()

    def case(self, name: str, body: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run one case, and write what it returns, or why it failed, before the next one starts."""
        record: dict[str, Any] = {"case": name, "commit": self.commit, "fake": self.fake}
        start = time.monotonic()
        if self.left <= 0:
            record["skipped"] = "the budget is spent"
        else:
            try:
                record |= body()
            except Exception as error:  # one case must not take the others with it
                record["error"] = f"{type(error).__name__}: {error}"
        self.failed += "error" in record
        record["seconds"] = round(time.monotonic() - start, 3)
        self.records.append(record)
        with self.file.open("a") as out:
            out.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)
        return record


def probe() -> dict[str, Any]:
    """The machine: GPU and driver as nvidia-smi tells them, processor, Python."""
    found: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count()}
    if shutil.which("nvidia-smi"):
        query = (
            "--query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit"
        )
        command = ["nvidia-smi", query, "--format=csv,noheader"]
        smi = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        found["nvidia_smi"] = smi.stdout.strip() or smi.stderr.strip()
    return found


def load() -> dict[str, Any]:
    """Does the library load and find a device?"""
    start = time.perf_counter()
    import fastnn as fn

    imported = time.perf_counter()
    if not fn.cuda.is_available():
        raise RuntimeError(fn.cuda.why_unavailable())
    description = fn.cuda.device_description()
    loaded = time.perf_counter()
    return {
        "device": description,
        "version": fn.__version__,
        "import_ms": round(1e3 * (imported - start), 1),
        "load_ms": round(1e3 * (loaded - imported), 1),
    }


def correct(run: Run) -> dict[str, Any]:
    """The tests that need a device, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
    limit = max(1.0, min(run.left, 240.0))
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit
    )
    tail = done.stdout.strip().splitlines()[-15:]
    if done.returncode not in (0, 5):  # 5: there are no such tests
        raise RuntimeError("pytest -m gpu: " + "\n".join(tail))
    return {"pytest": tail[-1] if tail else "", "tests": done.returncode == 0}


def measure(call: Callable[[], Any], fake: bool) -> list[float]:
    """Seconds per call, once for each of 7 rounds; a read of one element waits for the device."""
    import fastnn as fn

    flag = fn.tensor([0.0], device="cuda")
    inner = 1 if fake else 20
    for _ in range(1 if fake else 5):
        call()
    times = []
    for _ in range(2 if fake else 7):
        flag.to("cpu")
        start = time.perf_counter()
        for _ in range(inner):
            call()
        flag.to("cpu")
        times.append((time.perf_counter() - start) / inner)
    return times


Case = tuple[str, str, tuple[int, ...], float, Callable[[], Any]]


def elementwise_and_norm_cases(fake: bool) -> Iterator[Case]:
    """Activations and layer_norm: name, dtype, shape, bytes that must move, call."""
    import fastnn as fn
    import numpy as np

    shapes = [(5, 37)] if fake else [(8192, 1024), (65536, 1024), (16384, 4096), (65536, 256)]
    for dtype, item in ITEM.items():
        for rows, cols in shapes:
            data = np.random.default_rng(0).standard_normal((rows, cols), dtype=np.float32)
            x = fn.tensor(data, dtype=dtype, device="cuda")
            w = fn.tensor(np.ones(cols, np.float32), dtype=dtype, device="cuda", requires_grad=True)
            b = fn.tensor(
                np.zeros(cols, np.float32), dtype=dtype, device="cuda", requires_grad=True
            )
            leaf = fn.tensor(data, dtype=dtype, device="cuda", requires_grad=True)
            pass_bytes = float(rows * cols * item)

            def both(
                leaf: Any = leaf, x: Any = x, w: Any = w, b: Any = b, cols: int = cols
            ) -> None:
                leaf.grad = w.grad = b.grad = None
                fn.functional.layer_norm(leaf, (cols,), w, b).backward(x)

            def norm(x: Any = x, w: Any = w, b: Any = b, cols: int = cols) -> None:
                with fn.no_grad():
                    fn.functional.layer_norm(x, (cols,), w, b)

            for name in ("relu", "gelu", "tanh"):
                function = getattr(fn.functional, name)
                yield name, dtype, (rows, cols), 2 * pass_bytes, lambda f=function, x=x: f(x)
            yield "layer_norm", dtype, (rows, cols), 2 * pass_bytes, norm
            yield "layer_norm fwd+bwd", dtype, (rows, cols), 5 * pass_bytes, both


def adam_cases(fake: bool) -> Iterator[Case]:
    """Adam over few large and many small parameters; its time includes the check of gradients."""
    import fastnn as fn
    import numpy as np

    tables = [(3, 41)] if fake else [(200, 1_000_000), (10, 16_800_000), (1000, 1024)]
    for dtype, item in ITEM.items():
        for count, n in tables:
            data = np.random.default_rng(1).standard_normal(n, dtype=np.float32)
            gradient = fn.tensor(data, dtype=dtype, device="cuda")
            params = []
            for _ in range(count):
                p = fn.tensor(data, dtype=dtype, device="cuda", requires_grad=True)
                p.grad = gradient
                params.append(p)
            step = fn.optim.Adam(params, lr=1e-3).step
            # p and g, with g read by the check as well; m and v in float32
            yield "adam", dtype, (count, n), float(count * n * (4 * item + 16)), step


def bench(run: Run) -> None:
    """The time of each case, as a share of the bandwidth of a copy measured in this run."""
    import fastnn as fn
    import numpy as np

    def copy() -> dict[str, Any]:
        n = 1 << (10 if run.fake else 29)
        x = fn.tensor(np.zeros(n, np.float32), device="cuda")
        y = x.clone()
        times = measure(lambda: y.copy_(x), run.fake)
        return {"bytes": 8 * n, "copy_gb_s": 8e-9 * n / statistics.median(times)}

    bandwidth = run.case("bench copy", copy).get("copy_gb_s")

    def timed(case: Case) -> dict[str, Any]:
        name, dtype, shape, moved, call = case
        times = measure(call, run.fake)
        seconds = statistics.median(times)
        rate = 1e-9 * moved / seconds
        return {
            "op": name,
            "dtype": dtype,
            "shape": list(shape),
            "fastnn_us": 1e6 * seconds,
            "spread": (max(times) - min(times)) / seconds,
            "bytes": moved,
            "gb_s": rate,
            "pct_C": 100 * rate / bandwidth if bandwidth else None,
        }

    for cases in (elementwise_and_norm_cases, adam_cases):
        iterator = cases(run.fake)

        def following(iterator: Iterator[Case] = iterator) -> Case | None:
            return next(iterator, None)

        while run.left > 0:
            try:
                case = following()
            except Exception as error:  # the inputs could not be made
                run.case(f"bench {cases.__name__}", lambda e=error: (_ for _ in ()).throw(e))
                break
            if case is None:
                break
            run.case(f"bench {case[0]} {case[1]} {case[2]}", lambda case=case: timed(case))


def find_fake() -> str:
    """The newest emulated library below build/."""
    if os.environ.get("FASTNN_CUDA_LIBRARY"):
        return os.environ["FASTNN_CUDA_LIBRARY"]
    found = sorted(
        ROOT.glob("build/**/libfastnn_cuda_emulated.so"), key=lambda p: p.stat().st_mtime
    )
    if not found:
        sys.exit("gpu_check --fake: build with -DFASTNN_CUDA_EMULATOR=ON first")
    return str(found[-1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=540.0, help="seconds")
    parser.add_argument("--only", default=",".join(STAGES), help="stages, comma-separated")
    parser.add_argument("--library", default="", help="libfastnn_cuda.so, if it is not installed")
    parser.add_argument("--fake", action="store_true")
    args = parser.parse_args()
    stages = args.only.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(
            f"--only: expected some of {', '.join(STAGES)}, got {', '.join(sorted(unknown))}"
        )
    library = args.library or (find_fake() if args.fake else "")
    if library:
        os.environ["FASTNN_CUDA_LIBRARY"] = str(Path(library).resolve())
    run = Run(args)
    if "probe" in stages:
        run.case("probe", probe)
    loaded = run.case("load", load)
    if "correct" in stages:
        run.case("correct", lambda: correct(run))
    if "bench" in stages and "error" not in loaded:
        bench(run)
    print(f"\n{'case':45} {'us':>10} {'GB/s':>8} {'% of C':>7}")
    for r in (r for r in run.records if "gb_s" in r):
        print(f"{r['case']:45} {r['fastnn_us']:10.1f} {r['gb_s']:8.1f} {r['pct_C'] or 0:7.1f}")
    print(f"gpu_check: {len(run.records)} cases, {run.failed} failed; results in {run.file}")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
