"""fastnn itself."""

from __future__ import annotations

import hashlib
import itertools
import os
from typing import Any

import fastnn as fn
import numpy as np
from fastnn import F, _core, nn, optim
from fastnn.data import augment
from fastnn.data.augment.run import Runner
from fastnn.system import info
from fastnn.testing.op import joined
from fastnn.testing.ops import OPS
from fastnn.train.checks import Data
from fastnn.train.epoch import Batches, Loop
from worker import serve

_OPS = {op.short: op for op in OPS}
_PROCESSORS = sorted(os.sched_getaffinity(0))


def describe() -> dict[str, Any]:
    facts = info()
    return {"version": facts["fastnn"], "isa": facts["cpu"], "threads": facts["threads"]}


def variants(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    kind = case["kind"]
    fn.set_float32_matmul_precision(case["params"].get("precision", "highest"))
    if kind in ("fwd", "fwd+bwd"):
        return {"eager": _op(case, arrays)}
    if kind == "call":
        x = fn.tensor(arrays["x0"], requires_grad=case["params"]["mode"] == "tape")
        return {"eager": lambda: F.relu(x)}
    if kind == "gemm":
        return {"eager": _gemm(case, arrays)}
    workloads = {
        "step": _steps,
        "contended": _contended,
        "population": _population,
        "optimizer": _optimizer,
        "fit": _fit,
        "augment": _augmentation,
    }
    return workloads[kind](case, arrays)


def _augmentation(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """As the step of a training does it: a batch gathered by index and augmented."""
    size, x = case["params"]["size"], arrays["x0"]
    first: list[Any] = [augment.RandomCrop(size, padding=4), augment.RandomHorizontalFlip()]
    if case["op"] == "imagenet":
        first[0] = augment.RandomResizedCrop(size, (0.3, 0.9), (1.0, 1.0))
        first.append(augment.ColorJitter(0.4, 0.4, 0.4))
    normalize = augment.Normalize([0.49, 0.48, 0.45], [0.25, 0.24, 0.26])
    pipeline = augment.Compose([*first, augment.ToDtype(scale=True), normalize])
    runner = Runner(pipeline, x.shape[1:], False)
    images, index = fn.from_numpy(x), fn.tensor(np.arange(len(x)))
    cursor = fn.tensor(np.zeros(1, np.int64))
    return {"as in a step": lambda: runner.launch(images, index, cursor, len(x))}


def _tensors(arrays: dict[str, Any], grad: bool) -> list[Any]:
    names = [k for k in arrays if k[0] == "x"]
    return [
        fn.tensor(arrays[k], requires_grad=grad and arrays[k].dtype == np.float32) for k in names
    ]


def _op(case: dict[str, Any], arrays: dict[str, Any]) -> Any:
    op, backward = _OPS[case["op"]], case["kind"] == "fwd+bwd"
    tensors, params = _tensors(arrays, backward), case["params"]
    if op.is_loss:
        for target in tensors[1:]:
            target.requires_grad = False
    given = iter(tensors)
    inputs = [None if shape is None else next(given) for shape in case["shape"]]
    inputs += [None] * (1 + len(op.arrays) - len(inputs))
    if not backward:
        return op.bind(*inputs, **params)  # what the table does around a call is not the op's
    dy = fn.tensor(arrays["dy"])

    def run() -> list[Any]:
        for t in tensors:
            t.grad = None
        y = op.call(*inputs, **params)
        y.backward(dy)
        return [y.detach(), *(t.grad for t in tensors if t.grad is not None)]

    return run


def _gemm(case: dict[str, Any], arrays: dict[str, Any]) -> Any:
    a, b = (t.to(case["dtype"]) for t in _tensors(arrays, False))
    ta, tb = (letter == "T" for letter in case["params"]["layout"])
    return lambda: _core.matmul(a, b, ta, tb)


def _network(sizes: list[Any], dropout: float = 0.0) -> nn.Sequential:
    """An MLP of these sizes, with norms if with dropout, or LeNet-5 for images."""
    fn.manual_seed(0)
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


class _CharModel(nn.Module):
    """Embedding, LSTM, scores: (steps, batch) to (steps * batch, characters)."""

    def __init__(self, characters: int, embedding: int, hidden: int, _: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding)
        self.recurrent = nn.LSTM(embedding, hidden)
        self.head = nn.Linear(hidden, characters)

    def forward(self, index: Any) -> Any:
        """Scores of the next characters."""
        output, _ = self.recurrent(self.embedding(index))
        return self.head(output.reshape(-1, output.shape[-1]))


def _model(case: dict[str, Any]) -> nn.Module:
    fn.manual_seed(0)
    if "length" in case["params"]:
        return _CharModel(*case["shape"])
    return _network(case["shape"], case["params"].get("dropout", 0.0))


def _char_steps(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    model = _model(case)
    optimizer = optim.Adam(model.parameters(), lr=1e-5)
    optimizer.prepare()

    def body(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    batches = [(fn.tensor(x), fn.tensor(y)) for x, y in zip(arrays["x"], arrays["y"], strict=True)]

    def call(function: Any) -> Any:
        turns = itertools.cycle(batches)
        return lambda: function(*next(turns))

    return {"captured, one step a call": call(fn.capture(body)), "eager": call(body)}


def _steps(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    if "length" in case["params"]:
        return _char_steps(case, arrays)
    batch = case["params"]["batch"]
    steps = len(arrays["y"]) // batch
    model = _model(case)
    optimizer = optim.Adam(model.parameters(), lr=1e-5)
    optimizer.prepare()

    def body(x: Any, y: Any) -> tuple[Any, Any]:
        optimizer.zero_grad()
        outputs = model(x)
        loss = F.cross_entropy(outputs, y)
        loss.backward()
        optimizer.step()
        return outputs.detach(), loss.detach()

    xs = [fn.tensor(x) for x in np.split(arrays["x"], steps)]
    ys = [fn.tensor(y) for y in np.split(arrays["y"], steps)]
    captured = fn.capture(body)
    position = [0]

    def call(function: Any) -> Any:
        def run() -> None:
            i = position[0] = (position[0] + 1) % steps
            function(xs[i], ys[i])

        return run

    # As Trainer does it: batches are gathered, losses summed and answers counted inside the step.
    batches = Batches(Data(fn.tensor(arrays["x"]), fn.tensor(arrays["y"]), True), "cpu")

    def step(rows: int) -> None:
        x, y, _ = batches.take(rows)
        outputs, loss = body(x, y)
        batches.count([(outputs, loss, {})], y, rows)

    loop = Loop(batches, batch, step, optimizer.sync)

    def epoch() -> None:
        batches.start()
        for _ in loop.run():
            pass

    return {
        f"replayed as in Trainer, {steps} steps a call": (epoch, steps),
        "captured, one step a call": call(captured),
        "eager": call(body),
    }


def _contended(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    step = _steps(case, arrays)["captured, one step a call"]
    return {"two threads": step, "one thread": step}


def before(variant: str) -> None:
    """All threads that the case may use; "one thread" stays on the processor that is its own."""
    one = variant == "one thread"
    fn.set_num_threads(1 if one else int(os.environ["BENCH_THREADS"]))
    os.sched_setaffinity(0, _PROCESSORS[:1] if one else _PROCESSORS)


def _population(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """A step of K models on the same batch: stacked, and one captured step after the other."""
    batch, k = case["params"]["batch"], case["params"]["models"]
    steps = len(arrays["y"]) // batch
    xs = [fn.tensor(x) for x in np.split(arrays["x"], steps)]
    ys = [fn.tensor(y) for y in np.split(arrays["y"], steps)]
    stack = nn.Stacked(lambda: _network(case["shape"]), k)

    def step_of(model: Any, groups: Any, losses: Any) -> Any:
        optimizer = optim.Adam(groups, lr=1e-5)
        optimizer.prepare()

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = losses(model(x), y)
            loss.sum().backward()
            optimizer.step()
            return loss.detach()

        return fn.capture(step)

    whole = step_of(
        stack,
        stack.param_groups(lr=[1e-5] * k),
        lambda outputs, y: stack.losses(nn.CrossEntropyLoss(), outputs, y, shared=True),
    )
    models = [_network(case["shape"]) for _ in range(k)]
    apart = [step_of(model, model.parameters(), F.cross_entropy) for model in models]
    turns = itertools.cycle(range(steps))

    def together() -> None:
        i = next(turns)
        whole(xs[i], ys[i])

    def in_turn() -> None:
        i = next(turns)
        for step in apart:
            step(xs[i], ys[i])

    return {"stacked": together, "apart": in_turn}


def _optimizer(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    parameters = [nn.parameter(p) for p in arrays["p"]]
    for p, g in zip(parameters, arrays["g"], strict=True):
        p.grad = fn.tensor(g)
    kinds: dict[str, Any] = {
        "adam": optim.Adam,
        "sgd": optim.SGD,
        "rmsprop": optim.RMSprop,
        "adagrad": optim.Adagrad,
    }
    optimizer = kinds[case["op"]](parameters, lr=1e-5, **case["params"])
    return {"eager": optimizer.step}


def _fit(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    def run() -> Any:
        model = _network(case["shape"][0])
        adam = optim.Adam(model.parameters(), lr=1e-3)
        trainer = fn.Trainer(model, loss=nn.CrossEntropyLoss(), optimizer=adam)
        trainer.fit(arrays["x"], arrays["y"], verbose=0, **_fit_arguments(case))
        return model

    return {"Trainer.fit": run}


def _fit_arguments(case: dict[str, Any]) -> dict[str, int]:
    return {"epochs": case["params"]["epochs"], "batch_size": case["params"]["batch"]}


# ---- checks --------------------------------------------------------------------------------------


def _outputs(
    case: dict[str, Any], arrays: dict[str, Any], captured: bool
) -> list[np.ndarray[Any, Any]]:
    fn.manual_seed(0)
    if case["kind"] == "optimizer":
        parameters = [nn.parameter(p) for p in arrays["p"]]
        for p, g in zip(parameters, arrays["g"], strict=True):
            p.grad = fn.tensor(g)
        make = optim.Adam if case["op"] == "adam" else optim.SGD
        make(parameters, lr=1e-3, **case["params"]).step()
        return [p.detach().numpy() for p in parameters]
    if case["kind"] == "step":
        return _trained_weights(case, arrays, captured)
    results = next(iter(variants(case, arrays).values()))()
    results = results if isinstance(results, list) else [joined(results)]
    return [np.array(r.detach().to("float32")) for r in results]


def _trained_weights(
    case: dict[str, Any], arrays: dict[str, Any], captured: bool
) -> list[np.ndarray[Any, Any]]:
    model = _model(case)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    optimizer.prepare()

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    run = fn.capture(step) if captured else step
    for i in range(10):
        batch = case["params"]["batch"]
        rows = i if "length" in case["params"] else slice(i * batch, (i + 1) * batch)
        run(fn.tensor(arrays["x"][rows]), fn.tensor(arrays["y"][rows]))
    return [p.detach().numpy() for p in model.parameters()]


def check(case: dict[str, Any], arrays: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """Error against the oracle, and whether the bits are the same on rerun, on 1 and 2 threads."""
    if case["kind"] == "fit":
        model = variants(case, arrays)["Trainer.fit"]()
        right = model.predict(arrays["x_test"]).argmax(1) == arrays["y_test"]
        return {"error": float(1 - np.mean(right)), "bitwise": None}
    before = fn.get_num_threads()
    digests = set()
    for threads, captured in ((1, False), (2, False), (2, True)):
        fn.set_num_threads(threads)
        outputs = _outputs(case, arrays, captured)
        digests.add(hashlib.sha256(b"".join(o.tobytes() for o in outputs)).hexdigest())
    fn.set_num_threads(before)
    return {"error": _error(case, arrays, outputs), "bitwise": len(digests) == 1}


def _error(case: dict[str, Any], arrays: dict[str, Any], outputs: list[Any]) -> float | None:
    """Largest error of the forward result, as a part of what the numerical contract allows."""
    if case["kind"] != "fwd" or case["op"] == "dropout" or arrays["x0"].size > 1 << 22:
        return None
    op = _OPS[case["op"]]
    inputs = tuple(arrays.get(f"x{i}") for i in range(1 + len(op.arrays)))
    wide = tuple(
        x.astype(np.float64) if x is not None and x.dtype.kind == "f" else x for x in inputs
    )
    sample = op.sample_of(wide, case["params"], "float32", np.random.default_rng(0))
    bound = op.bound(sample)
    allowed = np.asarray(bound[0] if isinstance(bound, tuple) else bound)
    difference = np.abs(np.asarray(outputs[0], np.float64) - sample.y)
    return float(np.max(np.where(difference > 0, difference / allowed, 0.0)))


if __name__ == "__main__":
    serve(variants, describe, before, check=check)
