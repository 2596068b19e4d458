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
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Variant = Callable[[], Any] | tuple[Callable[[], Any], int]
Variants = Callable[[dict[str, Any], dict[str, Any]], Mapping[str, Variant]]
_clock = time.perf_counter


def serve(
    variants: Variants,
    describe: Callable[[], dict[str, Any]],
    before: Callable[[str], None] = lambda variant: None,
    **more: Any,
) -> None:
    """Answer the driver until it closes the pipe.

    `before` is called with a variant's name ahead of its timing; `more` are further commands.
    """
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    current: Mapping[str, Variant] = {}
    counts: dict[str, int] = {}
    state: dict[str, Any] = {}
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
                current = variants(state["case"], state["arrays"])
                gc.collect()
                gc.freeze()
                answer = {"variants": list(current)}
            elif command == "time":
                name = message["variant"]
                before(name)
                answer = _time(name, current[name], message["seconds"], counts)
            else:
                answer = more[command](state["case"], state["arrays"], message)
        except Exception as error:  # the driver reports it and goes on
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(last.filename)}:{last.lineno}"
            answer = {"error": f"{type(error).__name__}: {str(error)[:300]} ({place})"}
        out.write(json.dumps(answer) + "\n")


def _time(name: str, variant: Variant, seconds: float, counts: dict[str, int]) -> dict[str, float]:
    """Median and minimum of samples, each of as many calls as take about a millisecond."""
    call, times = variant if isinstance(variant, tuple) else (variant, 1)
    if name not in counts:
        counts[name] = _calibrate(call)
    n = counts[name]
    samples = []
    end = _clock() + seconds
    while not samples or _clock() < end:
        samples.append(_sample(call, n))
    samples.sort()
    scale = 1e6 / n / times
    return {"us": samples[len(samples) // 2] * scale, "min": samples[0] * scale}


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
