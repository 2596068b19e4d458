"""Starting and talking to the processes that are measured, and the limits of the machine."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
_NATIVE_FLAGS = (
    "-std=c++20 -O3 -march=native -fno-math-errno -fno-trapping-math -ffp-contract=fast -pthread"
)
_HUGE_PAGES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296"
    ":glibc.malloc.trim_threshold=8589934592"
)


def processor_flags() -> set[str]:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.split(":")[1].split())
    except OSError:
        pass
    return set()


@dataclass(frozen=True)
class Peer:
    """A library in one configuration: a file in peers/ and the environment it gets."""

    name: str
    library: str
    file: str
    environment: tuple[tuple[str, str], ...] = ()


def known_peers() -> dict[str, list[Peer]]:
    """Configurations by library. The first is the library as installed."""
    numpy = [Peer("numpy", "numpy", "numpy_.py")]
    if "avx512f" in processor_flags():
        core = (("OPENBLAS_CORETYPE", "SkylakeX"), ("GLIBC_TUNABLES", _HUGE_PAGES))
        numpy.append(Peer("numpy tuned", "numpy", "numpy_.py", core))
    tuned = (("GLIBC_TUNABLES", _HUGE_PAGES), ("THP_MEM_ALLOC_ENABLE", "1"))
    return {
        "numpy": numpy,
        "torch": [
            Peer("torch", "torch", "torch_.py"),
            Peer("torch tuned", "torch", "torch_.py", tuned),
        ],
        "jax": [Peer("jax", "jax", "jax_.py")],
        "sklearn": [Peer("sklearn", "sklearn", "sklearn_.py")],
        "opencv": [Peer("opencv", "cv2", "opencv_.py")],
        "pillow": [Peer("pillow", "PIL", "pillow_.py")],
        "kornia": [Peer("kornia", "kornia", "kornia_.py")],
    }


class Process:
    """A running peer. It is pinned to as many processors as it may use threads."""

    def __init__(self, peer: Peer, threads: int, log: Path, more: dict[str, str]) -> None:
        self.peer = peer
        environment = {
            **os.environ,
            **{
                name: str(threads)
                for name in (
                    "OMP_NUM_THREADS",
                    "MKL_NUM_THREADS",
                    "OPENBLAS_NUM_THREADS",
                    "FASTNN_NUM_THREADS",
                    "BENCH_THREADS",
                )
            },
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
            **dict(peer.environment),
            **more,
        }
        allowed = sorted(os.sched_getaffinity(0))[-threads:]
        self._log = log.open("a")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "peers" / peer.file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        )

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send a command and wait; {"error": ...} when the process is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            line = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            return {"error": f"{self.peer.name} has ended with {self._process.poll()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def busy_seconds(self) -> float:
        """What all its threads have had of the processors."""
        nanoseconds = 0
        for times in Path(f"/proc/{self._process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # a thread that has just ended
                nanoseconds += int(times.read_text().split()[0])
        return nanoseconds * 1e-9

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()


class Native:
    """bench/cpp/native.cc, compiled for this processor: limits, and the step written by hand."""

    def __init__(self, threads: int) -> None:
        binary = self._build()
        self.threads = threads
        self._best: dict[tuple[str, int], float] = {}
        self._process: subprocess.Popen[str] | None = None
        if binary is not None:
            allowed = sorted(os.sched_getaffinity(0))[-threads:]
            self._process = subprocess.Popen(
                [str(binary)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                preexec_fn=lambda: os.sched_setaffinity(0, allowed),
            )

    @staticmethod
    def _build() -> Path | None:
        compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
        if compiler is None:
            print("no C++ compiler: limits are not measured", file=sys.stderr)
            return None
        binary = Path(tempfile.gettempdir()) / f"fastnn_bench_native_{os.getuid()}"
        sources = [HERE / "cpp" / "native.cc", HERE / "cpp" / "step_by_hand.h"]
        if binary.exists() and binary.stat().st_mtime > max(s.stat().st_mtime for s in sources):
            return binary
        flags = _NATIVE_FLAGS.split()
        if platform.machine() in ("x86_64", "AMD64"):
            flags.append("-mprefer-vector-width=512")
        subprocess.run([compiler, *flags, str(sources[0]), "-o", str(binary)], check=True)
        return binary

    def ask(self, command: str) -> dict[str, float]:
        if self._process is None:
            return {}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def refresh(self, footprint: float, seconds: float = 0.05) -> None:
        """Measure the limits again; the best of all measurements of a run counts."""
        size = self._size(footprint)
        gflops = self.ask(f"fma {self.threads} {seconds}").get("gflops", 0.0)
        gbs = self.ask(f"copy {self.threads} {size} {seconds}").get("gbs", 0.0)
        for key, rate in ((("fma", 0), gflops), (("copy", size), gbs)):
            self._best[key] = max(self._best.get(key, 0.0), rate)

    def limit_us(self, flops: float, moved: float, footprint: float) -> float | None:
        """The time that arithmetic, or copying the same bytes, takes at least."""
        rates = self._best.get(("fma", 0)), self._best.get(("copy", self._size(footprint)))
        if not all(rates):
            return None
        return max(flops / rates[0], moved / rates[1]) / 1e3  # type: ignore[operator]

    def limits(self) -> dict[str, float]:
        return {
            "fma_gflops" if name == "fma" else f"copy_gbs_{size >> 10}k": rate
            for (name, size), rate in sorted(self._best.items())
        }

    @staticmethod
    def _size(footprint: float) -> int:
        """A power of two near the footprint, from 32 KiB to 256 MiB."""
        size = 32 << 10
        while size < footprint and size < 256 << 20:
            size *= 2
        return size

    def close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(10)
