"""C26: what `import` costs in time and memory, each in fresh processes, and how big things are."""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from cases import Case

_PROBE = """
import os, resource, time
start = time.perf_counter()
import {name}
end = time.perf_counter()
pages = int(open('/proc/self/statm').read().split()[1])
print(end - start, pages * os.sysconf('SC_PAGE_SIZE'), len(os.listdir('/proc/self/task')))
"""


def import_records(
    case: Case, options: argparse.Namespace, libraries: list[str]
) -> list[dict[str, Any]]:
    """One record: seconds as us, and under "memory" the resident bytes above a bare Python."""
    names = ["sys", "numpy", "fastnn", *(n for n in libraries if n not in ("numpy", "sklearn"))]
    names = list(dict.fromkeys(names))
    samples: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(3 if options.quick else 7):
        for name in names:
            samples[name].append(_probe(name))
    us = {n: statistics.median(s[0] for s in samples[n]) * 1e6 for n in names}
    rss = {n: statistics.median(s[1] for s in samples[n]) for n in names}
    memory = {n: rss[n] - rss["sys"] for n in names if n != "sys"}
    wheel = options.wheel.stat().st_size if options.wheel else None
    return [
        {
            "goal": case.goal,
            "op": case.op,
            "kind": case.kind,
            "title": "import",
            "threads": 1,
            "device": "cpu",
            "fastnn_us": us["fastnn"],
            "peers": {n: {"us": us[n], "setting": "import"} for n in names[1:] if n != "fastnn"},
            "memory": memory,
            "threads_started": samples["fastnn"][0][2] - samples["numpy"][0][2],
            "installed_bytes": {n: _installed(n) for n in names[1:]},
            "wheel_bytes": wheel,
        }
    ]


def _probe(name: str) -> list[float]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", _PROBE.format(name=name)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return [float(v) for v in run.stdout.split()]


def _installed(name: str) -> int:
    """Bytes of the package's folder, and of the libraries next to it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return 0
    folder = Path(spec.origin).parent
    folders = [folder, folder.parent / f"{name}.libs", folder.parent / f"{name}lib"]
    files = (f for d in folders if d.is_dir() for f in d.rglob("*"))
    return sum(f.stat().st_size for f in files if f.is_file() and f.suffix != ".pyc")
