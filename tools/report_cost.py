"""What fastnn costs a user: the wheel's size, and import time, memory and threads over NumPy's.

Fails when the wheel is over 5 MB or the import starts a thread; times are reported, not judged.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

MAX_WHEEL = 5_000_000
PROBE = """
import json, os, time, resource
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
print(json.dumps({{
    "seconds": seconds,
    "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "threads": len(os.listdir("/proc/self/task")),
}}))
"""


def probe(module: str, runs: int = 9) -> dict[str, float]:
    """Medians over fresh processes."""
    results = []
    for _ in range(runs):
        out = subprocess.run(
            [sys.executable, "-c", PROBE.format(module=module)],
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
            env={"OPENBLAS_NUM_THREADS": "1"},
        ).stdout
        results.append(json.loads(out))
    return {key: statistics.median(r[key] for r in results) for key in results[0]}


def main() -> int:
    wheel = Path(sys.argv[1])
    numpy, fastnn = probe("numpy"), probe("fastnn")
    size = wheel.stat().st_size
    print(f"wheel           {size / 1e6:8.2f} MB   (at most {MAX_WHEEL / 1e6:.0f})")
    print(f"import          {1e3 * (fastnn['seconds'] - numpy['seconds']):8.1f} ms over numpy")
    print(f"memory          {(fastnn['rss'] - numpy['rss']) / 1e6:8.1f} MB over numpy")
    print(f"threads started {fastnn['threads'] - numpy['threads']:8.0f}")
    return 0 if size <= MAX_WHEEL and fastnn["threads"] == numpy["threads"] else 1


if __name__ == "__main__":
    sys.exit(main())
