"""What an installed fastnn costs: size of the wheel; import time, memory, threads over NumPy's.

Fails when the wheel is over 5 MB or the import starts a thread; times are reported, not judged.
"""

import importlib.metadata
import io
import json
import statistics
import subprocess
import sys
import zipfile

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


def wheel_size() -> int:
    """Of the installed files, packed again as the wheel that they came from."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in importlib.metadata.files("fastnn") or ():
            if file.suffix != ".pyc" and ".." not in file.parts:
                wheel.write(file.locate(), str(file))
    return len(packed.getvalue())


def main() -> int:
    numpy, fastnn = probe("numpy"), probe("fastnn")
    size = wheel_size()
    print(f"wheel           {size / 1e6:8.2f} MB   (at most {MAX_WHEEL / 1e6:.0f})")
    print(f"import          {1e3 * (fastnn['seconds'] - numpy['seconds']):8.1f} ms over numpy")
    print(f"memory          {(fastnn['rss'] - numpy['rss']) / 1e6:8.1f} MB over numpy")
    print(f"threads started {fastnn['threads'] - numpy['threads']:8.0f}")
    return 0 if size <= MAX_WHEEL and fastnn["threads"] == numpy["threads"] else 1


if __name__ == "__main__":
    sys.exit(main())
