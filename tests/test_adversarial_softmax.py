"""Softmax and cross-entropy on inputs that broke other libraries."""

import math

import fastnn as fn
import numpy as np
import pytest
from adversarial_helpers import INF, MAX, NAN, Case, Wrong, check, check_wrong, parameters
from fastnn import functional as F
from fastnn.testing.compare import U
from fastnn.testing.reference.loss import cross_entropy as cross_entropy_oracle
from fastnn.testing.reference.softmax import log_softmax as log_softmax_oracle
from fastnn.testing.reference.softmax import softmax as softmax_oracle


def softmax(x, repeat):
    return F.softmax(x, -1)


def log_softmax(x, repeat):
    return F.log_softmax(x, -1)


def logsumexp(x, repeat):
    return F.logsumexp(x, -1)


def entropy(*labels, **params):
    params = {"reduction": "none", **params}
    return lambda x, repeat: F.cross_entropy(x, repeat(np.array(labels)), **params)


def nll(*labels, **params):
    return lambda x, repeat: F.nll_loss(x, repeat(np.array(labels)), reduction="none", **params)


def soft(*targets, **params):
    targets = np.float32(targets)
    return lambda x, repeat: F.cross_entropy(x, repeat(targets), reduction="none", **params)


def four_u(x, y):
    return 4 * U * np.maximum(1, np.abs(np.where(np.isfinite(y), y, 0)))


def mask(x):
    """log_softmax and softmax of rows with -inf: those have no part in anything."""
    with np.errstate(all="ignore"):
        return softmax_oracle(x)


SPIKES = [[s, 0.0, -s] for s in (1e4, 1e30, MAX)]
MASKED = [[0.0, -INF, 1.0, -INF], [-INF, 2.0, -INF, -INF]]
EMPTY = [[0.0, 1.0, 2.0], [-INF] * 3, [2.0, 1.0, 0.0]]
HALF = [[0.0, 0.0]]
LOG = math.log

SOFTMAX = {
    "1 softmax of huge logits is one-hot": Case(softmax, SPIKES, [[1, 0, 0]] * 3, np.zeros((3, 3))),
    "1 log_softmax of huge logits": Case(
        log_softmax,
        SPIKES,
        lambda x: np.stack([0 * x[:, 0], -x[:, 0], x[:, 2] - x[:, 0]], 1),
        ulps=1,
    ),
    "1 logsumexp of huge logits": Case(
        logsumexp, SPIKES, lambda x: x[:, 0], [[1, 0, 0]] * 3, ulps=1
    ),
    "1 the loss of the best class is 0": Case(
        entropy(0, 0, 0), SPIKES, np.zeros(3), np.zeros((3, 3))
    ),
    "1 the loss of the worst class is the distance": Case(
        entropy(2, 2, 2), SPIKES, lambda x: x[:, 0] - x[:, 2], [[1, 0, -1]] * 3, ulps=1
    ),
    "1 one logit of 1e30 among many": Case(
        softmax, np.eye(3, 100) * 1e30, np.eye(3, 100), np.zeros((3, 100))
    ),
    "1 the lowest of floats against 0": Case(softmax, [[-MAX, 0.0]], [[0, 1]], [[0, 0]]),
    "2 softmax of equal rows of 1e30": Case(
        softmax, np.full((2, 8), 1e30), np.full((2, 8), 0.125), np.zeros((2, 8))
    ),
    "2 loss of equal rows of 1e30": Case(
        entropy(0, 9),
        np.full((2, 10), 1e30),
        [LOG(10)] * 2,
        np.eye(10)[[0, 9]] * -1 + 0.1,
        bound=four_u,
        dx_bound=lambda x, d: 4 * U,
    ),
    "2 logsumexp of equal rows of -1e30": Case(
        logsumexp, np.full((2, 10), -1e30), lambda x: x[:, 0], ulps=1
    ),
    "2 log_softmax of equal rows of MAX": Case(
        log_softmax, np.full((2, 2), MAX), np.full((2, 2), -LOG(2)), bound=four_u
    ),
    "3 softmax of a row of -inf is NaN and the others are not": Case(softmax, EMPTY, mask, ulps=8),
    "3 log_softmax of a row of -inf": Case(
        log_softmax,
        EMPTY,
        lambda x: np.where(np.isneginf(x), NAN, log_softmax_oracle(x)),
        bound=four_u,
    ),
    "3 logsumexp of a row of -inf is -inf": Case(
        logsumexp, [[-INF] * 3, [0.0, -INF, -INF]], [-INF, 0], ulps=1
    ),
    "3 loss of a row of -inf": Case(
        entropy(1, 1, 0), EMPTY, [1.4076059644443804, NAN, 0.40760596444438], bound=four_u
    ),
    "3 an ignored row of -inf costs nothing": Case(
        entropy(-100, -100), [[-INF] * 3, [NAN, INF, 0.0]], [0, 0], np.zeros((2, 3))
    ),
    "4 softmax of a row with +inf": Case(softmax, [[INF, 0.0], [0.0, 0.0]], [[NAN] * 2, [0.5] * 2]),
    "4 logsumexp of a row with +inf": Case(logsumexp, [[INF, 0.0], [-INF, INF]], [INF, INF]),
    "4 loss of a row with +inf": Case(entropy(1, 0), [[INF, 0.0], [INF, 0.0]], [NAN, NAN]),
    "5 masked classes have no probability": Case(softmax, MASKED, mask, ulps=8),
    "5 masked classes have no gradient": Case(
        entropy(0, 1),
        MASKED,
        [LOG(1 + math.e), 0],
        lambda x: mask(x) - [[1, 0, 0, 0], [0, 1, 0, 0]],
        bound=four_u,
        dx_bound=lambda x, d: 4 * U,
    ),
    "5 a masked target costs infinitely much": Case(entropy(1, 0), MASKED, [INF, INF]),
    "5 log_softmax of masked classes": Case(
        log_softmax,
        MASKED,
        lambda x: np.where(
            np.isinf(x), -INF, [[-LOG(1 + math.e)] * 2 + [1 - LOG(1 + math.e)] * 2, [0] * 4]
        ),
        bound=four_u,
    ),
    "6 one class: softmax": Case(softmax, [[7.0], [-1e30]], [[1], [1]], [[0], [0]]),
    "6 one class: log_softmax": Case(log_softmax, [[7.0], [-1e30]], [[0], [0]], [[0], [0]]),
    "6 one class: loss": Case(entropy(0, 0), [[7.0], [-1e30]], [0, 0], [[0], [0]]),
    "6 one class: logsumexp": Case(logsumexp, [[7.0], [-1e30]], lambda x: x[:, 0], [[1], [1]]),
    "7 softmax over 32,768 equal classes": Case(
        softmax, np.zeros((1, 32_768)), np.full((1, 32_768), 2.0**-15), np.zeros((1, 32_768))
    ),
    "7 loss over 32,000 equal classes": Case(
        entropy(31_999), np.zeros((1, 32_000)), [LOG(32_000)], bound=four_u
    ),
    "7 logsumexp over 32,768 classes of -1000": Case(
        logsumexp, np.full((1, 32_768), -1000.0), [15 * LOG(2) - 1000], bound=four_u
    ),
    "8 NaN stays in its row: softmax": Case(
        softmax, [*HALF, [0.0, NAN], *HALF], [[0.5] * 2, [NAN] * 2, [0.5] * 2]
    ),
    "8 NaN stays in its row: loss": Case(
        entropy(0, 0, 0), [[0.0, -1e30], [0.0, NAN], [0.0, -1e30]], [0, NAN, 0]
    ),
    "8 NaN stays in its row: logsumexp": Case(logsumexp, [[0.0], [NAN], [3.0]], [0, NAN, 3]),
    "10 an ignored label costs nothing": Case(
        entropy(0, -100), [[0.0, -1e30]] * 2, [0, 0], np.zeros((2, 2))
    ),
    "10 another label may be the ignored one": Case(
        entropy(0, 1, ignore_index=1),
        [[-1e4, 0.0]] * 2,
        lambda x: [-x[0, 0], 0],
        [[-1, 1], [0, 0]],
        ulps=1,
    ),
    "10 nll_loss: an ignored row may hold anything": Case(
        nll(0, -100), [[-2.0, 5.0], [NAN, INF]], [2, 0], [[-1, 0], [0, 0]]
    ),
    "12 smoothing 1 is the uniform target": Case(
        entropy(0, 1, label_smoothing=1.0),
        [[3.0, 3.0]] * 2,
        [LOG(2)] * 2,
        np.zeros((2, 2)),
        bound=four_u,
        dx_bound=lambda x, d: 4 * U,
    ),
    "12 smoothing of a certain wrong answer": Case(
        entropy(1, label_smoothing=0.5),
        [[1000.0, -1000.0]],
        lambda x: [0.75 * (x[0, 0] - x[0, 1])],
        [[0.75, -0.75]],
        ulps=1,
    ),
    "12 a class of weight 0 costs nothing": Case(
        entropy(1, 0, weight=np.float32([2, 0])), [[1000.0, -1000.0]] * 2, [0, 0], np.zeros((2, 2))
    ),
    "12 a negative weight turns the loss around": Case(
        entropy(1, weight=np.float32([1, -2])), [[1024.0, -1024.0]], [-4096], [[-2, 2]]
    ),
    "12 a weight that is NaN": Case(
        entropy(1, 0, weight=np.float32([1, NAN])), [[64.0, -64.0]] * 2, [NAN, 0]
    ),
    "13 targets that sum to 2": Case(
        soft([1, 1]),
        HALF,
        [2 * LOG(2)],
        np.zeros((1, 2)),
        bound=four_u,
        dx_bound=lambda x, d: 4 * U,
    ),
    "13 targets that sum to 0": Case(soft([0, 0]), [[5.0, -5.0]], [0], np.zeros((1, 2))),
    "13 a negative target": Case(soft([-1, 0]), [[-1024.0, 1024.0]], [-2048], [[1, -1]]),
    "13 0 log 0 is 0": Case(soft([1, 0], [0, 1]), [[1e4, -INF], [-INF, 0.0]], [0, 0]),
    "13 nll_loss of log 0 where the target is": Case(
        nll(0, 1), [[-INF, 0.0], [-INF, 0.0]], [INF, 0]
    ),
}


@pytest.mark.parametrize(("case", "way"), parameters(SOFTMAX))
def test_values_and_gradients(case, way):
    check(case, way)


# ---- 9: labels out of range are refused before anything is read ----------------------------------

X3 = np.zeros((4, 3), np.float32)
LABELS = {
    "-1": -1,
    "the number of classes": 3,
    "INT64_MAX": 2**63 - 1,
    "INT64_MIN": -(2**63),
    "2^32 + 1": 2**32 + 1,
    "2^31": 2**31,
    "-2^32": -(2**32),
}
CLASS_LOSSES = ("cross_entropy", "nll_loss", "multi_margin_loss", "multiclass_hinge_loss")


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("loss", CLASS_LOSSES)
def test_9_a_label_out_of_range(loss, at, label):
    labels = np.zeros(4, np.int64)
    labels[at] = label
    message = f"{loss}: expected 0 <= target < 3, got {label} at target[{at}]"
    check_wrong(Wrong(lambda: getattr(F, loss)(X3, labels), ValueError, message))


@pytest.mark.parametrize("label", [3, 2**63 - 1, -(2**63), -2, 2**32 + 1])
def test_9_a_label_out_of_range_among_several(label):
    message = f"multilabel_margin_loss: expected -1 <= target < 3, got {label} at target[4]"
    labels = np.array([[0, 1, -1], [2, label, -1]])
    check_wrong(
        Wrong(lambda: F.multilabel_margin_loss(np.zeros((2, 3)), labels), ValueError, message)
    )


def test_9_the_largest_label_is_allowed_as_the_ignored_one():
    for label in (2**63 - 1, -(2**63), 2**32):
        loss = F.cross_entropy(X3, np.array([0, label, label, 1]), ignore_index=label)
        assert loss.item() == np.float32(math.log(3))


# ---- 3, 4: reported where the caller asks for it -------------------------------------------------

REFUSED = {
    "3 a row of -inf with check_finite": Wrong(
        lambda: F.cross_entropy([[0.0, 1.0], [-INF, -INF]], [0, 1], check_finite=True),
        ValueError,
        "cross_entropy: expected a logit above -inf in each row, got none in row 1",
    ),
    "11 labels that are floats": Wrong(
        lambda: F.cross_entropy(X3, np.float32([0, 1, 2, 1])),
        ValueError,
        "cross_entropy: expected target probabilities of shape (4, 3) like input, got (4,); class "
        "indices are integers",
    ),
    "11 labels that are NaN": Wrong(
        lambda: F.nll_loss(X3, np.float32([0, NAN, 2, 1])),
        TypeError,
        "nll_loss: expected target of int64 class indices, got float32",
    ),
    "12 smoothing below 0": Wrong(
        lambda: F.cross_entropy(X3, [0] * 4, label_smoothing=-0.1),
        ValueError,
        "cross_entropy: expected 0 <= label_smoothing <= 1, got -0.1",
    ),
    "12 smoothing above 1": Wrong(
        lambda: F.cross_entropy(X3, [0] * 4, label_smoothing=1.1),
        ValueError,
        "cross_entropy: expected 0 <= label_smoothing <= 1, got 1.1",
    ),
    "12 smoothing that is NaN": Wrong(
        lambda: F.cross_entropy(X3, [0] * 4, label_smoothing=NAN),
        ValueError,
        "cross_entropy: expected 0 <= label_smoothing <= 1, got nan",
    ),
    "10 ignore_index with probabilities": Wrong(
        lambda: F.cross_entropy(X3, X3, ignore_index=1),
        ValueError,
        "cross_entropy: expected class indices for ignore_index 1, got target probabilities",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    check_wrong(REFUSED[case])


@pytest.mark.parametrize("label", [0, 1])
def test_4_an_infinite_loss_is_an_error_where_it_is_checked(label):
    logits = [[0.0, -INF] if label else [INF, 0.0]]
    with pytest.raises(ValueError, match="expected a finite value, got NaN or infinity"):
        F.cross_entropy(logits, [label], check_finite=True)


# ---- 10, 12: means over nothing ------------------------------------------------------------------


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss], ids=lambda f: f.__name__)
def test_10_a_mean_over_no_label_is_nan_and_a_sum_is_0(loss):
    x, ignored = fn.tensor(X3, requires_grad=True), np.full(4, -100)
    assert np.isnan(loss(x, ignored).item())
    assert loss(x, ignored, reduction="sum").item() == 0.0
    loss(x, ignored).backward()
    assert np.array(x.grad).tolist() == X3.tolist()


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss], ids=lambda f: f.__name__)
def test_12_a_mean_over_weights_of_0_is_nan(loss):
    assert np.isnan(loss(X3, [0] * 4, weight=np.float32([0, 1, 1])).item())


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_12_13_weights_and_smoothing_are_the_formula_whatever_they_sum_to(reduction, smoothing):
    rng = np.random.default_rng(0)
    x, weight = 100 * rng.standard_normal((40, 7)), np.float32([0, 1e-30, 1, 2, 1e30, 3, 0.5])
    for target in (rng.integers(0, 7, 40), 5 * rng.random((40, 7))):
        if target.dtype == np.int64:
            x32, t, params = np.float32(x), target, {"label_smoothing": smoothing}
        else:
            x32, t, params = np.float32(x), np.float32(target), {}
        got = F.cross_entropy(x32, t, weight=weight, reduction=reduction, **params)
        wide = [np.float64(v) if v.dtype.kind == "f" else v for v in (x32, t, weight)]
        want = cross_entropy_oracle(*wide, reduction=reduction, **params)
        # Every product of a row is rounded to 4 u of its size; the weights differ by 1e60.
        error = 16 * U * np.abs(want) + 1e-6
        assert (np.abs(np.array(got, np.float64) - want) <= error).all()


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax], ids=lambda f: f.__name__)
def test_56_no_classes_are_no_numbers(function):
    """As in torch; the logarithm of their sum is -inf."""
    x = np.zeros((2, 0), np.float32)
    assert function(x, -1).shape == (2, 0)
    assert F.logsumexp(x, -1).numpy().tolist() == [-INF, -INF]
