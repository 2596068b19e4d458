"""What is measured: the op table's bench shapes, and the workloads of docs/goals.md.

A case is plain data, so that it can be sent to the process of any library; its inputs are drawn
here once and shared through a file, so that all of them work on the same numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

STEPS = 50  # batches that a training step cycles through, and steps per lax.scan

_WIDE = (784, 512, 256, 10)
# Goal, sizes, batch, and the dropout between the layers, with BatchNorm before it.
_MLPS: tuple[tuple[str, tuple[int, ...], int, float], ...] = (
    ("C20", (64, 64, 64, 10), 32, 0.0),
    *(("C21", _WIDE, batch, 0.0) for batch in (32, 128, 512)),
    ("C22", _WIDE, 128, 0.2),
)
_GOALS = {
    "relu": "C8",
    "linear": "C6",
    "conv2d": "C18",
    "matmul": "C1",
    "batch_norm": "C12",
    "layer_norm": "C13",
    "rms_norm": "C13",
    "group_norm": "C13",
    "instance_norm": "C13",
    "softmax": "C10",
    "log_softmax": "C10",
    "logsumexp": "C10",
    "cross_entropy": "C11",
    "dropout": "C14",
    "max_pool2d": "C19",
    "lstm": "C17",
    "gru": "C17",
}
# Arithmetic of forward and backward; else 2.
_PRODUCTS = ("linear", "matmul", "bmm", "conv1d", "conv2d", "conv_transpose2d")
_RECURRENT = ("lstm", "layer_norm_lstm", "gru", "rnn")
_TIMES_OF_FORWARD = dict.fromkeys((*_PRODUCTS, *_RECURRENT), 3)


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        goal: Id in docs/goals.md, or "".
        op: Name of the op or workload.
        kind: "fwd", "fwd+bwd", "gemm", "call", "step", "optimizer", "fit", "augment", "import", or
            one of fastnn against itself, "contended" or "population".
        shape: Shapes of the array arguments; layer sizes for networks.
        params: The other arguments.
        flops: Arithmetic of one run.
        bytes: Memory that has to be read and written at least.
        footprint: Memory in use, which says what cache bandwidth counts; 0: as much as `bytes`.
    """

    goal: str
    op: str
    kind: str
    shape: list[Any]
    params: dict[str, Any] = field(default_factory=dict)
    flops: float = 0.0
    bytes: float = 0.0
    footprint: float = 0.0
    dtype: str = "float32"

    @property
    def title(self) -> str:
        """For tables: the op, what of it, and its shape."""
        if "batch" in self.params and self.kind != "fit":
            sizes = ("x".join(map(str, np.atleast_1d(s))) for s in self.shape)
            models = f" x {self.params['models']}" if "models" in self.params else ""
            return f"{self.op} {'-'.join(sizes)} b{self.params['batch']}{models}"
        shape = " ".join("x".join(map(str, s)) or "()" for s in self.shape if s is not None)
        shown = self.kind in ("gemm", "call")
        extra = " ".join(str(v) for v in self.params.values()) if shown else ""
        extra += " bfloat16" if self.dtype == "bfloat16" else ""
        kind = "" if self.kind in ("gemm", "fit", "import", "optimizer") else f" {self.kind}"
        return f"{self.op}{kind} {shape} {extra}".strip()


def all_cases(quick: bool) -> list[Case]:
    """Every case, in the order of the report."""
    cases = [
        *_calls(),
        *_steps(),
        _char_step(),
        _lenet_step(),
        *_contended_steps(),
        *_populations(),
        _fit(),
        _import(),
        *_gemms(),
        *_optimizers(),
        *_augmentations(),
        *_ops(),
    ]
    if quick:
        cases = [c for c in cases if c.kind == "fit" or (c.bytes < 3e7 and c.flops < 3e8)]
    return cases


def _calls() -> Iterator[Case]:
    for goal, kind in (("C27", "no grad"), ("C27", "tape")):
        yield Case(goal, "relu", "call", [[64]], {"mode": kind}, flops=64, bytes=512)


def _steps() -> Iterator[Case]:
    for goal, sizes, batch, dropout in _MLPS:
        weights = sum(i * o for i, o in itertools.pairwise(sizes))
        first = sizes[0] * sizes[1]  # no gradient of the inputs
        parameters = weights + sum(sizes[1:])
        activations = batch * sum(sizes)
        yield Case(
            goal,
            "train step with norms" if dropout else "train step",
            "step",
            list(sizes),
            {"batch": batch} | ({"dropout": dropout} if dropout else {}),
            flops=2.0 * batch * (3 * weights - first) + 12 * parameters,
            bytes=4.0 * (7 * parameters + 4 * activations),
        )


def _char_step() -> Case:
    """A character model: embedding, LSTM, a score for each character."""
    sizes, batch, length = (65, 128, 256, 65), 32, 64
    characters, embedding, hidden, _ = sizes
    lstm = 4 * hidden * (embedding + hidden)
    parameters = lstm + 8 * hidden + (hidden + 1) * characters + characters * embedding
    rows = batch * length
    return Case(
        "C24",
        "char-LSTM step",
        "step",
        list(sizes),
        {"batch": batch, "length": length},
        flops=6.0 * rows * (lstm + hidden * characters) + 12.0 * parameters,
        bytes=4.0 * (7 * parameters + rows * (4 * 6 * hidden + 4 * embedding + 3 * characters)),
    )


def _lenet_step() -> Case:
    batch = 64
    # (weights, positions that each is used at) of every layer.
    layers = ((150, 784), (2400, 100), (48_000, 1), (10_080, 1), (840, 1))
    products = sum(weights * positions for weights, positions in layers)
    first = layers[0][0] * layers[0][1]  # no gradient of the inputs
    parameters = sum(weights for weights, _ in layers)
    activations = batch * (784 + 6 * 784 + 6 * 196 + 16 * 100 + 400 + 120 + 84 + 10)
    return Case(
        "C23",
        "LeNet-5 step",
        "step",
        [[1, 28, 28], 10],
        {"batch": batch},
        flops=2.0 * batch * (3 * products - first) + 12 * parameters,
        bytes=4.0 * (7 * parameters + 4 * activations),
    )


def _contended_steps() -> Iterator[Case]:
    """Steps while a foreign process spins on one of the two processors."""
    for step in (*_steps(), _lenet_step(), _char_step()):
        yield replace(step, goal="C28", op=f"beside a spinner: {step.op}", kind="contended")


def _populations() -> Iterator[Case]:
    """nn.Stacked against the same models in turn, each with a captured step of its own."""
    for sizes in ((64, 64, 64, 10), (64, 128, 64, 10), _WIDE):
        weights = sum(i * o for i, o in itertools.pairwise(sizes))
        flops = 8 * (2.0 * 32 * (3 * weights - sizes[0] * sizes[1]) + 12 * weights)
        params = {"batch": 32, "models": 8}
        yield Case("", "Stacked step", "population", list(sizes), params, flops, 8 * 28.0 * weights)


def _fit() -> Case:
    sizes, samples, epochs, batch = (64, 128, 64, 10), 1437, 20, 32
    weights = sum(i * o for i, o in itertools.pairwise(sizes))
    steps = epochs * math.ceil(samples / batch)
    flops = epochs * samples * 2.0 * (3 * weights - 64 * 128) + steps * 12.0 * weights
    return Case(
        "C25",
        "fit digits",
        "fit",
        [list(sizes)],
        {"batch": batch, "epochs": epochs},
        flops,
        steps * 28.0 * weights,
        footprint=16.0 * weights + 4.0 * samples * 64,
    )


def _import() -> Case:
    return Case("C26", "import", "import", [])


def _gemms() -> Iterator[Case]:
    for n in (64, 128, 256, 512, 1024, 2048):
        for layout in ("NN", "NT", "TN"):
            yield _gemm("C2" if n <= 256 else "C1", n, n, n, layout)
    for goal, layers, batches in (
        ("C3", itertools.pairwise(_WIDE[:-1]), (32, 128)),
        ("C4", [(256, 10)], (128,)),
    ):
        for (i, o), batch in itertools.product(layers, batches):
            yield _gemm(goal, batch, o, i, "NT")  # y = x W'
            yield _gemm(goal, batch, i, o, "NN")  # dx = dy W
            yield _gemm(goal, o, i, batch, "TN")  # dW = dy' x
    yield _gemm("", 64, 64, 16384, "TN")  # dW of a narrow layer over a long batch
    for n in (256, 512, 1024, 2048):
        yield _gemm("C5", n, n, n, "NN", "bfloat16")
    for n in (256, 512, 1024, 2048):
        case = _gemm("", n, n, n, "NN")
        yield replace(case, params=case.params | {"precision": "medium"})


def _gemm(goal: str, m: int, n: int, k: int, layout: str, dtype: str = "float32") -> Case:
    """m x k times k x n; a T in the layout says that the matrix lies transposed in memory."""
    a, b = [k, m] if layout[0] == "T" else [m, k], [n, k] if layout[1] == "T" else [k, n]
    size = 2 if dtype == "bfloat16" else 4
    moved = float(size * (m * k + k * n + m * n))
    return Case(goal, "gemm", "gemm", [a, b], {"layout": layout}, 2.0 * m * n * k, moved, 0, dtype)


def _optimizers() -> Iterator[Case]:
    for op, streams in (("adam", 7), ("sgd", 5), ("rmsprop", 5), ("adagrad", 5)):
        for total, tensors in ((100_000, 6), (1_000_000, 50), (25_000_000, 50)):
            n = total // tensors
            yield Case(
                "C15" if op == "adam" else "C16",
                op,
                "optimizer",
                [[tensors, n]],
                {"momentum": 0.9} if op == "sgd" else {},
                (12.0 if op == "adam" else 5.0) * n * tensors,
                4.0 * streams * n * tensors,
            )


def _augmentations() -> Iterator[Case]:
    """Pad-4 crop, flip, normalise; and resized crop, flip, jitter, normalise: uint8 to float32."""
    for op, shape, size in (("cifar", [128, 3, 32, 32], 32), ("imagenet", [16, 3, 256, 256], 224)):
        out = shape[0] * shape[1] * size * size
        moved = float(np.prod(shape) + 4 * out)
        yield Case("", op, "augment", [shape], {"size": size}, 2.0 * out, moved, dtype="uint8")


def _ops() -> Iterator[Case]:
    from fastnn.testing.ops import OPS

    for op in OPS:
        for i, shapes in enumerate(op.bench.shapes):
            moved, flops = op.bench.cost(shapes)
            lists = [None if s is None else list(s) for s in shapes]
            params = dict(op.bench.params[i] if op.bench.params else op.params[0])
            if "normalized_shape" in params:
                params["normalized_shape"] = lists[0][-1:]
            goal = _GOALS.get(op.short, "C7" if op.family == "activation" else "")
            if op.family == "activation" and moved > 1 << 24:
                goal = "C9"
            if op.name.startswith("fastnn.Tensor") or "groups" in params:
                goal = ""
            yield Case(goal, op.short, "fwd", lists, params, float(flops), 4.0 * moved)
            times = _TIMES_OF_FORWARD.get(op.short, 2)
            # Backward reads the gradient and what was saved, and writes a gradient per input.
            traffic = 4.0 * moved * (3 if times == 3 else 2.5)
            yield Case(goal, op.short, "fwd+bwd", lists, params, times * float(flops), traffic)


# ---- inputs --------------------------------------------------------------------------------------


def inputs(case: Case) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a case: x0, x1, ... for ops, and what else the workload needs."""
    rng = np.random.default_rng(0)
    if case.kind in ("fwd", "fwd+bwd"):
        return _op_inputs(case, rng)
    if case.kind in ("gemm", "call"):
        return {f"x{i}": _normal(rng, shape) for i, shape in enumerate(case.shape)}
    if "length" in case.params:
        shape = (STEPS, case.params["length"], case.params["batch"])
        text = rng.integers(0, case.shape[0], shape)
        return {"x": text, "y": np.roll(text, -1, axis=1).reshape(STEPS, -1)}
    if case.kind in ("step", "contended", "population"):
        samples = STEPS * case.params["batch"]
        return {
            "x": _normal(rng, (samples, *np.atleast_1d(case.shape[0]))),
            "y": rng.integers(0, case.shape[-1], samples),
        }
    if case.kind == "optimizer":
        tensors, n = case.shape[0]
        return {"p": _normal(rng, (tensors, n)), "g": _normal(rng, (tensors, n))}
    if case.kind == "fit":
        return digits()
    if case.kind == "augment":
        return {"x0": rng.integers(0, 256, case.shape[0], np.uint8)}
    return {}


def _normal(rng: np.random.Generator, shape: Any) -> np.ndarray[Any, Any]:
    return rng.standard_normal(tuple(shape), dtype=np.float32)


def _op_inputs(case: Case, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    from fastnn.testing.ops import OPS

    op = next(op for op in OPS if op.short == case.op)
    shapes = tuple(None if s is None else tuple(s) for s in case.shape)
    drawn = tuple(
        x if x is None or x.dtype.kind in "iu" else x.astype(np.float32)
        for x in op.make(rng, shapes)
    )
    arrays = {f"x{i}": x for i, x in enumerate(drawn) if x is not None}
    if case.kind == "fwd+bwd":
        arrays["dy"] = _normal(rng, op.call(*drawn, **case.params).shape)
    return arrays


def digits() -> dict[str, np.ndarray[Any, Any]]:
    """scikit-learn's digits in [0, 1], split 80 : 20 with a fixed seed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    x = (data.data / 16).astype(np.float32)
    y = data.target.astype(np.int64)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return {"x": x, "y": y, "x_test": x_test, "y_test": y_test}
