"""Everything to do on a GPU machine, in one command and a time budget.

    python3 tools/gpu_check.py [--out bench/gpu/results] [--budget 540] [--only probe,bench]
    python3 tools/gpu_check.py --fake --out DIR     # the emulated library and tiny shapes, on a CPU

Stages: probe, load, correct (pytest -m gpu), ops (three runs of every op, and of the fused step of
a small network: bits and errors), sanitize (compute-sanitizer, where there is one), devices (where
there are two: do they agree, is the thread's device left as it was, how fast are copies between
them), streams (work on those of others, and in graphs of torch's: has it the same bits, what does
it cost the host), bench (against torch in the same run), products (each path that makes products of
matrices, alone and in layers with all that follows their sums: do they agree, which is the fastest;
OUT/measured.txt has the lines for blas_measured.h), recurrent (layers as one kernel of clusters: do
they agree with steps, are they faster). Each case appends one JSON line to OUT/log.jsonl at once,
so that a kill loses one case; at the end OUT/<date>-<commit>.json has all of them and the verdicts,
one line for each goal of docs/goals.md.
Exits with 1 if a case failed; a goal that is missed is a number, not a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.gpu.goals import GOALS, judge, line  # noqa: E402

STAGES = (
    "probe",
    "load",
    "correct",
    "ops",
    "sanitize",
    "devices",
    "streams",
    "bench",
    "products",
    "recurrent",
)
RESULTS = ROOT / "bench" / "gpu" / "results"
SANITIZERS = ("memcheck", "racecheck", "initcheck")


class Run:
    """Where results go, and how much time is left."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.fake: bool = args.fake
        self.deadline = time.monotonic() + args.budget
        self.failed = 0
        self.records: list[dict[str, Any]] = []
        args.out.mkdir(parents=True, exist_ok=True)
        self.out: Path = args.out
        self.file = args.out / "log.jsonl"
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
    found = fn.cuda.info()
    loaded = time.perf_counter()
    return {
        "device": found["device"],
        "cublaslt": found["cublaslt_version"] or found["cublaslt_reason"],
        "wgmma": found["wgmma_reason"] or "available",
        "clusters": found["clusters_reason"] or "available",
        "devices": fn.cuda.device_count(),
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


def sample_of_every_op() -> list[tuple[Any, str, Any]]:
    """(op, dtype, inputs) of the op table's first cases that CUDA has."""
    from fastnn.testing.ops import OPS

    return [
        (op, dtype, op.sample(*op.cases[0], dtype))
        for op in OPS
        if op.cuda is None
        for dtype in op.cuda_dtypes or op.dtypes
    ]


def run_op(op: Any, dtype: str, sample: Any) -> Any:
    """The result of one op on the device."""
    import fastnn as fn
    from fastnn.testing.harness import SEED, to_tensors

    fn.manual_seed(SEED)
    inputs = [
        None if x is None else x.detach().to("cuda") for x in to_tensors(op, sample.inputs, dtype)
    ]
    with fn.no_grad():
        return np.array(op.call(*inputs, **sample.params).to("cpu"))


def run_small_step() -> Any:
    """Outputs, loss and gradients of a small network by the fused kernel, one after the other."""
    import fastnn as fn

    fn.manual_seed(0)
    layers = [fn.nn.Linear(13, 70), fn.nn.GELU(), fn.nn.Linear(70, 33), fn.nn.ReLU()]
    net = fn.nn.Sequential(*layers, fn.nn.Linear(33, 7)).to("cuda")
    x = np.cos(np.arange(67 * 13, dtype=np.float32)).reshape(67, 13)
    x, y = (fn.tensor(v, device="cuda") for v in (x, np.arange(67) % 7))
    results = fn.train.forward_backward(net, fn.nn.CrossEntropyLoss(), x, y)
    grads = [p.grad for p in net.parameters()]
    return np.concatenate([np.array(v.to("cpu")).ravel() for v in (*results, *grads)])


def small_step() -> dict[str, Any]:
    """Whether three runs of the fused step have the same bits, and their distance to the ops."""
    import fastnn as fn

    fn.cuda.set_mlp_path("fused")
    before = fn.cuda.info()["mlp_steps_fused"]
    results = [run_small_step() for _ in range(3)]
    fn.cuda.set_mlp_path("ops")
    by_ops = run_small_step()
    fn.cuda.set_mlp_path("auto")
    refused = fn.cuda.info()["mlp_refused"]
    if refused or fn.cuda.info()["mlp_steps_fused"] != before + 3:
        raise RuntimeError(f"the fused step did not serve: {refused}")
    error = float(np.linalg.norm(results[0] - by_ops) / np.linalg.norm(by_ops))
    same = all(r.tobytes() == results[0].tobytes() for r in results)
    return {"same_bits": same, "relative_error": error, "dtype": "float32"}


def ops(run: Run) -> None:
    """Whether three runs of every op give the same bits, and how far they are from float64."""

    def one(op: Any, dtype: str, sample: Any) -> dict[str, Any]:
        results = [run_op(op, dtype, sample) for _ in range(3)]
        same = all(r.tobytes() == results[0].tobytes() for r in results)
        norm = float(np.linalg.norm(sample.y)) or 1.0
        error = float(np.linalg.norm(results[0].astype(np.float64) - sample.y)) / norm
        return {"same_bits": same, "relative_error": error, "dtype": dtype}

    found = [
        run.case(f"op {op.short} {d}", lambda a=(op, d, s): one(*a))
        for op, d, s in sample_of_every_op()
    ]
    found.append(run.case("op mlp_step float32", small_step))
    measured = [r for r in found if "same_bits" in r]
    if not measured:
        return
    same = sum(r["same_bits"] for r in measured)
    run.case("reruns", lambda: {"goal": "G15", "title": "reruns", "value": same / len(found)})
    for dtype in ("float32", "bfloat16"):
        worst = max((r["relative_error"] for r in measured if r["dtype"] == dtype), default=None)
        title = f"error {dtype}"
        run.case(title, lambda t=title, w=worst: {"goal": "G16", "title": t, "value": w})


def sanitize(run: Run) -> None:
    """The same ops under compute-sanitizer, in a process without torch; plainly where it is not."""
    tool = shutil.which("compute-sanitizer")
    command = [sys.executable, str(Path(__file__).resolve()), "--every-op"]

    def one(name: str) -> dict[str, Any]:
        prefix = [tool, "--tool", name, "--error-exitcode", "9"] if tool else []
        limit = max(1.0, min(run.left, 100.0))
        done = subprocess.run(
            [*prefix, *command], capture_output=True, text=True, check=False, timeout=limit
        )
        if done.returncode:
            raise RuntimeError((done.stdout + done.stderr)[-2000:])
        return {"sanitizer": name if tool else "compute-sanitizer was not found"}

    for name in SANITIZERS if tool else SANITIZERS[:1]:
        run.case(f"sanitize {name}", lambda name=name: one(name))


def library(run: Run) -> None:
    """The size of the library (G17), of the one that is measured."""
    path = os.environ.get("FASTNN_CUDA_LIBRARY", "")
    if path:
        size = Path(path).stat().st_size / 1e6
        run.case("library", lambda: {"goal": "G17", "title": "MB", "value": size})


def report(run: Run) -> None:
    """All records and the verdicts in one file, and a line for each goal."""
    verdicts = [judge(goal, run.records) for goal in GOALS]
    loaded = next((r for r in run.records if r["case"] == "load"), {})
    date = time.strftime("%Y-%m-%d")
    result = {
        "commit": run.commit,
        "date": date,
        "device": loaded.get("device", ""),
        "fake": run.fake,
        "goals": verdicts,
        "records": run.records,
    }
    path = run.out / f"{date}-{run.commit[:12] or 'unknown'}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    if run.fake:
        print("A dry run: verdicts of tiny shapes on an emulator mean nothing.")
    print(*map(line, verdicts), sep="\n")
    print(f"gpu_check: {len(run.records)} cases, {run.failed} failed; results in {path}")


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
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--budget", type=float, default=540.0, help="seconds")
    parser.add_argument("--only", default=",".join(STAGES), help="stages, comma-separated")
    parser.add_argument("--library", default="", help="libfastnn_cuda.so, if it is not installed")
    parser.add_argument("--fake", action="store_true")
    parser.add_argument("--every-op", action="store_true", help="run every op once, and no more")
    args = parser.parse_args()
    if args.every_op:
        for op in sample_of_every_op():
            run_op(*op)
        small_step()
        return 0
    stages = args.only.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(
            f"--only: expected some of {', '.join(STAGES)}, got {', '.join(sorted(unknown))}"
        )
    if args.fake and args.out.resolve() == RESULTS:
        parser.error("--fake: expected another --out: what lies there was measured")
    library_path = args.library or (find_fake() if args.fake else "")
    if library_path:
        os.environ["FASTNN_CUDA_LIBRARY"] = str(Path(library_path).resolve())
    if args.fake:
        os.environ.setdefault("FASTNN_EMULATOR_DEVICES", "2")
    run = Run(args)
    if "probe" in stages:
        run.case("probe", probe)
    loaded = "error" not in run.case("load", load)
    library(run)
    if "correct" in stages:
        run.case("correct", lambda: correct(run))
    from bench.gpu import stages as measured  # imports fastnn: load() has timed that
    from bench.gpu.streams import streams

    for name, stage in (
        ("ops", ops),
        ("sanitize", sanitize),
        ("devices", measured.devices),
        ("streams", streams),
        ("bench", measured.bench),
        ("products", measured.products),
        ("recurrent", measured.recurrent),
    ):
        if name in stages and loaded:
            stage(run)
    report(run)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
