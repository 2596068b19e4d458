"""Metrics against their definitions written out, in parts of any size, and in a Trainer."""

import math

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn
from fastnn.train import metrics as M

RNG = np.random.default_rng(0)
N, CLASSES = 200, 5
SCORES = RNG.normal(size=(N, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, N)
SCORES[np.arange(N), LABELS] += 1
SCORE, TRUTH = np.round(RNG.normal(size=N), 1), RNG.integers(0, 2, N)
VALUES, WANTED = RNG.normal(1e4, 1, (N, 3)), RNG.normal(1e4, 1, (N, 3))


def per_class(kind):
    predicted = SCORES.argmax(1)
    scores = []
    for c in range(CLASSES):
        right = ((predicted == c) & (c == LABELS)).sum()
        precision, recall = right / (predicted == c).sum(), right / (c == LABELS).sum()
        f1 = 2 * precision * recall / (precision + recall)
        scores.append({"precision": precision, "recall": recall, "f1": f1}[kind])
    return scores


def auc():
    """Over all pairs of a positive and a negative sample."""
    difference = SCORE[TRUTH == 1][:, None] - SCORE[TRUTH == 0][None]
    return ((difference > 0) + 0.5 * (difference == 0)).mean()


ACCURACY = (SCORES.argmax(1) == LABELS).mean()
CASES = {
    "accuracy": (M.Accuracy, SCORES, LABELS, ACCURACY),
    "top 2": (
        lambda: M.Accuracy(2), SCORES, LABELS,
        np.mean([y in np.argsort(-s)[:2] for s, y in zip(SCORES, LABELS, strict=True)]),
    ),
    "all": (lambda: M.Accuracy(9), SCORES, LABELS, 1.0),
    "matrix": (M.ConfusionMatrix, SCORES, LABELS, ACCURACY),
    "precision": (M.Precision, SCORES, LABELS, np.mean(per_class("precision"))),
    "recall": (M.Recall, SCORES, LABELS, np.mean(per_class("recall"))),
    "F1": (M.F1Score, SCORES, LABELS, np.mean(per_class("f1"))),
    "micro precision": (lambda: M.Precision("micro"), SCORES, LABELS, ACCURACY),
    "micro recall": (lambda: M.Recall("micro"), SCORES, LABELS, ACCURACY),
    "micro F1": (lambda: M.F1Score("micro"), SCORES, LABELS, ACCURACY),
    "AUC": (M.ROCAUC, SCORE, TRUTH, auc()),
    "AUC of a column": (M.ROCAUC, SCORE[:, None], TRUTH[:, None], auc()),
    "AUC of two logits": (M.ROCAUC, np.stack([-SCORE, SCORE], 1), TRUTH, auc()),
    "MSE": (M.MeanSquaredError, VALUES, WANTED, ((VALUES - WANTED) ** 2).mean()),
    "R2": (
        M.R2Score, VALUES, WANTED,
        1 - ((VALUES - WANTED) ** 2).sum() / ((WANTED - WANTED.mean()) ** 2).sum(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("part", [1, 7, N])
@pytest.mark.parametrize("name", CASES)
def test_definitions(name, part):
    make, outputs, y, expected = CASES[name]
    metric = make()
    for _ in range(2):
        metric.reset()
        assert math.isnan(metric.compute())
        for start in range(0, N, part):
            metric.update(outputs[start : start + part], y[start : start + part])
        assert metric.compute() == pytest.approx(expected, rel=1e-12)


def test_per_class_and_counts():
    for kind, make in (("precision", M.Precision), ("recall", M.Recall), ("f1", M.F1Score)):
        metric = make()
        metric.update(SCORES, LABELS)
        np.testing.assert_allclose(metric.per_class(), per_class(kind))
    assert metric.counts.sum() == N
    np.testing.assert_array_equal(metric.counts.sum(1), np.bincount(LABELS, minlength=CLASSES))


def test_labels_with_more_axes_and_torches_order_of_ties():
    metric = M.Accuracy()
    metric.update(np.zeros((2, 3, 4)), [[0, 0, 1], [2, 3, 0]])
    assert metric.compute() == 0.5
    metric.reset()
    metric.update([[np.nan, 1.0]], [0])
    assert metric.compute() == 0


@pytest.mark.parametrize(("metric", "outputs", "y"), [
    (M.ROCAUC(), [0.1, 0.2], [1, 1]),
    (M.ROCAUC(), [np.nan, 0.2], [0, 1]),
    (M.R2Score(), [1.0, 2.0], [3.0, 3.0]),
])  # fmt: skip
def test_what_is_not_defined_is_nan(metric, outputs, y):
    metric.update(outputs, y)
    assert math.isnan(metric.compute())


def test_classes_that_never_occur_count_as_zero():
    metric = M.F1Score()
    metric.update(np.eye(3)[[0, 1]], [0, 1])
    assert metric.per_class().tolist() == [1, 1, 0]


def test_a_trainer_measures_them_in_evaluation():
    model = nn.Linear(CLASSES, CLASSES)
    optimizer = fn.optim.SGD(model.parameters(), lr=0.1)
    trainer = fn.Trainer(
        model, nn.CrossEntropyLoss(), optimizer, metrics=[M.F1Score(), M.Accuracy(2)]
    )
    history = trainer.fit(SCORES, LABELS, epochs=2, validation_split=0.25, verbose=0).history
    assert {"accuracy", "val_accuracy", "val_f1", "val_top_2_accuracy"} <= set(history)
    assert "f1" not in history
    result = trainer.evaluate(SCORES, LABELS)
    f1 = M.F1Score()
    f1.update(model.predict(SCORES), LABELS)
    assert result["f1"] == f1.compute()
    assert "accuracy" not in fn.Trainer(
        model, nn.CrossEntropyLoss(), optimizer, metrics=()
    ).evaluate(SCORES, LABELS)


ERRORS = [
    (lambda: M.Accuracy(0), "Accuracy: expected top_k >= 1, got 0"),
    (lambda: M.Recall("none"), "Recall: expected average 'macro' or 'micro', got 'none'"),
    (lambda: M.Accuracy().update([1.0], [0]),
     "Accuracy: expected outputs (..., classes) and y (...), got (1,), (1,)"),
    (lambda: M.Accuracy().update([[1.0]], [0.5]),
     "Accuracy: expected class indices y, got dtype float64"),
    (lambda: M.F1Score().update([[1.0, 2.0]] * 2, [0, 2]),
     "F1Score: expected 0 <= y < 2, got 0 to 2"),
    (lambda: M.ROCAUC().update(np.zeros((2, 3)), [0, 1]),
     "ROCAUC: expected outputs (n,), (n, 1) or (n, 2) and y (n,), got (2, 3), (2,)"),
    (lambda: M.ROCAUC().update([0.5, 0.5], [1, 2]), "ROCAUC: expected labels 0 and 1, got others"),
    (lambda: M.MeanSquaredError().update([1.0], [[1.0]]),
     "MeanSquaredError: expected outputs and y of one shape, got (1,) and (1, 1)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert str(caught.value) == message


def test_the_number_of_classes_stays():
    matrix = M.ConfusionMatrix()
    matrix.update([[0.0, 1.0]], [1])
    with pytest.raises(ValueError, match="ConfusionMatrix: expected 2 classes as before, got 3"):
        matrix.update([[0.0, 1.0, 2.0]], [1])
    with pytest.raises(NotImplementedError, match="Metric: expected a compute method"):
        M.Metric().compute()
