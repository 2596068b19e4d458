"""What fit and evaluate check once, before anything is changed."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import F, _core, nn, random
from fastnn.data.augment import Augmentation
from fastnn.data.augment.run import Runner, as_images
from fastnn.optim import Optimizer
from fastnn.tensor import Tensor, no_grad
from fastnn.train.members import members_of, outputs_of
from fastnn.train.objective import Objective, per_sample

__all__ = [
    "Data",
    "are_probabilities",
    "check_arguments",
    "check_data",
    "check_parts",
    "describe",
    "evaluation_mode",
    "loss_name",
    "split",
    "weigh",
]


class evaluation_mode:
    """Inside, a model is in evaluation mode (or in training mode); afterwards as it was before."""

    def __init__(self, model: nn.Module, training: bool = False) -> None:
        self._model, self._training = model, training

    def __enter__(self) -> None:
        self._modes = [(m, m.training) for _, m in self._model.named_modules()]
        self._model.train(self._training)

    def __exit__(self, *_: object) -> None:
        for module, mode in self._modes:
            module.training = mode


@dataclasses.dataclass(frozen=True)
class Data:
    """Checked samples: x float32, y int64 or float32, and whether y holds classes to count.

    ``labels`` is how many labels of each sample count; None where all do. ``weights`` is how much
    the loss of each sample counts; None where all count the same. ``runner`` is what augments x,
    which is images then, of uint8 too; None where x is what the model takes.
    """

    x: Tensor
    y: Tensor
    has_classes: bool
    labels: np.ndarray[Any, np.dtype[np.float32]] | None = None
    weights: np.ndarray[Any, np.dtype[np.float32]] | None = None
    runner: Runner | None = None

    def take(self, where: Any) -> Data:
        """Some of the samples."""
        x, y = (_core.share(np.asarray(v)[where]) for v in (self.x, self.y))
        labels = None if self.labels is None else self.labels[where]
        weights = None if self.weights is None else self.weights[where]
        return dataclasses.replace(self, x=x, y=y, labels=labels, weights=weights)

    def inputs(self) -> Tensor:
        """All of x as the model takes it."""
        if self.runner is None:
            return self.x
        inputs: Tensor = _core.share(self.runner.batch(np.asarray(self.x), np.arange(len(self.x))))
        return inputs

    def first(self, device: str) -> tuple[Any, Any]:
        """The first sample and its label, as a step takes them."""
        x, y = np.asarray(self.x)[:1], np.asarray(self.y)[:1]
        if self.runner is not None:
            mixes = self.runner.mixes  # labels are checked later
            inside = mixes is None or 0 <= y.flat[0] < mixes.num_classes
            x, y = self.runner.whole(x, y if inside else y * 0, np.zeros(1, np.int64))
        return _core.to_device(_core.clone(x), device), _core.to_device(_core.clone(y), device)


def check_data(
    op: str,
    model: nn.Module,
    objective: Objective,
    pair: Sequence[Any],
    device: str,
    metrics: tuple[str, ...] | None,
    augment: Augmentation | None = None,
) -> Data:
    """x and y after all checks; the first sample is tried, so that layers can check their shapes.

    Raises:
        ValueError: For lengths and shapes that do not fit, no samples, NaN or infinity, labels out
            of range (the loss's ``ignore_index`` is allowed); the message says where.
        TypeError: For what is not numbers.
    """
    x = _floats(pair[0]) if augment is None else as_images(f"{op}: x", pair[0], False).to("cpu")
    runner = None
    if augment is not None:
        runner = Runner(augment, x.shape[1:], x.dtype == "float32", device=device)
    y = _numbers(pair[1])
    if len(x.shape) < 1 or len(y.shape) < 1:
        raise ValueError(
            f"{op}: expected x and y with an axis of samples, got x {x.shape} and y {y.shape}"
        )
    if x.shape[0] != y.shape[0]:
        raise ValueError(
            f"{op}: expected as many labels as samples, got x {x.shape} and y {y.shape}"
        )
    if x.shape[0] == 0:
        raise ValueError(f"{op}: expected at least one sample, got x {x.shape}")
    if x.dtype == "float32":
        _check_finite(op, "x", x)
    if y.dtype == "float32":
        _check_finite(op, "y", y)
    loss = objective.loss
    ignored = _ignored_label(loss)
    generators = random.get_state()
    with evaluation_mode(model), no_grad(), objective.watching(model):
        first_x, first_y = Data(x, y, False, runner=runner).first(device)
        outputs = outputs_of(model, first_x)[0]
        has_classes = _has_classes(op, y, outputs.shape, loss, metrics)
        if has_classes:
            _check_labels(op, y, outputs.shape[-1], ignored)
        values = {"a loss": loss(outputs, first_y)}
        for name, penalty in objective.penalties.items():
            values[f"a penalty {name!r}"] = penalty(members_of(model)[0])
    random.set_state(generators)
    for what, value in values.items():
        if not isinstance(value, Tensor) or value.shape != ():
            got = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{op}: expected {what} that is a scalar Tensor, got {got}")
    counts = has_classes and (metrics is None or "accuracy" in metrics)
    return Data(x, y, counts, _labels_that_count(op, y, ignored), None, runner)


def weigh(
    op: str,
    objective: Objective,
    data: Data,
    sample_weight: Any,
    class_weight: Mapping[int, float] | None = None,
) -> Data:
    """The data, with the weights of the samples times those of their classes.

    Raises:
        ValueError: If weights are out of range or do not fit, or the loss cannot be weighted.
    """
    if sample_weight is None and class_weight is None:
        return data
    per_sample(op, objective.loss)
    if data.runner is not None and data.runner.mixes is not None:
        raise ValueError(
            f"{op}: expected no {type(data.runner.mixes).__name__} with weights, since a mixed "
            "image is of two samples; use fn.train.BalancedSampler"
        )
    if data.labels is not None:
        raise ValueError(
            f"{op}: expected labels that all count with weights, got some to be ignored; give "
            "those samples a weight of 0"
        )
    weights = np.ones(len(data.x), np.float32) if data.weights is None else data.weights
    if sample_weight is not None:
        given = np.asarray(sample_weight, np.float32)
        if given.shape != weights.shape:
            raise ValueError(
                f"{op}: expected sample_weight of shape {weights.shape}, got {given.shape}"
            )
        bad = ~(np.isfinite(given) & (given >= 0))
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(
                f"{op}: expected finite sample_weight >= 0, got {given[at]} at sample_weight[{at}]"
            )
        weights = weights * given
    if class_weight is not None:
        weights = weights * _of_classes(op, data.y, class_weight)
    return dataclasses.replace(data, weights=weights)


def _of_classes(op: str, y: Tensor, class_weight: Mapping[int, float]) -> Any:
    labels = np.asarray(y)
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise ValueError(
            f"{op}: expected class indices of shape (n,) for class_weight, got y {y.shape} of "
            f"{y.dtype}"
        )
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f"{op}: expected class_weight to be a dictionary of weights by class, got "
            f"{type(class_weight).__name__}"
        )
    weights = np.ones(labels.shape, np.float32)
    for label, weight in class_weight.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(
                f"{op}: expected finite weights >= 0 in class_weight, got {weight} of class {label}"
            )
        weights[labels == label] = weight
    if not any(label in class_weight for label in np.unique(labels).tolist()):
        raise ValueError(
            f"{op}: expected classes of y in class_weight, got {', '.join(map(str, class_weight))}"
        )
    return weights


def describe(data: Data, validation: Data | None, model: nn.Module, loss: object) -> dict[str, int]:
    """What a training is of, in numbers; see :class:`fastnn.train.History`."""
    facts = {
        "samples": len(data.x),
        "val_samples": 0 if validation is None else len(validation.x),
        "classes": 0,
    }
    if data.has_classes:
        generators = random.get_state()
        with evaluation_mode(model), no_grad():
            first = data.first(next(model.parameters()).device)[0]
            outputs = outputs_of(model, first)[0]
        random.set_state(generators)
        facts["classes"] = int(outputs.shape[-1])
        if loss_name(loss) == "cross_entropy":
            facts["probabilities"] = int(are_probabilities(np.asarray(outputs.to("cpu"))))
    return facts


def loss_name(loss: object) -> str:
    """The function that a loss is; "" for one of the user's."""
    return str(getattr(loss, "function", getattr(loss, "__name__", "")))


def are_probabilities(outputs: np.ndarray[Any, Any]) -> bool:
    """Whether every row is what a softmax puts out: from 0 to 1, and 1 in all."""
    z = outputs.astype(np.float64)
    return z.shape[-1] > 1 and bool((z >= 0).all() and np.allclose(z.sum(axis=-1), 1, atol=1e-3))


def _ignored_label(loss: Any) -> int | None:
    """The label that the loss leaves out; None if it knows of none."""
    default = -100 if loss in (F.cross_entropy, F.nll_loss) else None
    label: int | None = getattr(loss, "ignore_index", default)
    return label


def _labels_that_count(op: str, y: Tensor, ignored: int | None) -> Any:
    if ignored is None or y.dtype != "int64":
        return None
    counts = np.asarray(y) != ignored
    if counts.all():
        return None
    if not counts.any():
        raise ValueError(
            f"{op}: expected at least one label that counts, got y == {ignored} (ignore_index) "
            "everywhere"
        )
    return counts.reshape(len(counts), -1).sum(axis=1).astype(np.float32)


def _has_classes(
    op: str, y: Tensor, outputs: tuple[int, ...], loss: object, metrics: tuple[str, ...] | None
) -> bool:
    """Whether y holds a class index for each row of the outputs."""
    fits = y.dtype == "int64" and len(outputs) >= 2 and y.shape[1:] == tuple(outputs[1:-1])
    has_classes = fits and (outputs[-1] > 1 or isinstance(loss, nn.CrossEntropyLoss))
    if metrics and not has_classes:
        raise ValueError(
            f"{op}: expected class indices for the accuracy, one per row of the outputs "
            f"{('n', *outputs[1:])}, got y {y.shape} of {y.dtype}"
        )
    return has_classes


def _floats(x: Any) -> Tensor:
    shared: Any = _core.share(x)
    if shared.dtype in ("int64", "uint8"):
        shared = _core.share(np.asarray(shared.to("cpu")).astype(np.float32))
    result: Tensor = shared.detach().to("float32").to("cpu").contiguous()
    return result


def _numbers(y: Any) -> Tensor:
    shared: Any = _core.share(y).detach().to("cpu")
    if shared.dtype == "uint8":
        shared = _core.share(np.asarray(shared).astype(np.int64))
    result: Tensor = shared if shared.dtype == "int64" else shared.to("float32")
    return result


def _check_finite(op: str, name: str, data: Tensor) -> None:
    at = int(_core.first_not_finite(data))
    if at < 0:
        return
    index = tuple(int(i) for i in np.unravel_index(at, data.shape))
    value = np.asarray(data)[index]
    place = f"row {index[0]}, column {index[1]}" if len(index) == 2 else f"{name}{list(index)}"
    raise ValueError(f"{op}: expected {name} without NaN or infinity, got {value} at {place}")


def _check_labels(op: str, y: Tensor, classes: int, ignored: int | None) -> None:
    labels = np.asarray(y)
    bad = ((labels < 0) | (labels >= classes)) & (labels != ignored)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{op}: expected 0 <= y < {classes}, one class per output of the model, got "
            f"{labels[index]} at y{list(index)}"
        )


def check_parts(model: Any, loss: Any, optimizer: Any) -> None:
    """Raise TypeError for what no Trainer can be made of."""
    for name, value, kind in (("model", model, nn.Module), ("optimizer", optimizer, Optimizer)):
        if not isinstance(value, kind):
            raise TypeError(
                f"Trainer: expected {name} of class {kind.__name__}, got {type(value).__name__}"
            )
    if not callable(loss):
        raise TypeError(f"Trainer: expected loss to be a function of (outputs, y), got {loss!r}")


def check_arguments(
    batch_size: int,
    epochs: int,
    validation_data: Any,
    validation_split: float,
    verbose: int,
    initial_epoch: int | None,
    shuffle: Any,
) -> None:
    """Raise ValueError for an argument of fit that is out of range."""
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"fit: expected a whole number {name} >= 1, got {value}")
    if validation_data is not None:
        parts = isinstance(validation_data, (tuple, list))
        got = f"{len(validation_data)} items" if parts else type(validation_data).__name__
        if got not in ("2 items", "3 items"):
            raise ValueError(
                f"fit: expected validation_data (x, y) or (x, y, sample_weight), got {got}"
            )
    if not isinstance(validation_split, numbers.Real) or not 0 <= validation_split < 1:
        raise ValueError(f"fit: expected 0 <= validation_split < 1, got {validation_split!r}")
    if verbose not in (0, 1, 2):
        raise ValueError(f"fit: expected verbose 0, 1 or 2, got {verbose}")
    if not (callable(shuffle) or isinstance(shuffle, (bool, np.bool_))):
        raise ValueError(f"fit: expected shuffle to be True, False or a sampler, got {shuffle!r}")
    if initial_epoch is not None and initial_epoch < 0:
        raise ValueError(f"fit: expected initial_epoch >= 0, got {initial_epoch}")


def split(data: Data, share: float, evaluation: Augmentation | None = None) -> tuple[Data, Data]:
    """The first part, and the last part of about this share, which ``evaluation`` augments."""
    n = len(data.x)
    at = int(n * (1 - share))
    if not 0 < at < n:
        raise ValueError(
            f"fit: expected samples on both sides of validation_split {share}, got {at} and "
            f"{n - at}"
        )
    last = data.take(slice(at, n))
    if evaluation is not None and data.runner is not None:
        is_float, device = last.x.dtype == "float32", data.runner.device
        runner = Runner(evaluation, last.x.shape[1:], is_float, device=device)
        last = dataclasses.replace(last, runner=runner)
    return data.take(slice(at)), last
