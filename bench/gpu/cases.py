"""What is measured on a GPU, by goal: fastnn's way of doing it and torch's, on the same numbers.

A case is made when its turn comes, so that only its own arrays are in memory. The tiny shapes of a
dry run go through the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fastnn as fn
import numpy as np
from fastnn import nn, optim

from bench.gpu.conv import convolutions
from bench.gpu.maker import Case, Maker, Ways

__all__ = ["all_cases"]


def _op(
    m: Maker,
    goal: str,
    title: str,
    shape: tuple[int, ...],
    passes: int,
    ours: Callable[[Any], Any],
    theirs: Callable[[Any], Any],
    *,
    backward: bool = False,
    last: bool = False,
    item: int = 2,
) -> Case:
    """A function of one array, with its gradient if ``backward``; channels-last if ``last``."""

    def make() -> Ways:
        data = m.numbers(*shape)
        dtype = "bfloat16" if item == 2 else "float32"
        x, dy = m.ours(data, dtype, backward), m.ours(data, dtype)
        if last:
            x, dy = (t.contiguous("channels_last") for t in (x.detach(), dy))
            x.requires_grad = backward

        def run() -> None:
            if not backward:
                with fn.no_grad():
                    ours(x)
                return
            x.grad = None
            ours(x).backward(dy)

        def make_theirs() -> Callable[[], None]:
            u, du = m.theirs(data, dtype), m.theirs(data, dtype)
            if last:
                u, du = (t.to(memory_format=m.torch.channels_last) for t in (u, du))
            u.requires_grad_(backward)

            def run() -> None:
                if not backward:
                    with m.torch.no_grad():
                        theirs(u)
                    return
                u.grad = None
                theirs(u).backward(du)

            return run

        return m.ways(run, make_theirs)

    name = f"{title}{' fwd+bwd' if backward else ''} {'x'.join(map(str, shape))}"
    return Case(goal, name, make, bytes=float(passes * np.prod(shape) * item))


def _memory_bound(m: Maker) -> Iterator[Case]:
    f, g = fn.functional, m.torch.nn.functional if m.torch is not None else None
    n = m.size(1 << 26, 1000)
    for name in ("relu", "gelu", "tanh"):
        ours = getattr(f, name)
        theirs = getattr(m.torch if name == "tanh" else g, name, None)
        yield _op(m, "G1", name, (n,), 2, ours, theirs)
        yield _op(m, "G1", name, (n,), 5, ours, theirs, backward=True)
    yield _op(m, "G1", "residual", (n,), 3, lambda x: x + x, lambda x: x + x)
    yield _op(m, "G2", "dropout", (n,), 2, lambda x: f.dropout(x, 0.1), lambda x: g.dropout(x, 0.1))
    rows = m.size(1 << 15, 8)
    for cols in (256, 1024, 4096, 16384, 32768)[: 2 if m.fake else 5]:
        w, b = m.ours(m.numbers(cols)), m.ours(m.numbers(cols))
        wt, bt = ((m.theirs(m.numbers(cols)) if g else None) for _ in range(2))
        yield _op(
            m, "G3", "layer_norm", (rows, cols), 2,
            lambda x, w=w, b=b, n=cols: f.layer_norm(x, (n,), w, b),
            lambda x, w=wt, b=bt, n=cols: g.layer_norm(x, (n,), w, b),
        )  # fmt: skip
        yield _op(
            m, "G3", "rms_norm", (rows, cols), 2,
            lambda x, w=w, n=cols: f.rms_norm(x, (n,), w),
            lambda x, w=wt, n=cols: g.rms_norm(x, (n,), w),
        )  # fmt: skip
    for cols in (1024, 4096, 8192)[: 1 if m.fake else 3]:
        w, b = m.ours(m.numbers(cols), grad=True), m.ours(m.numbers(cols), grad=True)
        wt, bt = ((m.theirs(m.numbers(cols), grad=True) if g else None) for _ in range(2))
        yield _op(
            m, "G4", "layer_norm", (m.size(1 << 14, 8), cols), 5,
            lambda x, w=w, b=b, n=cols: f.layer_norm(x, (n,), w, b),
            lambda x, w=wt, b=bt, n=cols: g.layer_norm(x, (n,), w, b),
            backward=True,
        )  # fmt: skip
    for cols in (4096, 32768, 131072)[: 1 if m.fake else 3]:
        shape = (m.size((1 << 28) // cols, 4), cols)
        yield _op(m, "G5", "softmax", shape, 2, lambda x: f.softmax(x, -1),
                  lambda x: g.softmax(x, -1))  # fmt: skip
        yield _cross_entropy(m, shape)
    images = (m.size(64, 2), m.size(256, 8), m.size(56, 4), m.size(56, 4))
    c = images[1]
    one, zero = np.ones(c, np.float32), np.zeros(c, np.float32)
    ours = [m.ours(v, "float32", grad=True) for v in (one, zero)]
    theirs = [m.theirs(v, "float32", grad=True) if g else None for v in (one, zero)]
    yield _op(
        m, "G6", "batch_norm", images, 7,
        lambda x: f.batch_norm(x, None, None, *ours, training=True, activation="relu"),
        lambda x: g.relu(g.batch_norm(x, None, None, *theirs, training=True)),
        backward=True, last=True, item=4,
    )  # fmt: skip
    groups = 8
    yield _op(
        m, "G6", "group_norm", images, 5,
        lambda x: f.group_norm(x, groups, *ours), lambda x: g.group_norm(x, groups, *theirs),
        backward=True, last=True, item=4,
    )  # fmt: skip


def _cross_entropy(m: Maker, shape: tuple[int, int]) -> Case:
    def make() -> Ways:
        data, labels = m.numbers(*shape), np.arange(shape[0]) % shape[1]
        x, y = m.ours(data, grad=True), fn.tensor(labels, device="cuda")

        def run() -> None:
            x.grad = None
            fn.functional.cross_entropy(x, y).backward()

        def make_theirs() -> Callable[[], None]:
            u, v = m.theirs(data, grad=True), m.theirs(labels, "int64")

            def run() -> None:
                u.grad = None
                m.torch.nn.functional.cross_entropy(u, v).backward()

            return run

        return m.ways(run, make_theirs)

    title = f"cross_entropy fwd+bwd {shape[0]}x{shape[1]}"
    return Case("G5", title, make, bytes=float(3 * shape[0] * shape[1] * 2))


def _adamw(m: Maker, count: int, n: int, clip: bool = False) -> Case:
    def make() -> Ways:
        data = m.numbers(n)

        def ours() -> tuple[list[Any], Any]:
            params = [m.ours(data, "float32", grad=True) for _ in range(count)]
            gradient = m.ours(data, "float32")
            for p in params:
                p.grad = gradient
            return params, optim.AdamW(params, lr=1e-3)

        plain = ours()[1]
        if clip:
            clipped = ours()[1]
            return {"fastnn": lambda: clipped.step(max_grad_norm=1e9), "plain step": plain.step}
        ways: Ways = {"fastnn": plain.step}
        if m.torch is not None:
            theirs = [m.theirs(data, "float32", grad=True) for _ in range(count)]
            for t in theirs:
                t.grad = m.theirs(data, "float32")
            ways["torch fused"] = m.torch.optim.AdamW(theirs, lr=1e-3, fused=True).step
        return ways

    name = "clipped adamw" if clip else "adamw"
    return Case("G7", f"{name} {count}x{n}", make, bytes=float(count * n * 28))


def _products(m: Maker) -> Iterator[Case]:
    for n in (1024, 2048, 4096, 8192) if not m.fake else (48,):
        for form in ("NN", "NT", "TN"):

            def make(n: int = n, form: str = form) -> Ways:
                data = m.numbers(n, n)
                a, b = m.ours(data), m.ours(data)
                flags = form[0] == "T", form[1] == "T"

                def theirs() -> Callable[[], Any]:
                    u, v = m.theirs(data), m.theirs(data)
                    u, v = (t.T if flag else t for t, flag in zip((u, v), flags, strict=True))
                    return lambda: u @ v

                return m.ways(lambda: fn._core.matmul(a, b, *flags), theirs)

            yield Case("G8", f"matmul {form} {n}", make, flops=2.0 * n**3)
    rows, out = m.size(8192, 16), m.size(4096, 24)
    for k in (512, 1024, 4096):

        def make_linear(k: int = k) -> Ways:
            data, weight, bias = m.numbers(rows, k), m.numbers(out, k), m.numbers(out)
            x, w, b = m.ours(data), m.ours(weight), m.ours(bias)

            def ours() -> Any:
                with fn.no_grad():
                    return fn.functional.linear(x, w, b, activation="gelu")

            def theirs() -> Callable[[], Any]:
                f = m.torch.nn.functional
                u, v, c = m.theirs(data), m.theirs(weight), m.theirs(bias)
                return lambda: f.gelu(f.linear(u, v, c))

            return m.ways(ours, theirs)

        yield Case("G9", f"linear gelu k{k}", make_linear, flops=2.0 * rows * out * k)


def _small_step(m: Maker, batch: int, width: int = 64, hidden: int = 3) -> Case:
    """A recorded step of a small network with Adam, by one kernel and by the ops; torch's is eager,
    and compiled into one graph with its update."""

    def make() -> Ways:
        sizes = [(64, width)] + [(width, width)] * (hidden - 1) + [(width, 10)]
        data, labels = m.numbers(batch, 64), np.arange(batch) % 10
        x, y = m.ours(data, "float32"), fn.tensor(labels, device="cuda")

        def ours(path: str) -> Callable[[], Any]:
            layers = [layer for i, o in sizes for layer in (nn.Linear(i, o), nn.ReLU())][:-1]
            net, loss = nn.Sequential(*layers).to("cuda"), nn.CrossEntropyLoss()
            optimizer = optim.Adam(net.parameters(), lr=1e-3)

            def step(x: Any, y: Any) -> Any:
                optimizer.zero_grad()
                value = fn.train.forward_backward(net, loss, x, y)[1]
                optimizer.step()
                return value

            recorded, before = fn.capture(step), fn.cuda.info()["mlp_steps_fused"]
            fn.cuda.set_mlp_path(path)
            recorded(x, y)  # what is recorded stays as it is
            fn.cuda.set_mlp_path("auto")
            if (fn.cuda.info()["mlp_steps_fused"] > before) != (path == "fused"):
                raise RuntimeError(f"not the path {path}: {fn.cuda.info()['mlp_refused']}")
            return lambda: recorded(x, y)

        def theirs() -> Callable[[], Any]:
            t = m.torch
            layers = [layer for i, o in sizes for layer in (t.nn.Linear(i, o), t.nn.ReLU())][:-1]
            model = t.nn.Sequential(*layers).to("cpu" if m.fake else "cuda")
            adam = t.optim.Adam(model.parameters(), lr=1e-3, capturable=not m.fake)
            u, v = m.theirs(data, "float32"), m.theirs(labels, "int64")

            def step() -> None:
                adam.zero_grad()
                t.nn.functional.cross_entropy(model(u), v).backward()
                adam.step()

            return step

        ways = {"fastnn": ours("fused"), "fastnn ops": ours("ops")}
        if m.torch is not None:
            ways["torch eager"] = theirs()
            if not m.fake:
                ways["torch compile"] = m.torch.compile(theirs(), mode="reduce-overhead")
        return ways

    weights = 64 * width + (hidden - 1) * width**2 + 10 * width
    title = f"MLP step {hidden}x{width} b{batch}"
    return Case("G11", title, make, flops=6.0 * batch * weights)


def _lstm(m: Maker) -> Case:
    steps, batch, width = m.size(512, 3), m.size(32, 2), m.size(256, 8)

    def make() -> Ways:
        data = m.numbers(steps, batch, width)
        layer = nn.LSTM(width, width).to("cuda")
        x = m.ours(data, "float32")

        def theirs() -> Callable[[], Any]:
            other = m.torch.nn.LSTM(width, width).to("cpu" if m.fake else "cuda")
            u = m.theirs(data, "float32")
            return lambda: other(u)[0].sum().backward()

        return m.ways(lambda: layer(x)[0].sum().backward(), theirs)

    return Case("G12", f"LSTM fwd+bwd float32 t{steps} b{batch} h{width}", make)


def _calls(m: Maker) -> Iterator[Case]:
    def call() -> Ways:
        x = m.ours(m.numbers(64), "float32")
        return {"fastnn": lambda: fn.functional.relu(x)}

    def replay() -> Ways:
        x = m.ours(m.numbers(64), "float32")
        double = fn.capture(lambda x: x + x)
        return {"fastnn": lambda: double(x)}

    yield Case("G14", "relu of 64", call)
    yield Case("G14", "replay", replay)


def all_cases(m: Maker) -> Iterator[Case]:
    """Every case, the cheapest goals first."""
    yield from _calls(m)
    yield from _memory_bound(m)
    tables = (
        [(3, 41)] if m.fake else [(200, 1_000_000), (10, 16_800_000), (1000, 1024), (10000, 64)]
    )
    for count, n in tables:
        yield _adamw(m, count, n)
    yield _adamw(m, *tables[0], clip=True)
    yield from _products(m)
    small = [(w, h, b) for w, h in ((64, 2), (64, 6), (128, 6)) for b in (1024, 4096)]
    for width, hidden, batch in small if not m.fake else [(8, 2, 8)]:
        yield _small_step(m, batch, width, hidden)
    yield _lstm(m)
    yield from convolutions(m)
