"""Products of matrices by each path that fastnn has: whether they agree, and which is the fastest.

Integers make every product exact, so paths must agree bit for bit. What ``measured_lines`` prints
goes into ``csrc/kernels/cuda/blas_measured.h``, from which on it decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import fastnn as fn
import numpy as np

from bench.gpu.maker import Array, Case, Maker, Ways

__all__ = ["layer_cases", "measured_lines", "product_cases"]

_PATHS = {"wgmma": "fastnn", "cublaslt": "fastnn cublaslt", "tiles": "fastnn tiles"}
_TITLE = re.compile(r"wgmma (\w+) ([NT]{2}) (\d+)x(\d+)x(\d+)$")


def _integers(m: Maker, *shape: int) -> Array:
    return np.clip(np.rint(2 * m.numbers(*shape)), -4, 4)


def _agree(run: Callable[[], Any], products: int = 1) -> None:
    """Raise unless wgmma kernels make the products, and as the own tiles do."""
    bits = {}
    for path in ("tiles", "wgmma"):
        fn.cuda.set_product_path(path)
        before = fn.cuda.info()["products_by_wgmma"]
        fn.manual_seed(0)
        bits[path] = np.array(run().to("float32").to("cpu")).tobytes()
        made = fn.cuda.info()["products_by_wgmma"] - before
        if made != (products if path == "wgmma" else 0):
            raise RuntimeError(f"wgmma kernels made {made} products: {fn.cuda.info()['refused']}")
    if bits["tiles"] != bits["wgmma"]:
        raise RuntimeError("wgmma kernels differ from the own tiles")


def _by_each_path(m: Maker, run: Callable[[], Any], flops: float) -> Ways:
    """The ways of making the products of ``run``; own tiles where they take no ages."""

    def by(path: str) -> Callable[[], Any]:
        def call() -> Any:
            fn.cuda.set_product_path(path)
            return run()

        return call

    return {
        name: by(path)
        for path, name in _PATHS.items()
        if (path != "cublaslt" or fn.cuda.info()["cublaslt"] or m.fake)
        and (path != "tiles" or flops < 1e10)
    }


def _product(m: Maker, dtype: str, form: str, sizes: tuple[int, int, int]) -> Case:
    """A of ``sizes`` (m, n, k), each factor plain (N) or transposed (T) in memory."""
    rows, cols, depth = sizes
    flags = form[0] == "T", form[1] == "T"
    flops = 2.0 * rows * cols * depth

    def make() -> Ways:
        a, b = _integers(m, rows, depth), _integers(m, depth, cols)
        u, v = (x.T.copy() if flag else x for x, flag in zip((a, b), flags, strict=True))
        ours = m.ours(u, "float32").to(dtype), m.ours(v, "float32").to(dtype)
        precision = "high" if dtype == "float32" else "highest"

        def run() -> Any:
            return fn._core.matmul(*ours, *flags)

        fn.set_float32_matmul_precision(precision)
        _agree(run)

        ways = _by_each_path(m, run, flops)
        if m.torch is not None:
            m.torch.set_float32_matmul_precision(precision)
            x, y = (m.theirs(w, dtype) for w in (u, v))
            x, y = (t.T if flag else t for t, flag in zip((x, y), flags, strict=True))
            ways["torch eager"] = lambda: x @ y
        return ways

    return Case("G8", f"wgmma {dtype} {form} {rows}x{cols}x{depth}", make, flops=flops)


def product_cases(m: Maker) -> Iterator[Case]:
    """The forms of bfloat16 at four sizes; float16 and TF32; short sums; a small one."""
    for n in (1024, 2048, 4096, 8192) if not m.fake else (40,):
        for form in ("NT", "NN", "TN"):
            yield _product(m, "bfloat16", form, (n, n, n))
    for dtype in ("float16", "float32"):
        yield _product(m, dtype, "NT", (m.size(4096, 24),) * 3)
    for depth in (512, 1024) if not m.fake else ():
        yield _product(m, "bfloat16", "NT", (8192, 4096, depth))
    yield _product(m, "bfloat16", "NT", (m.size(256, 16),) * 3)


def _layer(m: Maker, rows: int, out: int, depth: int) -> Case:
    """All that may follow the sums of a layer: bias, residual, ReLU, dropout of one half."""
    flops = 2.0 * rows * out * depth

    def make() -> Ways:
        arrays = [_integers(m, *s) for s in ((rows, depth), (out, depth), (out,), (rows, out))]
        x, w, b, r = (m.ours(v) for v in arrays)

        def run() -> Any:
            with fn.no_grad():
                return fn.functional.linear(x, w, b, activation="relu", residual=r, dropout_p=0.5)

        fn.set_float32_matmul_precision("highest")
        _agree(run)
        ways = _by_each_path(m, run, flops)
        if m.torch is not None:
            f = m.torch.nn.functional
            u, v, c, q = (m.theirs(t) for t in arrays)
            ways["torch eager"] = lambda: f.dropout(f.relu(f.linear(u, v, c) + q), 0.5)
        return ways

    return Case("G9", f"layer with its ending {rows}x{out} of {depth}", make, flops=flops)


def _two_layers(m: Maker, rows: int, width: int) -> Case:
    """Forward and backward of two layers: the second one's gradient of its input passes the first
    one's dropout and ReLU, and is summed to its bias's gradient, in the product that makes it."""
    flops = 2.0 * rows * width * width * 5

    def make() -> Ways:
        shapes = ((rows, width), *((width, width), (width,)) * 2, (rows, width))
        arrays = [np.sign(_integers(m, *s)) * (np.arange(s[-1]) % 7 == 0) for s in shapes]
        arrays = [v.astype(np.float32) for v in arrays]  # so few that no sum is rounded
        x, *parts, dy = (m.ours(v, grad=0 < i < 5) for i, v in enumerate(arrays))

        def run() -> Any:
            for p in parts:
                p.grad = None
            h = fn.functional.linear(x, *parts[:2], activation="relu", dropout_p=0.5)
            fn.functional.linear(h, *parts[2:]).backward(dy)
            return parts[1].grad

        fn.set_float32_matmul_precision("highest")
        _agree(run, products=5)
        ways = _by_each_path(m, run, flops)
        if m.torch is not None:
            f = m.torch.nn.functional
            u, *theirs, du = (m.theirs(v, grad=0 < i < 5) for i, v in enumerate(arrays))

            def step() -> None:
                for t in theirs:
                    t.grad = None
                h = f.dropout(f.relu(f.linear(u, *theirs[:2])), 0.5)
                f.linear(h, *theirs[2:]).backward(du)

            ways["torch eager"] = step
        return ways

    return Case("G9", f"two layers fwd+bwd {rows}x{width}", make, flops=flops)


def layer_cases(m: Maker) -> Iterator[Case]:
    """Layers whose endings are part of their products, by each path."""
    yield _layer(m, m.size(8192, 24), m.size(4096, 40), m.size(1024, 32))
    for width in (1024, 2048) if not m.fake else (24,):
        yield _two_layers(m, m.size(8192, 40), width)


def measured_lines(records: Iterable[dict[str, Any]]) -> list[str]:
    """A line of ``blas_measured.h`` for each product that was measured: which path was fastest."""
    types = {"bfloat16": "kBFloat16", "float16": "kFloat16", "float32": "kFloat32"}
    paths = {"wgmma": "kByWgmma", "cublaslt": "kByCublasLt", "tiles": "kByTiles"}
    lines = []
    for record in records:
        found = _TITLE.match(record.get("title", ""))
        if found is None or "fastnn_us" not in record:
            continue
        times = {"wgmma": record["fastnn_us"]} | {
            path: record["peers"][name] for path, name in _PATHS.items() if name in record["peers"]
        }
        form = ", ".join(
            str(letter == plain).lower() for letter, plain in zip(found[2], "NT", strict=True)
        )
        fastest = paths[min(times, key=lambda path: times[path])]
        lines.append(
            f"{{{types[found[1]]}, {form}, {found[3]}, {found[4]}, {found[5]}, {fastest}}},"
        )
    return lines
