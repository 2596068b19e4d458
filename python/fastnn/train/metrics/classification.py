"""Metrics of classes: accuracy, the confusion matrix, precision, recall, F1, the area under ROC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastnn.train.metrics.base import Array, Metric

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["ROCAUC", "Accuracy", "ConfusionMatrix", "F1Score", "Precision", "Recall"]


class Accuracy(Metric):
    """Share of samples whose class is among the top_k best scores.

    A class whose score ties with that of the true one counts as better if its index is smaller.

    Args:
        top_k: How many guesses; 1 - Accuracy(5) is the top-5 error.

    Raises:
        ValueError: If top_k is less than 1; in update for shapes and labels that do not fit.

    Example:
        >>> from fastnn.train.metrics import Accuracy
        >>> top2 = Accuracy(top_k=2)
        >>> top2.update([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], [1, 2])
        >>> top2.compute()
        0.5
    """

    def __init__(self, top_k: int = 1) -> None:
        self._need(top_k >= 1, "top_k >= 1", top_k)
        self.top_k = top_k
        self.name = "accuracy" if top_k == 1 else f"top_{top_k}_accuracy"
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._correct = self._samples = 0

    def update(self, outputs: ArrayLike, y: ArrayLike) -> None:
        """Add scores (..., classes) and class indices (...)."""
        scores, labels = _scores(self, outputs, y)
        own = scores[np.arange(len(labels)), labels][:, None]
        before = np.arange(scores.shape[1]) < labels[:, None]
        better = ((scores > own) | ((scores == own) & before)).sum(1)
        self._correct += int(((better < self.top_k) & ~np.isnan(own[:, 0])).sum())
        self._samples += len(labels)

    def compute(self) -> float:
        """The share."""
        return self._correct / self._samples if self._samples else float("nan")


class ConfusionMatrix(Metric):
    """How often each class was taken for each: rows are the truth, columns the predictions.

    Attributes:
        counts: (classes, classes), int64; None before the first update.

    Raises:
        ValueError: In update for shapes and labels that do not fit.

    Example:
        >>> from fastnn.train.metrics import ConfusionMatrix
        >>> matrix = ConfusionMatrix()
        >>> matrix.update([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 1, 1])
        >>> matrix.counts
        array([[0, 0],
               [1, 2]])
    """

    name = "accuracy"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.counts: Array | None = None

    def update(self, outputs: ArrayLike, y: ArrayLike) -> None:
        """Add scores (..., classes) and class indices (...)."""
        scores, labels = _scores(self, outputs, y)
        classes = scores.shape[1]
        pairs = np.bincount(labels * classes + scores.argmax(1), minlength=classes * classes)
        before = np.zeros((classes, classes), np.int64) if self.counts is None else self.counts
        self._need(len(before) == classes, f"{len(before)} classes as before", classes)
        self.counts = before + pairs.reshape(classes, classes)

    def compute(self) -> float:
        """The accuracy."""
        if self.counts is None or not self.counts.sum():
            return float("nan")
        return float(np.trace(self.counts) / self.counts.sum())


class _Averaged(ConfusionMatrix):
    """A score of each class against the rest, averaged over the classes.

    What is not defined, 0 / 0, counts as 0.
    """

    def __init__(self, average: str = "macro") -> None:
        self._need(average in ("macro", "micro"), "average 'macro' or 'micro'", repr(average))
        self.average = average
        super().__init__()

    def compute(self) -> float:
        """The average: over classes (macro), or of the counts of all classes (micro)."""
        if self.counts is None or not self.counts.sum():
            return float("nan")
        if self.average == "macro":
            return float(self.per_class().mean())
        right, truth, predicted = (v.sum(keepdims=True) for v in self._counts())
        return float(self._score(right, truth, predicted)[0])

    def per_class(self) -> Array:
        """The score of each class against the rest."""
        return self._score(*self._counts())

    def _counts(self) -> tuple[Array, Array, Array]:
        assert self.counts is not None
        return np.diagonal(self.counts), self.counts.sum(1), self.counts.sum(0)

    def _score(self, right: Array, truth: Array, predicted: Array) -> Array:
        raise NotImplementedError


class Precision(_Averaged):
    """Share of what was taken for a class that is of it.

    Args:
        average: ``"macro"``, the mean over the classes, or ``"micro"``, of all counts together.

    Raises:
        ValueError: For another average; in update for shapes and labels that do not fit.

    Example:
        >>> from fastnn.train.metrics import Precision
        >>> precision = Precision()
        >>> precision.update([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 0, 0])
        >>> precision.per_class().tolist(), precision.compute()
        ([1.0, 0.5], 0.75)
    """

    name = "precision"

    def _score(self, right: Array, truth: Array, predicted: Array) -> Array:
        return _ratio(right, predicted)


class Recall(_Averaged):
    """Share of a class that was taken for it.

    Args:
        average: ``"macro"``, the mean over the classes, or ``"micro"``, of all counts together.

    Raises:
        ValueError: For another average; in update for shapes and labels that do not fit.

    Example:
        >>> from fastnn.train.metrics import Recall
        >>> recall = Recall()
        >>> recall.update([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 0, 0])
        >>> recall.per_class().tolist()
        [0.5, 1.0]
    """

    name = "recall"

    def _score(self, right: Array, truth: Array, predicted: Array) -> Array:
        return _ratio(right, truth)


class F1Score(_Averaged):
    """The harmonic mean of precision and recall, 2 right / (truth + predicted).

    Args:
        average: ``"macro"``, the mean over the classes, or ``"micro"``, of all counts together.

    Raises:
        ValueError: For another average; in update for shapes and labels that do not fit.

    Example:
        >>> from fastnn.train.metrics import F1Score
        >>> f1 = F1Score("micro")
        >>> f1.update([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]], [1, 0, 0, 1])
        >>> f1.compute()
        0.75
    """

    name = "f1"

    def _score(self, right: Array, truth: Array, predicted: Array) -> Array:
        return _ratio(2 * right, truth + predicted)


class ROCAUC(Metric):
    """The probability that a positive sample has a higher score than a negative one, ties a half.

    That is the area under the curve of true against false positives. It keeps all scores: exact, at
    8 bytes a sample.

    Raises:
        ValueError: In update for shapes that do not fit, and for other labels than 0 and 1.

    Example:
        >>> from fastnn.train.metrics import ROCAUC
        >>> auc = ROCAUC()
        >>> auc.update([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        >>> auc.compute()
        0.75

    Source:
        Hanley, McNeil 1982, "The meaning and use of the area under a ROC curve".
    """

    name = "roc_auc"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._parts: list[tuple[Array, Array]] = []

    def update(self, outputs: ArrayLike, y: ArrayLike) -> None:
        """Add scores (n,), (n, 1) or (n, 2), whose second column counts, and labels 0 or 1."""
        scores, labels = np.asarray(outputs, np.float64), np.asarray(y)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if scores.ndim == 2 and scores.shape[1] in (1, 2):
            # Two logits are one: only their difference tells the classes apart.
            scores = scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]
        fits = scores.ndim == 1 and scores.shape == labels.shape
        self._need(fits, "outputs (n,), (n, 1) or (n, 2) and y (n,)",
                   f"{np.shape(outputs)}, {np.shape(y)}")  # fmt: skip
        self._need(bool(np.isin(labels, (0, 1)).all()), "labels 0 and 1", "others")
        self._parts.append((scores, labels.astype(bool)))

    def compute(self) -> float:
        """The area; NaN unless there are samples of both classes and no score is NaN."""
        if not self._parts:
            return float("nan")
        scores, positive = (np.concatenate(v) for v in zip(*self._parts, strict=True))
        p = int(positive.sum())
        n = len(positive) - p
        if p == 0 or n == 0 or np.isnan(scores).any():
            return float("nan")
        _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
        ranks = np.cumsum(counts) - (counts - 1) / 2  # from 1; equal scores share their mean rank
        return float((ranks[place[positive]].sum() - p * (p + 1) / 2) / (p * n))


def _ratio(a: Array, b: Array) -> Array:
    return np.divide(a, b, out=np.zeros(a.shape), where=b > 0)


def _scores(metric: Metric, outputs: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Scores (n, classes) and labels (n,), checked; axes before the last are samples."""
    scores, labels = np.asarray(outputs), np.asarray(y)
    fits = scores.ndim >= 2 and scores.shape[:-1] == labels.shape
    metric._need(fits, "outputs (..., classes) and y (...)", f"{scores.shape}, {labels.shape}")
    integers = np.issubdtype(labels.dtype, np.integer)
    metric._need(integers, "class indices y", f"dtype {labels.dtype}")
    classes = scores.shape[-1]
    if labels.size:
        low, high = labels.min(), labels.max()
        metric._need(bool(low >= 0 and high < classes), f"0 <= y < {classes}", f"{low} to {high}")
    return scores.reshape(-1, classes), labels.ravel()
