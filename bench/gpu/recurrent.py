"""Recurrent layers of goal G12: all steps as one kernel of clusters, step by step, and torch's.

Clusters must agree with steps before they are timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fastnn as fn
import numpy as np
from fastnn import nn

from bench.gpu.maker import Case, Maker, Ways

__all__ = ["recurrent_cases"]


def _agree(by: Callable[[str], Callable[[], Any]], limit: float) -> None:
    """Raise unless clusters make both passes, the same bits twice, and as steps do."""
    before = fn.cuda.info()["sequences_by_clusters"]
    first, again = (np.array(by("clusters")().to("cpu")) for _ in range(2))
    if fn.cuda.info()["sequences_by_clusters"] - before != 4:
        raise RuntimeError(f"clusters did not make the sequence: {fn.cuda.info()['refused']}")
    if first.tobytes() != again.tobytes():
        raise RuntimeError("clusters made other bits the second time")
    steps = np.array(by("steps")().to("cpu"))
    error = float(np.abs(first - steps).max() / max(1e-30, float(np.abs(steps).max())))
    if not error <= limit:
        raise RuntimeError(f"clusters differ from steps by {error:.2g} of the largest gradient")


def _layer(m: Maker, name: str, precision: str, batch: int, width: int) -> Case:
    """Forward and backward; at "medium" the weights of the state are bfloat16, as torch's are."""
    steps = m.size(512, 3)

    def make() -> Ways:
        data = m.numbers(steps, batch, width)
        fn.manual_seed(0)
        layer = getattr(nn, name)(width, width).to("cuda")
        x = m.ours(data, "float32", grad=True)

        def run() -> Any:
            x.grad = None
            for p in layer.parameters():
                p.grad = None
            layer(x)[0].sum().backward()
            return x.grad

        def by(path: str) -> Callable[[], Any]:
            def call() -> Any:
                fn.set_float32_matmul_precision(precision)
                fn.cuda.set_recurrent_path(path)
                return run()

            return call

        def theirs(dtype: str) -> Callable[[], None]:
            other = getattr(m.torch.nn, name)(width, width)
            other = other.to("cpu" if m.fake else "cuda", getattr(m.torch, dtype))
            u = m.theirs(data, dtype, grad=True)

            def call() -> None:
                u.grad = None
                other.zero_grad()
                other(u)[0].sum().backward()

            return call

        _agree(by, 1e-4 if precision == "highest" else 5e-2)
        ways: Ways = {"fastnn": by("clusters"), "fastnn steps": by("steps")}
        if m.torch is not None:
            m.torch.set_float32_matmul_precision(precision)
            bf16 = precision == "medium"
            ways["torch eager"] = theirs("bfloat16" if bf16 else "float32")
            if bf16 and not m.fake:
                ways["torch half"] = theirs("float16")
        return ways

    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[name]
    flops = 3 * 4.0 * steps * batch * gates * width * width
    return Case("G12", f"{name} {precision} t{steps} b{batch} h{width}", make, flops=flops)


def recurrent_cases(m: Maker) -> Iterator[Case]:
    """Goal G12's shapes, and float32 where it fits a cluster."""
    for name in ("LSTM", "GRU"):
        for width in (256, 512) if not m.fake else (8,):
            for batch in (16, 32, 128) if not m.fake else (2,):
                yield _layer(m, name, "medium", batch, width)
        yield _layer(m, name, "highest", m.size(32, 2), m.size(256, 8))
