"""The checks of preflight.py, in the order of the lectures' list."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn import F, nn, optim, random
from fastnn.nn.dropout import DropConnect, _Noise
from fastnn.optim import Optimizer
from fastnn.tensor import no_grad
from fastnn.train.checks import Data, are_probabilities, evaluation_mode, loss_name
from fastnn.train.control import StopAtZeroErrors
from fastnn.train.lr_search import left_as_it_was
from fastnn.train.monitor import Monitor
from fastnn.train.objective import Objective, WeightPenalty
from fastnn.train.trainer import Trainer

__all__ = ["CHECKS", "FAIL", "Case", "Check"]

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"
_TINY = 20  # samples to learn by heart


@dataclasses.dataclass(frozen=True)
class Check:
    """What a check found.

    Attributes:
        name: What was checked.
        status: ``"PASS"``, ``"WARN"`` or ``"FAIL"``.
        value: What was found, beside what was expected.
        remedy: What to do about it; "" if it passed.
    """

    name: str
    status: str
    value: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.status}  {self.name}: {self.value}{remedy}"


@dataclasses.dataclass
class Case:
    """What the checks look at: the first rows of shuffled data, and what is known of them."""

    model: nn.Module
    objective: Objective
    optimizer: Optimizer | None
    data: Data
    all_y: Any
    shuffle: bool
    batch_size: int

    @property
    def loss(self) -> Any:
        """That of the data."""
        return self.objective.loss

    @property
    def classes(self) -> int:
        """Outputs of each row."""
        return int(self.outputs().shape[-1])

    def outputs(self) -> np.ndarray[Any, Any]:
        """What the model puts out, in evaluation mode."""
        return self.model.predict(self.data.x)

    def trainer(self, optimizer: Optimizer, loss: Any = None) -> Trainer:
        """A Trainer of the model."""
        return Trainer(self.model, loss or self.objective, optimizer)


# ---- the data ------------------------------------------------------------------------------------


def _scaled(case: Case) -> Check:
    x = np.asarray(case.data.x, np.float64).reshape(len(case.data.x), -1)
    rms, deviations = math.sqrt((x * x).mean()), x.std(axis=0)
    varying = deviations[deviations > 0]
    spread = np.quantile(varying, 0.95) / np.quantile(varying, 0.05) if len(varying) else 1.0
    value = f"values of size {rms:.3g}, scales of features within a factor of {spread:.3g}"
    if 0.05 <= rms <= 4 and spread <= 100:
        return Check("data are scaled", PASS, value)
    remedy = "standardise them, e.g. by fn.data.StandardScaler fitted to the training part"
    value += ", expected 0.05 to 4 and at most 100"
    return Check("data are scaled", WARN, value, remedy)


def _shuffled(case: Case) -> Check | None:
    y = case.all_y
    if not case.data.has_classes or y.ndim != 1 or len(y) < 20:
        return None
    shares = np.bincount(y - y.min()) / len(y)
    expected, changes = 1 - float((shares**2).sum()), float((y[1:] != y[:-1]).mean())
    value = f"neighbours differ in {100 * changes:.0f} %, by chance {100 * expected:.0f} %"
    if changes >= 0.5 * expected:
        return Check("data are shuffled", PASS, value)
    if case.shuffle:
        remedy = "fit shuffles, but validation_split takes the end: use fn.data.stratified_split"
        return Check("data are shuffled", WARN, value, remedy)
    return Check("data are shuffled", FAIL, value, "train with shuffle=True")


def _balanced(case: Case) -> Check | None:
    y = case.all_y
    if not case.data.has_classes or y.ndim != 1:
        return None
    counts = np.bincount(y[y >= 0], minlength=case.classes)
    rare = int(counts.argmin())
    share, fair = counts[rare] / counts.sum(), 1 / len(counts)
    value = f"class {rare} has {100 * share:.2g} % of the samples, of {100 * fair:.2g} % if equal"
    if share >= 0.1 * fair:
        return Check("classes are balanced", PASS, value)
    remedy = "use class_weight, or shuffle=fn.train.BalancedSampler(y), and look at F1"
    return Check("classes are balanced", WARN, value, remedy)


# ---- the loss ------------------------------------------------------------------------------------


def _expected_loss(case: Case) -> tuple[float, str] | None:
    """The loss of a model that knows nothing, and why it is that."""
    name = getattr(case.loss, "function", getattr(case.loss, "__name__", ""))
    c = case.classes
    if getattr(case.loss, "reduction", "mean") != "mean":
        return None
    if name in ("cross_entropy", "nll_loss") and case.data.y.dtype == "int64":
        return math.log(c), f"log {c}"
    if name == "multiclass_hinge_loss":
        margin = float(getattr(case.loss, "margin", 1.0))
        return margin * (c - 1), f"C - 1 with {c} classes"
    if name == "multi_margin_loss":
        margin = float(getattr(case.loss, "margin", 1.0))
        return margin * (c - 1) / c, f"(C - 1) / C with {c} classes"
    if name in ("binary_cross_entropy_with_logits", "soft_margin_loss"):
        return math.log(2), "log 2"
    if name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
        zeros = np.zeros(case.outputs().shape, np.float32)
        return float(case.loss(zeros, case.data.y).item()), "that of outputs of 0"
    return None


def _initial_loss(case: Case) -> Check | None:
    expected = _expected_loss(case)
    if expected is None:
        return None
    with evaluation_mode(case.model), no_grad():
        value = case.loss(case.model(case.data.x), case.data.y).item()
    text = f"{value:.4g}, expected about {expected[0]:.4g} ({expected[1]})"
    excess = abs(value - expected[0]) / max(expected[0], 1e-12)
    if excess <= 0.3:
        return Check("initial loss", PASS, text)
    remedy = (
        "initialise with smaller weights, or scale the data"
        if value > expected[0]
        else "see whether the labels are among the inputs, or the model is trained already"
    )
    return Check("initial loss", WARN if excess <= 1.0 else FAIL, text, remedy)


def _regularised(case: Case) -> Check | None:
    """Any penalty on weights has to raise the loss: else they are all 0, or it is of the others."""
    if not any(len(p.shape) > 1 for p in case.model.parameters()):
        return None
    penalties: dict[str, Any] = dict(case.objective.penalties)
    penalties = penalties or {"l2": WeightPenalty(F.l2_penalty, 1e-2)}
    objective = Objective(case.loss, **penalties)
    with evaluation_mode(case.model), no_grad(), objective.watching(case.model):
        total, terms = objective(case.model, case.model(case.data.x), case.data.y)
    before, after = terms["data_loss"].item(), total.item()
    value = f"{before:.4g} without, {after:.4g} with {', '.join(penalties)}"
    if after > before:
        return Check("loss rises with regularisation", PASS, value)
    remedy = "see whether the weights are all 0, and which the penalty is of"
    return Check("loss rises with regularisation", FAIL, value, remedy)


def _outputs(case: Case) -> Check | None:
    """No softmax before a cross-entropy, no sigmoid before one with logits."""
    name = loss_name(case.loss)
    z = case.outputs().astype(np.float64)
    title, remedy = "outputs fit the loss", ""
    if name == "cross_entropy":
        if are_probabilities(z):
            value, remedy = "probabilities, expected logits", "take the softmax off the model"
        elif (z >= 0).all() and z.size >= 100:
            value = "none is negative, expected logits"
            remedy = "take the non-linearity off the last layer"
        elif np.abs(z).max() <= 1 and _last(case.model) in ("Tanh", "Hardtanh"):
            value = "all are in [-1, 1], expected logits"
            remedy = "take the non-linearity off the last layer"
    elif name == "binary_cross_entropy_with_logits" and ((z >= 0) & (z <= 1)).all():
        value, remedy = "all are in [0, 1], expected logits", "take the sigmoid off the model"
    elif name == "nll_loss" and not np.allclose(np.exp(z).sum(axis=-1), 1, atol=1e-3):
        value, remedy = "no log-probabilities", "end in nn.LogSoftmax, or use CrossEntropyLoss"
    if remedy:
        return Check(title, FAIL, value, remedy)
    return Check(title, PASS, f"from {z.min():.3g} to {z.max():.3g}")


def _last(model: nn.Module) -> str:
    leaves = [m for _, m in model.named_modules() if not m._modules]
    return type(leaves[-1]).__name__


# ---- the model -----------------------------------------------------------------------------------


def _independent(case: Case) -> Check:
    """In evaluation a row's output depends on that row alone, and is the same each time."""
    title, rows = "evaluation is repeatable, row by row", case.data.x.numpy()[:8]
    whole = case.model.predict(rows)
    again, alone = case.model.predict(rows), case.model.predict(rows, batch_size=1)
    scale = float(np.abs(whole).max()) or 1.0
    if not np.array_equal(whole, again):
        gap = np.abs(whole - again).max() / scale
        return Check(title, FAIL, f"outputs differ by {gap:.2g} of their size", "see what draws")
    gap = np.abs(whole - alone).max() / scale
    if gap > 1e-3:
        remedy = "see which axis is reshaped or normalised: rows mix"
        return Check(title, FAIL, f"a row alone differs by {gap:.2g} of the size", remedy)
    return Check(title, PASS, "the same outputs for rows alone and together")


def _gradients(case: Case) -> Check:
    title = "gradients reach every layer"
    model = case.model
    for p in model.parameters():
        p.grad = None
    generators = random.get_state()
    with evaluation_mode(model, training=True), case.objective.watching(model):
        part = case.data.take(slice(max(2, case.batch_size)))
        total, _ = case.objective(model, model(part.x), part.y, check_finite=False)
        total.backward()
    random.set_state(generators)
    sizes = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            weight = float(np.linalg.norm(p.detach().to("cpu").numpy())) + 1e-12
            gradient = 0.0 if p.grad is None else float(np.linalg.norm(p.grad.to("cpu").numpy()))
            sizes[name] = gradient / weight if len(p.shape) > 1 else gradient
        p.grad = None
    dead = [name for name, size in sizes.items() if not size > 0]
    if dead:
        remedy = "see whether the layer is used, detached, or dead (ReLU), or all its weights are 0"
        return Check(title, FAIL, f"none at {', '.join(dead[:4])}", remedy)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    matrices = {n: s for n, s in sizes.items() if len(shapes[n]) > 1} or sizes
    least, most = min(matrices, key=matrices.__getitem__), max(matrices, key=matrices.__getitem__)
    value = f"relative sizes {matrices[least]:.2g} ({least}) to {matrices[most]:.2g} ({most})"
    if matrices[least] >= 1e-4 * matrices[most]:
        return Check(title, PASS, value)
    remedy = "initialise by nn.init.auto_, use ReLU, add batch norm or skip connections"
    return Check(title, WARN, value, remedy)


def _all_trained(case: Case) -> Check | None:
    if case.optimizer is None:
        return None
    held = {id(p) for g in case.optimizer.param_groups for p in g["params"] if g["lr"] > 0}
    names = [n for n, p in case.model.named_parameters() if p.requires_grad and id(p) not in held]
    title = "optimizer holds every parameter"
    if not names:
        return Check(title, PASS, f"{len(held)} parameters")
    remedy = "give it model.parameters() and a rate above 0"
    return Check(title, FAIL, f"not {', '.join(names[:4])}", remedy)


@contextlib.contextmanager
def _without_noise(model: nn.Module) -> Iterator[None]:
    """Inside, dropout and its relatives drop nothing."""
    kept = [
        (m, m.p)
        for _, m in model.named_modules()
        if isinstance(m, (_Noise, DropConnect)) and hasattr(m, "p")
    ]
    for module, _ in kept:
        module.p = 0.0
    try:
        yield
    finally:
        for module, p in kept:
            module.p = p


def _tiny(case: Case) -> tuple[Any, Any]:
    """Samples of different inputs, as many classes as possible among them."""
    x, y = case.data.x.numpy(), np.asarray(case.data.y)
    _, first = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)
    first = np.sort(first)[:_TINY]
    return x[first], y[first]


def _overfits(case: Case) -> Check:
    """20 samples to 100 %, without regularisation; then the same in evaluation mode."""
    title, model = "overfits a tiny sample", case.model
    x, y = _tiny(case)
    has_classes = case.data.has_classes
    best, agreement = math.inf, 1.0
    for lr in (1e-2, 1e-3):
        with left_as_it_was(model), _without_noise(model):
            trainer = case.trainer(optim.Adam(model.parameters(), lr=lr), case.loss)
            stop = [StopAtZeroErrors(patience=3)] if has_classes else []
            try:
                logs = trainer.fit(x, y, len(x), 400, callbacks=stop, verbose=0).history
            except ValueError:  # not finite
                continue
            error = 1 - logs["accuracy"][-1] if has_classes else logs["loss"][-1] / logs["loss"][0]
            if error < best:
                best, after = error, trainer.evaluate(x, y)
                agreement = after["accuracy"] if has_classes else after["loss"]
        if best <= (0 if has_classes else 0.02):
            break
    if has_classes:
        value = f"{100 * (1 - best):.0f} % of {len(x)} samples, expected 100 %"
    else:
        value = f"{100 * best:.2g} % of the loss is left on {len(x)} samples, expected 2 % at most"
    if best > (0 if has_classes else 0.02):
        remedy = "the model cannot learn them by heart: see its size, loss, labels and gradients"
        return Check(title, FAIL, value, remedy)
    if has_classes and agreement < 0.9:
        value = f"100 % in training mode, but {100 * agreement:.0f} % in evaluation mode"
        return Check(title, FAIL, value, "see batch norm's momentum and dropout's scaling")
    return Check(title, PASS, value)


def _falls(case: Case) -> Check | None:
    """The loss falls within 100 steps of the optimizer that will train."""
    if case.optimizer is None:
        return None
    title, monitor = "loss falls in 100 steps", Monitor()
    fresh = optim.switch(case.optimizer, type(case.optimizer))
    epochs = -(-100 * case.batch_size // len(case.data.x))
    x, y, lr = case.data.x, case.data.y, float(case.optimizer.param_groups[0]["lr"])
    with left_as_it_was(case.model):
        trainer = case.trainer(fresh)
        first = trainer.evaluate(x, y)["loss"]
        try:
            trainer.fit(x, y, case.batch_size, epochs, callbacks=[monitor], verbose=0)
        except ValueError as error:
            remedy = f"lower the rate of {lr:g}, or clip gradients"
            return Check(title, FAIL, f"not finite ({str(error)[:60]}...)", remedy)
    last = float(np.mean(monitor.loss[-max(1, len(monitor.loss) // 5) :]))
    value = f"{first:.4g} before, {last:.4g} at last, with a rate of {lr:g}"
    if last > 1.05 * first:
        return Check(title, FAIL, value, "lower the rate; see the sign of the loss")
    if last > 0.99 * first:
        return Check(title, WARN, value, "raise the rate; fn.train.lr_range_test suggests one")
    return Check(title, PASS, value)


CHECKS: tuple[Callable[[Case], Check | None], ...] = (
    _scaled,
    _shuffled,
    _balanced,
    _initial_loss,
    _regularised,
    _outputs,
    _independent,
    _gradients,
    _all_trained,
    _overfits,
    _falls,
)
