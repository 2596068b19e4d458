"""Binary, pointwise and margin losses on inputs that broke other libraries."""

import math

import numpy as np
import pytest
from adversarial_helpers import INF, MAX, NAN, TINY, Case, Wrong, check, check_wrong, parameters
from fastnn import functional as F
from fastnn.testing.compare import U

LOG = math.log


def of(function, *targets, **params):
    """A loss of each element against its own target."""
    targets = np.float32(targets)
    return lambda x, repeat: function(x, repeat(targets), reduction="none", **params)


BIG = [1000.0, -1000.0, 1000.0, -1000.0, 1000.0, -1000.0]
TARGETS = (0, 0, 1, 1, 0.5, 0.5)
logits_loss = F.binary_cross_entropy_with_logits

BINARY = {
    "14 logits of 1000": Case(
        of(logits_loss, *TARGETS), BIG, [1000, 0, 0, 1000, 500, 500], [1, 0, 0, -1, 0.5, -0.5]
    ),
    "14 logits of MAX": Case(
        of(logits_loss, 0, 1, 1, 0),
        [MAX, MAX, -MAX, -MAX],
        lambda x: [x[0], 0, x[0], 0],
        [1, 0, -1, 0],
    ),
    "14 logits of 0 and -0": Case(
        of(logits_loss, 0, 1, 0.5), [0.0, -0.0, 0.0], [LOG(2)] * 3, [0.5, -0.5, 0], ulps=3
    ),
    "14 the smallest logit": Case(
        of(logits_loss, 0, 1), [TINY, -TINY], [LOG(2)] * 2, [0.5, -0.5], ulps=3, dx_ulps=1
    ),
    "14 a loss that is subnormal": Case(
        of(logits_loss, 0, 1),
        [-100.0, 100.0],
        [math.exp(-100)] * 2,
        [math.exp(-100), -math.exp(-100)],
        ulps=3,
        dx_ulps=3,
        dtypes=("float32",),
    ),
    "15 infinite logits that are right": Case(of(logits_loss, 1, 0), [INF, -INF], [0, 0], [0, 0]),
    "15 infinite logits that are wrong": Case(
        of(logits_loss, 0, 1, 0.5, 0.5), [INF, -INF, INF, -INF], [INF] * 4, [1, -1, 0.5, -0.5]
    ),
    "16 a target above 1 is taken as it is": Case(
        of(logits_loss, 2, -1), [1000.0, -1000.0], [-1000, -1000], [-1, 1]
    ),
    "16 a target that is NaN": Case(of(logits_loss, NAN, 1), [0.5, 1000.0], [NAN, 0], [NAN, 0]),
    "16 a logit that is NaN": Case(of(logits_loss, 1, 1), [NAN, 1000.0], [NAN, 0], [NAN, 0]),
    "17 probabilities of 0 and 1 that are right": Case(
        of(F.binary_cross_entropy, 0, 1), [0.0, 1.0], [0, 0]
    ),
    "17 probabilities of 0 and 1 that are wrong cost 100": Case(
        of(F.binary_cross_entropy, 1, 0), [0.0, 1.0], [100, 100]
    ),
    "17 the smallest probability": Case(
        of(F.binary_cross_entropy, 1), [TINY], [100], dtypes=("float32",)
    ),
    "17 a probability above exp(-100) is not clamped": Case(
        of(F.binary_cross_entropy, 1), [2.0**-100], [100 * LOG(2)], ulps=4
    ),
    "17 probability 1/2": Case(
        of(F.binary_cross_entropy, 0, 1, 0.5),
        [0.5] * 3,
        [LOG(2)] * 3,
        [2, -2, 0],
        ulps=4,
        dx_ulps=2,
    ),
    "16 probabilities outside 0 to 1 are NaN": Case(
        of(F.binary_cross_entropy, 0, 1, 1), [-0.5, 1.5, NAN], [NAN] * 3
    ),
    "18 pos_weight 0 forgives": Case(
        of(logits_loss, 1, 0, pos_weight=np.zeros((), np.float32)),
        [-1000.0, 1000.0],
        [0, 1000],
        [0, 1],
    ),
    "18 an infinite pos_weight": Case(
        of(logits_loss, 1, 1, pos_weight=np.float32(INF)), [0.0, -3.0], [INF, INF]
    ),
    "18 weight 0 forgives": Case(
        of(logits_loss, 1, 0, weight=np.zeros((), np.float32)), [-1000.0, 1000.0], [0, 0], [0, 0]
    ),
}

HUGE = [1e30, -1e30, MAX, -MAX]
ROOT = 2.0**-75  # its square is half the smallest subnormal

POINTWISE = {
    "bound mse of what overflows": Case(
        of(F.mse_loss, 0, 0), [1e20, -1e20], [INF, INF], lambda x: 2 * x, dx_ulps=1
    ),
    "bound mse of what underflows": Case(
        of(F.mse_loss, 0, 0), [2.0**-80, -(2.0**-80)], [0, 0], [2.0**-79, -(2.0**-79)]
    ),
    "bound mse of equals": Case(
        of(F.mse_loss, *HUGE[:2]),
        HUGE[:2],
        lambda x: (x - np.float32(HUGE[:2])) ** 2,
        dtypes=("float32",),
    ),
    "bound mse of infinities": Case(of(F.mse_loss, INF, 0, INF), [INF, INF, 0.0], [NAN, INF, INF]),
    "bound l1 of the largest floats": Case(of(F.l1_loss, 0, 0, 0, 0), HUGE, np.abs, [1, -1, 1, -1]),
    "bound l1 at 0 has gradient 0": Case(
        of(F.l1_loss, 0, 0, 1), [0.0, -0.0, 1.0], [0, 0, 0], [0, 0, 0]
    ),
    "bound l1 of the smallest difference": Case(
        of(F.l1_loss, 0, 0), [TINY, -TINY], [TINY, TINY], [1, -1], dtypes=("float32",)
    ),
    "bound huber of huge is linear": Case(
        of(F.huber_loss, 0, 0), HUGE[:2], lambda x: np.abs(x) - 0.5, [1, -1], ulps=1
    ),
    "bound huber at the border": Case(of(F.huber_loss, 0, 0), [1.0, -1.0], [0.5, 0.5], [1, -1]),
    "bound huber with a tiny delta": Case(
        of(F.huber_loss, 0, 0, delta=2.0**-40),
        [1.0, -1.0],
        [2.0**-40, 2.0**-40],
        [2.0**-40, -(2.0**-40)],
        ulps=1,
    ),
    "bound smooth_l1 with beta 0 is l1": Case(
        of(F.smooth_l1_loss, 0, 0, 0, beta=0.0), [3.0, -0.0, -3.0], [3, 0, 3], [1, 0, -1]
    ),
    "bound smooth_l1 at the border": Case(
        of(F.smooth_l1_loss, 0, 0, beta=2.0), [2.0, -2.0], [1, 1], [1, -1]
    ),
    "bound smooth_l1 of huge": Case(of(F.smooth_l1_loss, 0, 0), HUGE[2:], np.abs, [1, -1], ulps=1),
    "bound kl_div of target 0": Case(of(F.kl_div, 0, 0), [-5.0, -INF], [0, 0]),
    "bound kl_div of what is impossible": Case(of(F.kl_div, 0.5), [-INF], [INF], [-0.5]),
    "bound kl_div of log targets of -inf": Case(
        of(F.kl_div, -INF, 0, log_target=True), [-1.0, -1.0], [0, 1], [0, -1]
    ),
    "bound kl_div of equals": Case(
        of(F.kl_div, 0.5, 1),
        [-LOG(2), 0.0],
        [0.0, 0.0],
        [-0.5, -1],
        bound=lambda x, y: 4 * U,
        dtypes=("float32",),
    ),
    "bound soft margin of 1e4": Case(
        of(F.soft_margin_loss, 1, -1, -1), [1e4, -1e4, 1e4], lambda x: [0, 0, x[2]], [0, 0, 1]
    ),
    "bound soft margin of MAX": Case(
        of(F.soft_margin_loss, 1, -1), [-MAX, MAX], lambda x: np.abs(x), [-1, 1]
    ),
    "bound hinge at the border has gradient 0": Case(
        of(F.hinge_loss, 1, -1, 1), [1.0, -1.0, 0.0], [0, 0, 1], [0, 0, -1]
    ),
    "bound hinge of the largest floats": Case(
        of(F.hinge_loss, -1, 1), [MAX, -MAX], np.abs, [1, -1]
    ),
}


def margins(function, *labels, **params):
    labels = np.array(labels)
    return lambda x, repeat: function(x, repeat(labels), reduction="none", **params)


MARGIN = {
    "bound multi_margin of huge scores": Case(
        margins(F.multi_margin_loss, 0, 1),
        [[1e30, -1e30]] * 2,
        lambda x: [0, (x[0, 0] - x[0, 1]) / 2],
        [[0, 0], [0.5, -0.5]],
        ulps=1,
    ),
    "bound multi_margin at the border": Case(
        margins(F.multi_margin_loss, 0), [[1.0, 0.0]], [0], [[0, 0]]
    ),
    "bound multiclass_hinge of equal scores": Case(
        margins(F.multiclass_hinge_loss, 2), [[5.0] * 4], [3], [[1, 1, -3, 1]]
    ),
    "bound multiclass_hinge of one class": Case(
        margins(F.multiclass_hinge_loss, 0, 0), [[5.0], [-1e30]], [0, 0], [[0], [0]]
    ),
    "bound multilabel_margin without a label": Case(
        margins(F.multilabel_margin_loss, [-1, 0, 0]), [[3.0, 2.0, 1.0]], [0], [[0, 0, 0]]
    ),
    "bound multilabel_margin with every label": Case(
        margins(F.multilabel_margin_loss, [2, 0, 1]), [[3.0, 2.0, 1.0]], [0], [[0, 0, 0]]
    ),
    "bound multilabel_margin ignores what follows -1": Case(
        margins(F.multilabel_margin_loss, [0, -1, 1]),
        [[0.0, 0.0, 0.0]],
        [2 / 3],
        [[-2 / 3, 1 / 3, 1 / 3]],
        ulps=2,
        dx_ulps=2,
    ),
    "bound multilabel_margin of huge scores": Case(
        margins(F.multilabel_margin_loss, [1, -1]),
        [[1e30, -1e30]],
        lambda x: [(x[0, 0] - x[0, 1]) / 2],
        [[0.5, -0.5]],
        ulps=1,
    ),
    "bound NaN stays in its row": Case(
        margins(F.multi_margin_loss, 0, 0), [[NAN, 0.0], [4.0, 0.0]], [NAN, 0]
    ),
    "bound multilabel_soft_margin of 1000": Case(
        margins(
            lambda x, t, **k: F.multilabel_soft_margin_loss(x, np.float32(t), **k), [0, 1], [1, 0]
        ),
        [[1000.0, -1000.0]] * 2,
        [1000, 0],
        [[0.5, -0.5], [0, 0]],
    ),
}


@pytest.mark.parametrize(("case", "way"), parameters({**BINARY, **POINTWISE, **MARGIN}))
def test_values_and_gradients(case, way):
    check(case, way)


X3 = np.zeros((4, 3), np.float32)
REFUSED = {
    "bound huber with delta 0": Wrong(
        lambda: F.huber_loss(X3, X3, delta=0.0),
        ValueError,
        "huber_loss: expected 0 < delta < inf, got 0.0",
    ),
    "bound smooth_l1 with beta NaN": Wrong(
        lambda: F.smooth_l1_loss(X3, X3, beta=NAN),
        ValueError,
        "smooth_l1_loss: expected 0 <= beta < inf, got nan",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    check_wrong(REFUSED[case])


LOSSES = {
    "mse_loss": 1,
    "l1_loss": 1,
    "smooth_l1_loss": 1,
    "huber_loss": 1,
    "kl_div": 1,
    "hinge_loss": 1,
    "soft_margin_loss": 1,
    "binary_cross_entropy": 1,
    "binary_cross_entropy_with_logits": 1,
    "cross_entropy": 0,
    "nll_loss": 0,
    "multi_margin_loss": 0,
    "multiclass_hinge_loss": 0,
    "multilabel_margin_loss": 2,
    "multilabel_soft_margin_loss": 1,
}


@pytest.mark.parametrize("name", LOSSES)
def test_56_a_mean_over_nothing_is_refused_and_a_sum_is_0(name):
    """torch's mean is NaN, which poisons what it is added to."""
    loss, kind = getattr(F, name), LOSSES[name]
    x = np.zeros((0, 3), np.float32)
    target = {0: np.zeros(0, np.int64), 1: x, 2: np.zeros((0, 3), np.int64)}[kind]
    with pytest.raises(ValueError, match=f"^{name}: expected at least one ") as caught:
        loss(x, target)
    assert str(caught.value).endswith(" for reduction 'mean', got input (0, 3)")
    assert loss(x, target, reduction="sum").item() == 0.0
    assert loss(x, target, reduction="none").numpy().size == 0
