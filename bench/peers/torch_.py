"""PyTorch. The driver starts it twice: as installed, and tuned (huge pages for large tensors)."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from typing import Any

import torch
import torch.nn.functional as F
from worker import serve

torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
_PRECISIONS = {"": "highest", ", medium": "medium"}


def describe() -> dict[str, Any]:
    return {"version": torch.__version__, "threads": torch.get_num_threads()}


def _precisions(name: str, run: Any) -> dict[str, Any]:
    """The same with both ways to multiply.

    'medium' takes oneDNN's kernels: float32 on some processors, bfloat16 where those have AMX,
    and then worker.py drops it.
    """
    return {name + suffix: run for suffix in _PRECISIONS}


def before(variant: str) -> None:
    """Set the precision that a variant's name says; not part of what is timed."""
    torch.set_float32_matmul_precision(_PRECISIONS[", medium" if ", medium" in variant else ""])


def variants(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    kind = case["kind"]
    t = {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}
    if kind == "call":
        x = t["x0"].requires_grad_(case["params"]["mode"] == "tape")
        return {"relu": lambda: torch.relu(x)}
    if kind == "gemm":
        a, b = (
            m.T if letter == "T" else m
            for m, letter in zip((t["x0"], t["x1"]), case["params"]["layout"], strict=True)
        )
        a, b = (m.to(getattr(torch, case["dtype"])) for m in (a, b))
        out = torch.empty(a.shape[0], b.shape[1], dtype=a.dtype)
        return {
            **_precisions("mm", lambda: a @ b),
            **_precisions("mm out=", lambda: torch.mm(a, b, out=out)),
        }
    if kind in ("fwd", "fwd+bwd"):
        return _op(case, t)
    if kind == "augment":
        return {}
    return {"step": _steps, "optimizer": _optimizer, "fit": _fit}[kind](case, t)


_ACTIVATIONS = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "relu6": F.relu6,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
}


def _fractional_max_pool2d(x: Any, pseudo_random: bool, **params: Any) -> Any:
    return F.fractional_max_pool2d(x, **params)


def _recurrent(function: Any, states: int) -> Any:
    """One layer in one direction; the outputs as one vector, as for fastnn."""

    def run(x: Any, *weights: Any) -> Any:
        zeros = [torch.zeros(1, x.shape[1], weights[1].shape[1]) for _ in range(states)]
        first = zeros if states > 1 else zeros[0]
        parts = function(x, first, weights, True, 1, 0.0, True, False, False)
        return torch.cat([p.reshape(-1) for p in parts])

    return run


_LOSSES = (
    "cross_entropy", "nll_loss", "kl_div", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
)  # fmt: skip

_OPS: dict[str, Any] = {
    **_ACTIVATIONS,
    "linear": F.linear,
    "conv1d": F.conv1d,
    "conv2d": F.conv2d,
    "conv_transpose2d": F.conv_transpose2d,
    "matmul": torch.matmul,
    "bmm": torch.bmm,
    "layer_norm": lambda x, w, b, normalized_shape: F.layer_norm(x, normalized_shape, w, b),
    "rms_norm": lambda x, w, normalized_shape, eps: F.rms_norm(x, normalized_shape, w, eps),
    "batch_norm": lambda x, w, b, training: F.batch_norm(x, None, None, w, b, training),
    "group_norm": lambda x, w, b, num_groups: F.group_norm(x, num_groups, w, b),
    "instance_norm": lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    **{
        name: getattr(F, name)
        for name in (
            *_LOSSES,
            "dropout",
            "dropout1d",
            "dropout2d",
            "max_pool1d",
            "max_pool2d",
            "avg_pool1d",
            "avg_pool2d",
            "adaptive_avg_pool1d",
            "adaptive_avg_pool2d",
            "adaptive_max_pool1d",
            "adaptive_max_pool2d",
            "embedding",
            "pad",
            "prelu",
            "hardtanh",
        )
    },
    "alpha_dropout": functools.partial(F.alpha_dropout, training=True),  # by default it is not
    "maxout": lambda x, pieces=2: x.unflatten(-1, (pieces, -1)).amax(-2),
    "fractional_max_pool2d": _fractional_max_pool2d,
    "lstm": _recurrent(torch.lstm, 2),
    "gru": _recurrent(torch.gru, 1),
    "rnn": _recurrent(torch.rnn_tanh, 1),
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "truediv": torch.div,
    "sum": torch.sum,
    "mean": torch.mean,
}


_PRODUCTS = ("linear", "matmul", "bmm", "lstm", "gru", "rnn")


def _op(case: dict[str, Any], t: dict[str, Any]) -> dict[str, Any]:
    if case["op"] not in _OPS:
        return {}
    function = _OPS[case["op"]]
    xs = [t[k] for k in t if k[0] == "x"]
    if case["op"] in ("conv2d", "conv_transpose2d"):
        last = {k: _channels_last(v) for k, v in t.items()}
        return {
            "nchw": _call(case, function, xs, t.get("dy")),
            "channels last": _call(
                case, function, [last[k] for k in t if k[0] == "x"], last.get("dy")
            ),
        }
    run = _call(case, function, xs, t.get("dy"))
    return _precisions("eager", run) if case["op"] in _PRODUCTS else {"eager": run}


def _channels_last(x: Any) -> Any:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _call(case: dict[str, Any], function: Any, xs: list[Any], dy: Any) -> Any:
    params = case["params"]
    if case["kind"] == "fwd":

        def forward() -> Any:
            with torch.inference_mode():
                return function(*xs, **params)

        return forward
    trained = xs[:1] if case["op"] in _LOSSES else xs  # a target has no gradient
    leaves = [x.requires_grad_() for x in trained if x.is_floating_point()]

    def both() -> Any:
        y = function(*xs, **params)
        return torch.autograd.grad(y, leaves, dy)

    return both


def _network(sizes: list[Any], dropout: float = 0.0) -> torch.nn.Sequential:
    """An MLP of these sizes, with norms if with dropout, or LeNet-5 for images."""
    torch.manual_seed(0)
    nn = torch.nn
    if not isinstance(sizes[0], int):
        first = nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)
        second = nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        hidden = nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()
        return nn.Sequential(*first, *second, *hidden, nn.Linear(84, sizes[-1]))
    layers: list[Any] = []
    for i, o in itertools.pairwise(sizes):
        after = [nn.BatchNorm1d(o), nn.ReLU(), nn.Dropout(dropout)] if dropout else [nn.ReLU()]
        layers += [nn.Linear(i, o), *after]
    return nn.Sequential(*layers[: -len(after)])


class _CharModel(torch.nn.Module):
    """As fastnn's."""

    def __init__(self, characters: int, embedding: int, hidden: int, _: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(characters, embedding)
        self.recurrent = torch.nn.LSTM(embedding, hidden)
        self.head = torch.nn.Linear(hidden, characters)

    def forward(self, index: Any) -> Any:
        """Scores of the next characters."""
        output, _ = self.recurrent(self.embedding(index))
        return self.head(output.reshape(-1, output.shape[-1]))


def _steps(case: dict[str, Any], t: dict[str, Any]) -> dict[str, Any]:
    batch = case["params"]["batch"]
    sequences = "length" in case["params"]
    xs, ys = (t["x"], t["y"]) if sequences else (t["x"].split(batch), t["y"].split(batch))

    def make(fused: bool, compiled: bool, channels_last: bool = False) -> Any:
        dropout = case["params"].get("dropout", 0.0)
        model = _CharModel(*case["shape"]) if sequences else _network(case["shape"], dropout)
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
        adam = torch.optim.Adam(model.parameters(), lr=1e-5, fused=fused or None)
        position = [0]

        def losses(x: Any, y: Any) -> Any:
            return F.cross_entropy(model(x), y)

        loss_of = torch.compile(losses) if compiled else losses

        def run() -> None:
            i = position[0] = (position[0] + 1) % len(xs)
            adam.zero_grad(set_to_none=True)
            loss_of(xs[i], ys[i]).backward()
            adam.step()

        return run

    found = {
        **_precisions("Adam", make(False, False)),
        **_precisions("Adam fused", make(True, False)),
    }
    if xs[0].ndim == 4:  # with one channel, images are channels-last as they are
        found |= _precisions("Adam fused, channels last", make(True, False, True))
    if os.environ.get("BENCH_COMPILE") == "1":
        try:
            run = make(True, True)
            run()
            found |= _precisions("Adam fused, compiled", run)
        except Exception as error:
            print("torch.compile:", error, file=sys.stderr)
    return found


_OPTIMIZERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


def _optimizer(case: dict[str, Any], t: dict[str, Any]) -> dict[str, Any]:
    def make(**options: Any) -> Any:
        parameters = [torch.nn.Parameter(p.clone()) for p in t["p"]]
        for p, g in zip(parameters, t["g"], strict=True):
            p.grad = g.clone()
        return _OPTIMIZERS[case["op"]](parameters, lr=1e-5, **case["params"], **options).step

    found = {"default": make(), "foreach": make(foreach=True)}
    return found if case["op"] == "rmsprop" else {**found, "fused": make(fused=True)}


def _fit(case: dict[str, Any], t: dict[str, Any]) -> dict[str, Any]:
    epochs, batch = case["params"]["epochs"], case["params"]["batch"]

    def make(fused: bool) -> Any:
        def run() -> Any:
            model = _network(case["shape"][0])
            adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused or None)
            for _ in range(epochs):
                order = torch.randperm(len(t["x"]))
                x, y = t["x"][order], t["y"][order]
                for xb, yb in zip(x.split(batch), y.split(batch), strict=True):
                    adam.zero_grad(set_to_none=True)
                    F.cross_entropy(model(xb), yb).backward()
                    adam.step()
            return model

        return run

    return {"Adam": make(False), **_precisions("Adam fused", make(True))}


def check(case: dict[str, Any], arrays: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    t = {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}
    model = _fit(case, t)["Adam fused"]()
    return {"error": float((model(t["x_test"]).argmax(1) != t["y_test"]).float().mean())}


if __name__ == "__main__":
    products = dict.fromkeys(_PRECISIONS, lambda a, b: torch.from_numpy(a) @ torch.from_numpy(b))
    serve(variants, describe, before, products, check=check)
