"""The process of one library: takes cases from the driver and times its ways of doing them.

One JSON object per line in and out. A library's file defines `variants(case, arrays)`: for each
setting a function without arguments that runs the case once and waits for it, or (function, times)
when one call does the work `times` times. `results(case, arrays)` returns arrays to compare.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

Variant = Callable[[], Any] | tuple[Callable[[], Any], int]
Products = Mapping[str, Callable[[Any, Any], Any]]
Variants = Callable[[dict[str, Any], dict[str, Any]], Mapping[str, Variant]]
_clock = time.perf_counter
FLOAT32_ERROR = 1e-5  # of a float32 product, relative to |A| |B|; bfloat16 is beyond it


def serve(
    variants: Variants,
    describe: Callable[[], dict[str, Any]],
    before: Callable[[str], None] = lambda variant: None,
    products: Products | None = None,
    **more: Any,
) -> None:
    """Answer the driver until it closes the pipe.

    `before` is called with a variant's name ahead of its timing; `products` are the library's ways
    to multiply, by what they add to a variant's name; `more` are further commands.
    """
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    current: Mapping[str, Variant] = {}
    counts: dict[str, int] = {}
    state: dict[str, Any] = {}
    inaccurate: dict[str, str] | None = None
    for line in sys.stdin:
        message = json.loads(line)
        command = message["cmd"]
        try:
            if command == "describe":
                answer = describe()
            elif command == "load":
                current, counts = {}, {}
                gc.unfreeze()
                gc.collect()
                state = {"case": message["case"], "arrays": dict(np.load(message["inputs"]))}
                if inaccurate is None:
                    inaccurate = _inaccurate(products or {}, before)
                current = variants(state["case"], state["arrays"])
                dropped = _dropped(state["case"], current, inaccurate)
                current = {name: v for name, v in current.items() if name not in dropped}
                gc.collect()
                gc.freeze()
                answer = {"variants": list(current), "dropped": dropped}
            elif command == "time":
                name = message["variant"]
                before(name)
                settle, seconds = message["settle"], message["seconds"]
                answer = _time(name, current[name], settle, seconds, counts)
            else:
                answer = more[command](state["case"], state["arrays"], message)
        except Exception as error:  # the driver reports it and goes on
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(last.filename)}:{last.lineno}"
            answer = {"error": f"{type(error).__name__}: {str(error)[:300]} ({place})"}
        out.write(json.dumps(answer) + "\n")


def _inaccurate(products: Products, before: Callable[[str], None]) -> dict[str, str]:
    """Ways to multiply float32 matrices that do it with fewer digits, and why they are none."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s, np.float32) for s in ((256, 512), (512, 256)))
    wide = a.astype(np.float64), b.astype(np.float64)
    exact, size = wide[0] @ wide[1], np.abs(wide[0]) @ np.abs(wide[1])
    found = {}
    for setting, product in products.items():
        before(setting)
        error = float(np.max(np.abs(np.asarray(product(a, b)) - exact) / size))
        if not error <= FLOAT32_ERROR:
            found[setting] = f"its products are off by {error:.1e} |A||B|, which is not float32"
    return found


def _dropped(
    case: dict[str, Any], names: Iterable[str], inaccurate: dict[str, str]
) -> dict[str, str]:
    """Variants of a float32 case whose products are not float32; "" stands for all products.

    Where the case asks for less (``precision``), they are what it is about.
    """
    if case["dtype"] != "float32" or "precision" in case["params"]:
        return {}
    return {
        name: why
        for name in names
        for setting, why in inaccurate.items()
        if (setting in name if setting else case["kind"] == "gemm")
    }


def _time(
    name: str, variant: Variant, settle: float, seconds: float, counts: dict[str, int]
) -> dict[str, float]:
    """Median, minimum, mean and slow ends of samples, each of as many calls as take about 1 ms.

    What is sampled in the first `settle` seconds does not count.
    """
    call, times = variant if isinstance(variant, tuple) else (variant, 1)
    if name not in counts:
        counts[name] = _calibrate(call)
    n = counts[name]
    settled = _clock() + settle
    while _clock() < settled:
        _sample(call, n)
    samples = []
    end = _clock() + seconds
    while not samples or _clock() < end:
        samples.append(_sample(call, n))
    samples.sort()
    scale = 1e6 / n / times
    parts = {"min": 0.0, "us": 0.5, "p95": 0.95, "p99": 0.99}
    quantiles = {name: samples[int(part * len(samples))] * scale for name, part in parts.items()}
    return quantiles | {"mean": sum(samples) / len(samples) * scale}


def _sample(call: Callable[[], Any], n: int) -> float:
    turns = range(n)
    start = _clock()
    for _ in turns:
        call()
    return _clock() - start


def _calibrate(call: Callable[[], Any]) -> int:
    call()  # warm up: memory, caches, compilation
    if _sample(call, 1) > 0.02:
        return 1
    n = 1
    while n < 100_000 and _sample(call, n) < 1e-3:
        n *= 2
    return n
