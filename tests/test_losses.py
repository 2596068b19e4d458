"""Losses: golden numbers of the lectures, torch's conventions, and bad data inside a step."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn import nn
from fastnn.testing.compare import assert_bitwise_equal

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
LABELS = np.array([0, 3, 1, 2, 2, 0])


def gradient(loss_of, x=X):
    t = fn.tensor(x, requires_grad=True)
    loss_of(t).backward()
    return np.array(t.grad)


# ---- golden numbers ----------------------------------------------------------------------------


def test_logits_of_1000_do_not_overflow():
    logits = np.array([[1000.0, 0.0]], np.float32)
    assert F.logsumexp(logits).numpy().tolist() == [1000.0]
    assert F.softmax(logits).numpy().tolist() == [[1.0, 0.0]]
    assert F.cross_entropy(logits, [1]).item() == 1000.0
    assert F.cross_entropy(logits, [0]).item() == 0.0


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(2, 0.6931), (3, 1.0986), (10, 2.302585), (100, 4.60517), (1000, 6.90776)],
)
def test_the_first_loss_is_log_of_the_classes(classes, expected):
    """With small weights all classes are equally likely."""
    x = np.random.default_rng(1).standard_normal((256, 20)).astype(np.float32)
    scores = x @ (1e-4 * np.random.default_rng(2).standard_normal((20, classes))).astype(np.float32)
    labels = np.arange(256) % classes
    assert abs(F.cross_entropy(scores, labels).item() - expected) < 1e-3
    assert abs(F.nll_loss(F.log_softmax(scores), labels).item() - expected) < 1e-3


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_first_hinge_loss_is_one_less_than_the_classes(classes):
    x = np.random.default_rng(1).standard_normal((256, 20)).astype(np.float32)
    scores = x @ (1e-4 * np.random.default_rng(2).standard_normal((20, classes))).astype(np.float32)
    labels = np.arange(256) % classes
    hinge = F.multiclass_hinge_loss(scores, labels).item()
    assert abs(hinge - (classes - 1)) < 0.01
    # torch's form is the same, divided by the classes.
    assert abs(F.multi_margin_loss(scores, labels).item() - hinge / classes) < 1e-4


# ---- torch's conventions ------------------------------------------------------------------------


def test_a_weighted_mean_divides_by_the_weights_of_the_rows_that_count():
    weight = np.array([1.0, 2.0, 0.5, 3.0], np.float32)
    rows = F.cross_entropy(X, LABELS, weight, ignore_index=2, reduction="none").numpy()
    assert rows[3] == rows[4] == 0
    expected = rows.sum(dtype=np.float64) / weight[LABELS[LABELS != 2]].sum()
    assert abs(F.cross_entropy(X, LABELS, weight, ignore_index=2).item() - expected) < 1e-6


def test_a_mean_over_probabilities_divides_by_the_rows():
    weight = np.array([1.0, 2.0, 0.5, 3.0], np.float32)
    target = np.eye(4, dtype=np.float32)[LABELS]
    rows = F.cross_entropy(X, LABELS, weight, reduction="none").numpy()
    assert abs(F.cross_entropy(X, target, weight).item() - rows.mean(dtype=np.float64)) < 1e-6


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_a_batch_of_ignored_labels_has_loss_0_over_0_and_no_gradient(loss):
    ignored = np.full(6, -100)
    assert np.isnan(loss(X, ignored).item())
    assert loss(X, ignored, reduction="sum").item() == 0.0
    for reduction in ("mean", "sum"):
        dx = gradient(lambda x, r=reduction: loss(x, ignored, reduction=r))
        assert_bitwise_equal(dx, np.zeros_like(X))


def test_an_ignored_row_may_hold_anything():
    x = X.copy()
    x[1], x[4] = np.nan, -np.inf
    labels = np.where(np.isin(np.arange(6), [1, 4]), -100, LABELS)
    kept = np.isfinite(x).all(axis=1)
    loss = F.cross_entropy(x, labels).item()
    assert loss == F.cross_entropy(X[kept], labels[kept]).item()
    dx = gradient(lambda t: F.cross_entropy(t, labels), x)
    assert (dx[~kept] == 0).all()
    assert np.isfinite(dx).all()


def test_a_prediction_that_is_wrong_and_certain_costs_100():
    x, t = np.float32([0.0, 1.0]), np.float32([1.0, 0.0])
    assert F.binary_cross_entropy(x, t, reduction="none").numpy().tolist() == [100.0, 100.0]
    z = np.float32([-1000.0, 1000.0])
    rows = F.binary_cross_entropy_with_logits(z, t, reduction="none")
    assert rows.numpy().tolist() == [1000.0, 1000.0]


def test_probabilities_outside_0_to_1_give_nan():
    x = np.float32([-0.5, 1.5])
    assert np.isnan(F.binary_cross_entropy(x, np.float32([1, 0]), reduction="none").numpy()).all()


def test_a_mean_of_huge_differences_is_finite():
    x = np.full(10_000, 1e17, np.float32)
    assert np.isfinite(F.mse_loss(x, np.zeros_like(x)).item())
    x = np.array([3e19] + [0] * 1000, np.float32)  # the square overflows, the mean does not
    assert np.isfinite(F.mse_loss(x, np.zeros_like(x)).item())


# ---- bad data inside a step ----------------------------------------------------------------------


def make_step(weight=None):
    fn.manual_seed(0)
    layer = nn.Linear(4, 4)
    optimizer = fn.optim.SGD(layer.parameters(), lr=0.1)

    def step(x, labels):
        loss = F.cross_entropy(layer(x), labels, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return layer, step


def test_a_row_without_a_distribution_is_nan():
    x = X.copy()
    x[2] = -np.inf
    rows = F.cross_entropy(x, LABELS, reduction="none").numpy()
    assert np.isnan(rows).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("first", [True, False], ids=["while recording", "on replay"])
def test_a_row_without_a_distribution_is_named_inside_a_step(first):
    layer = nn.Linear(4, 4)
    optimizer = fn.optim.SGD(layer.parameters(), lr=0.1)

    @fn.capture
    def step(x, mask, labels):
        loss = F.cross_entropy(layer(x) + mask, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    mask = np.zeros_like(X)
    if not first:
        step(X, mask, LABELS)
    before = np.array(layer.weight.detach())
    mask[[3, 5]] = -np.inf
    with pytest.raises(ValueError, match="cross_entropy") as caught:
        step(X, mask, LABELS)
    assert str(caught.value) == (
        "cross_entropy: expected a logit above -inf in each row, got none in row 3"
    )
    assert_bitwise_equal(np.array(layer.weight.detach()), before)


def test_a_weighted_mean_follows_the_labels_of_a_captured_step():
    weight = fn.tensor(np.array([1.0, 2.0, 0.5, 3.0], np.float32))
    layer, step = make_step(weight)
    captured_layer, captured = make_step(weight)
    captured = fn.capture(captured)
    for shift in range(4):
        labels = np.where(shift == LABELS, -100, (LABELS + shift) % 4)
        assert captured(X, labels).item() == step(X, labels).item()
    assert_bitwise_equal(np.array(captured_layer.weight.detach()), np.array(layer.weight.detach()))


# ---- layers --------------------------------------------------------------------------------------

WEIGHT = np.array([1.0, 2.0, 0.5, 3.0], np.float32)
T = np.random.default_rng(3).uniform(size=(6, 4)).astype(np.float32)
SEVERAL = np.array([[3, 1, -1, 2]] * 6)
LAYERS = {
    "CrossEntropyLoss": ("cross_entropy", LABELS, {"weight": WEIGHT, "label_smoothing": 0.1}),
    "NLLLoss": ("nll_loss", LABELS, {"weight": WEIGHT, "ignore_index": 2}),
    "MSELoss": ("mse_loss", T, {"reduction": "sum"}),
    "L1Loss": ("l1_loss", T, {"reduction": "none"}),
    "SmoothL1Loss": ("smooth_l1_loss", T, {"beta": 0.5}),
    "HuberLoss": ("huber_loss", T, {"delta": 0.5}),
    "BCEWithLogitsLoss": ("binary_cross_entropy_with_logits", T, {"pos_weight": WEIGHT}),
    "KLDivLoss": ("kl_div", T, {"reduction": "batchmean", "log_target": True}),
    "SoftMarginLoss": ("soft_margin_loss", T, {}),
    "HingeLoss": ("hinge_loss", T, {"margin": 2.0}),
    "MultiMarginLoss": ("multi_margin_loss", LABELS, {"p": 2, "weight": WEIGHT}),
    "MultiClassHingeLoss": ("multiclass_hinge_loss", LABELS, {"margin": 2.0}),
    "MultiLabelMarginLoss": ("multilabel_margin_loss", SEVERAL, {"reduction": "sum"}),
    "MultiLabelSoftMarginLoss": ("multilabel_soft_margin_loss", T, {"weight": WEIGHT}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_function(name):
    function, target, options = LAYERS[name]
    layer = getattr(nn, name)(**options)
    expected = getattr(F, function)(X, target, **options)
    assert_bitwise_equal(np.array(layer(X, target)), np.array(expected))


def test_weights_of_a_loss_are_in_its_state():
    layer = nn.CrossEntropyLoss(WEIGHT)
    assert list(layer.state_dict()) == ["weight"]
    assert list(layer.parameters()) == []
    assert nn.CrossEntropyLoss().state_dict() == {}
    assert repr(nn.HuberLoss(delta=2.0)) == "HuberLoss(reduction='mean', delta=2.0)"
