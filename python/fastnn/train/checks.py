"""What fit and evaluate check once, before anything is changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import F, _core, nn, random
from fastnn.data.augment import Augmentation
from fastnn.data.augment.run import Runner, as_images
from fastnn.tensor import Tensor, no_grad

__all__ = ["Data", "check_arguments", "check_data", "evaluation_mode", "split"]


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

    ``labels`` is how many labels of each sample count; None where all do.
    """

    x: Tensor
    y: Tensor
    has_classes: bool
    labels: np.ndarray[Any, np.dtype[np.float32]] | None = None
    runner: Any = None  # what augments x, which is images then: uint8 too

    def take(self, where: Any) -> Data:
        """Some of the samples."""
        x, y = (_core.share(np.asarray(v)[where]) for v in (self.x, self.y))
        labels = None if self.labels is None else self.labels[where]
        return dataclasses.replace(self, x=x, y=y, labels=labels)


def check_data(
    op: str,
    model: nn.Module,
    loss: Callable[[Any, Any], Any],
    pair: tuple[Any, Any],
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
    runner = None
    if augment is None:
        x = _floats(pair[0])
    else:
        x = as_images(f"{op}: x", pair[0], False)
        runner = Runner(augment, x.shape[1:], x.dtype == "float32")
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
    ignored = _ignored_label(loss)
    generators = random.get_state()
    with evaluation_mode(model), no_grad():
        first_x, first_y = _first(x, y, runner)
        outputs = model(_core.to_device(first_x, device))
        has_classes = _has_classes(op, y, outputs.shape, loss, metrics)
        if has_classes:
            _check_labels(op, y, outputs.shape[-1], ignored)
        value = loss(outputs, _core.to_device(first_y, device))
    random.set_state(generators)
    if not isinstance(value, Tensor) or value.shape != ():
        got = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{op}: expected a loss that is a scalar Tensor, got {got}")
    counts = has_classes and (metrics is None or "accuracy" in metrics)
    return Data(x, y, counts, _labels_that_count(op, y, ignored), runner)


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
    result: Tensor = shared.detach().to("float32").to("cpu")
    return result


def _numbers(y: Any) -> Tensor:
    shared: Any = _core.share(y).detach().to("cpu")
    if shared.dtype == "uint8":
        shared = _core.share(np.asarray(shared).astype(np.int64))
    result: Tensor = shared if shared.dtype == "int64" else shared.to("float32")
    return result


def _first(x: Tensor, y: Tensor, runner: Any) -> tuple[Any, Any]:
    """The first sample, as a step takes it."""
    images, labels = np.asarray(x)[:1], np.asarray(y)[:1]
    if runner is not None:
        inside = runner.mixes is None or 0 <= labels.flat[0] < runner.mixes.num_classes
        images, mixed = runner.whole(images, labels if inside else labels * 0, np.zeros(1, int))
        labels = mixed
    return _core.clone(images), _core.clone(labels)


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


def check_arguments(
    batch_size: int,
    epochs: int,
    validation_data: Any,
    validation_split: float,
    verbose: int,
    initial_epoch: int | None,
) -> None:
    """Raise ValueError for an argument of fit that is out of range."""
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"fit: expected a whole number {name} >= 1, got {value}")
    if validation_data is not None and len(validation_data) != 2:
        raise ValueError(f"fit: expected validation_data (x, y), got {len(validation_data)} items")
    if not 0 <= validation_split < 1:
        raise ValueError(f"fit: expected 0 <= validation_split < 1, got {validation_split}")
    if verbose not in (0, 1, 2):
        raise ValueError(f"fit: expected verbose 0, 1 or 2, got {verbose}")
    if initial_epoch is not None and initial_epoch < 0:
        raise ValueError(f"fit: expected initial_epoch >= 0, got {initial_epoch}")


def split(data: Data, share: float, evaluation: Augmentation | None = None) -> tuple[Data, Data]:
    """The first part, and the last part of about this share, which is not augmented."""
    n = len(data.x)
    at = int(n * (1 - share))
    if not 0 < at < n:
        raise ValueError(
            f"fit: expected samples on both sides of validation_split {share}, got {at} and "
            f"{n - at}"
        )
    last = data.take(slice(at, n))
    if evaluation is not None:
        runner = Runner(evaluation, last.x.shape[1:], last.x.dtype == "float32")
        last = dataclasses.replace(last, runner=runner)
    return data.take(slice(at)), last
