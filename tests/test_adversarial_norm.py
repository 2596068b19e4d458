"""Normalisation of rows and channels that broke other libraries."""

import fastnn as fn
import numpy as np
import pytest
from adversarial_helpers import (
    INF,
    LAYOUTS,
    MAX,
    NAN,
    TINY,
    Case,
    Wrong,
    check,
    check_wrong,
    parameters,
)
from fastnn import functional as F
from fastnn import nn
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within
from fastnn.testing.reference import norm as reference

RNG = np.random.default_rng(11)
NOISE = RNG.standard_normal((3, 64))


def layer(**params):
    return lambda x, repeat: F.layer_norm(x, x.shape[-1], **params)


def rms(**params):
    return lambda x, repeat: F.rms_norm(x, x.shape[-1], **params)


def planes(function, shape, **params):
    """Rows as planes: of one channel each, or of the channels of one sample."""

    def call(x, repeat):
        x = x if isinstance(x, fn.Tensor) else fn.tensor(x)
        rows, cols = x.shape
        return function(x.reshape(*shape(rows), cols), **params).reshape(rows, cols)

    return call


def columns(x, repeat):
    """Rows as the columns of a batch."""
    dtype = x.dtype if isinstance(x, fn.Tensor) else "float32"
    batch = fn.tensor(np.ascontiguousarray(np.array(x).T), dtype)
    return fn.tensor(np.array(F.batch_norm(batch, training=True)).T, dtype)


def normalised(x):
    return reference.layer_norm(x, None, None, normalized_shape=x.shape[-1:])


def divided(x):
    return reference.rms_norm(x, None, normalized_shape=x.shape[-1:], eps=2.0**-23)


def four_u(x, y):
    return 4 * U * np.maximum(1, np.nanmax(np.abs(y), initial=0))


NORMS = {
    "layer_norm": layer(),
    "group_norm": planes(F.group_norm, lambda rows: (rows, 1), num_groups=1),
    "instance_norm": planes(F.instance_norm, lambda rows: (rows, 1)),
    "batch_norm": planes(F.batch_norm, lambda rows: (1, rows), training=True),
    "batch_norm of columns": columns,
}
ROWS = {
    "19 1e8 + 8 k": 1e8 + 8 * np.arange(-32, 32) * np.ones((3, 1)),
    "20 offset 2e3": 2e3 + NOISE,
    "20 offset 100, spread 0.01": 100 + 0.01 * NOISE,
    "20 offset 4e4": 4e4 + NOISE,
    "20 1449 and a little": 1449 + np.tile([0.0, 0.5, 0.25, 0.125], (3, 16)),
    "21 scale 1e30": 1e30 * NOISE,
    "21 scale 1e-20": 1e-20 * NOISE,
    "21 subnormals": 2.0**-140 * NOISE,
    "21 quarters of the largest float": MAX / 4 * np.sign(NOISE),
    "21 one of 1e30 among zeros": 1e30 * np.eye(3, 64),
    "22 two values 1 ULP apart at 1e10": 1e10 + 1024 * (np.arange(64) % 2) * np.ones((3, 1)),
}
CONSTANT = {
    "20 constant 1234": 1234.0,
    "22 constant 1e10": 1e10,
    "20 constant 0.1": 0.1,
    "20 constant -1e30": -1e30,
    "20 constant FLT_MAX": MAX,
    "20 constant subnormal": TINY,
    "20 constant 0": 0.0,
}
CASES = {
    **{
        f"{row}: {name}": Case(norm, x, normalised, bound=four_u)
        for row, x in ROWS.items()
        for name, norm in NORMS.items()
    },
    **{
        f"{row}: {name}": Case(norm, np.full((2, 256), value), np.zeros((2, 256)))
        for row, value in CONSTANT.items()
        for name, norm in NORMS.items()
    },
    **{
        f"{row}: rms_norm": Case(rms(), x, divided, bound=four_u)
        for row, x in ROWS.items()
        if row[:2] == "21"
    },
    "20 a constant row is the bias": Case(
        layer(weight=np.full(8, 3.0, np.float32), bias=np.arange(8, dtype=np.float32)),
        np.full((2, 8), 1234.0),
        [np.arange(8.0)] * 2,
        dtypes=("float32",),
    ),
    "20 a row of one element is 0": Case(layer(), [[5.0], [-1e30]], [[0], [0]], [[0], [0]]),
    "26 eps 0 and a constant row: 0 / 0, as in torch": Case(
        layer(eps=0.0), [[3.0] * 4, [1.0, -1.0, 1.0, -1.0]], [[NAN] * 4, [1, -1, 1, -1]]
    ),
    "26 eps 0 and a row of zeros: 0 / 0, as in torch": Case(
        rms(eps=0.0), [[0.0] * 4, [2.0, -2.0, 2.0, -2.0]], [[NAN] * 4, [1, -1, 1, -1]]
    ),
    "26 an infinite eps": Case(layer(eps=INF), [[3.0, 4.0]], [[0, 0]]),
    "26 eps 1e-12": Case(
        layer(eps=1e-12), [[3.0] * 4, [1.0, -1.0] * 2], [[0] * 4, [1, -1, 1, -1]], ulps=4
    ),
    "28 NaN stays in its row": Case(
        layer(eps=0.0), [[1.0, -1.0], [NAN, 0.0], [1.0, -1.0]], [[1, -1], [NAN] * 2, [1, -1]]
    ),
    "28 an infinity makes its row NaN": Case(
        layer(eps=0.0), [[1.0, -1.0], [INF, 0.0], [1.0, -1.0]], [[1, -1], [NAN] * 2, [1, -1]]
    ),
    "28 rms_norm: NaN stays in its row": Case(
        rms(eps=0.0), [[1.0, -1.0], [NAN, 0.0]], [[1, -1], [NAN] * 2]
    ),
    "bound rms_norm of 1e30 does not overflow": Case(rms(), [[1e30, -1e30]], [[1, -1]], ulps=2),
}


@pytest.mark.parametrize(("case", "way"), parameters(CASES))
def test_values(case, way):
    check(case, way)


@pytest.mark.parametrize("name", [name for name in NORMS if NORMS[name] is not columns])
@pytest.mark.parametrize("offset", [0.0, 2e3, 1e6, -1e8])
def test_20_gradients_do_not_see_an_offset(name, offset):
    """x on a grid that no offset rounds: dx has the bits of the row without one, up to 16 u."""
    grid = 64 * RNG.integers(-100, 100, (3, 64)).astype(np.float64)
    dy = RNG.standard_normal((3, 64)).astype(np.float32)
    grads = []
    for shift in (0.0, offset):
        x = fn.tensor(grid + shift, requires_grad=True)
        NORMS[name](x, None).backward(fn.tensor(dy))
        grads.append(np.array(x.grad, np.float64))
    rstd = 1 / np.sqrt(grid.var(axis=1, keepdims=True))
    assert_within(grads[1], grads[0], 32 * U * np.abs(dy).max() * rstd)


# ---- 23, 24, 30: batches of one and of none ------------------------------------------------------

ALONE = "expected more than 1 value per channel when training, got input"
REFUSED = {
    "23 batch_norm of one sample": Wrong(
        lambda: F.batch_norm(np.zeros((1, 3), np.float32), training=True),
        ValueError,
        f"batch_norm: {ALONE} (1, 3)",
    ),
    "23 batch_norm of one sample of one position": Wrong(
        lambda: nn.BatchNorm2d(3)(np.zeros((1, 3, 1, 1), np.float32)),
        ValueError,
        f"batch_norm: {ALONE} (1, 3, 1, 1)",
    ),
    "23 instance_norm of one position": Wrong(
        lambda: F.instance_norm(np.zeros((4, 3, 1), np.float32)),
        ValueError,
        "instance_norm: expected more than 1 element per channel, got input (4, 3, 1)",
    ),
    "26 eps below 0": Wrong(
        lambda: F.layer_norm(np.zeros((2, 3), np.float32), 3, eps=-1e-5),
        ValueError,
        "layer_norm: expected eps >= 0, got -1e-05",
    ),
    "26 eps NaN": Wrong(
        lambda: F.rms_norm(np.zeros((2, 3), np.float32), 3, eps=NAN),
        ValueError,
        "rms_norm: expected eps >= 0, got nan",
    ),
    "26 eps below 0: batch_norm": Wrong(
        lambda: nn.BatchNorm1d(3, eps=-1.0)(np.zeros((2, 3), np.float32)),
        ValueError,
        "batch_norm: expected eps >= 0, got -1",
    ),
    "26 eps NaN: group_norm": Wrong(
        lambda: nn.GroupNorm(1, 3, eps=NAN)(np.zeros((2, 3), np.float32)),
        ValueError,
        "group_norm: expected eps >= 0, got nan",
    ),
    "27 momentum above 1": Wrong(
        lambda: nn.BatchNorm1d(3, momentum=1.5)(np.zeros((2, 3), np.float32)),
        ValueError,
        "batch_norm: expected 0 <= momentum <= 1, got 1.5",
    ),
    "27 momentum below 0": Wrong(
        lambda: nn.BatchNorm1d(3, momentum=-0.1)(np.zeros((2, 3), np.float32)),
        ValueError,
        "batch_norm: expected 0 <= momentum <= 1, got -0.1",
    ),
    "27 momentum NaN": Wrong(
        lambda: nn.BatchNorm1d(3, momentum=NAN)(np.zeros((2, 3), np.float32)),
        ValueError,
        "batch_norm: expected 0 <= momentum <= 1, got nan",
    ),
    "56 layer_norm of no features": Wrong(
        lambda: F.layer_norm(np.zeros((2, 0), np.float32), 0),
        ValueError,
        "layer_norm: expected at least one element to normalise, got input (2, 0)",
    ),
    "56 rms_norm of no features": Wrong(
        lambda: F.rms_norm(np.zeros((2, 0), np.float32), 0),
        ValueError,
        "rms_norm: expected at least one element to normalise, got input (2, 0)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    check_wrong(REFUSED[case])


def statistics(layer):
    return [
        np.array(layer.running_mean),
        np.array(layer.running_var),
        np.array(layer.num_batches_tracked),
    ]


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 5), (4, 3, 0)], ids=str)
@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
def test_24_an_empty_batch_leaves_the_running_statistics_alone(shape, momentum):
    layer = nn.BatchNorm1d(3, momentum=momentum)
    layer(np.float32([[1, 2, 3], [4, 5, 9]]))
    before = statistics(layer)
    y = layer(np.zeros(shape, np.float32))
    assert y.shape == shape
    for got, expected in zip(statistics(layer), before, strict=True):
        assert_bitwise_equal(got, expected)


@pytest.mark.parametrize("momentum", [0.0, 1.0, None])
def test_27_extreme_momenta(momentum):
    """0 keeps the old statistics, 1 the new ones, None the mean of all."""
    layer = nn.BatchNorm1d(2, momentum=momentum)
    first, second = np.float32([[0, 8], [4, 0]]), np.float32([[1e30, 2], [-1e30, 6]])
    layer(first)
    layer(second)
    mean = {0.0: [0, 0], 1.0: [0, 4], None: [1, 4]}[momentum]
    assert statistics(layer)[0].tolist() == mean


@pytest.mark.parametrize(("var", "expected"), [(0.0, 1.0), (-2.0, NAN), (NAN, NAN), (INF, 0.0)])
def test_25_a_running_variance_from_a_bad_file(var, expected):
    """As in torch: what is not a variance gives NaN, in its channel alone, and nothing hides it."""
    x = np.float32([[3.0, 3.0], [5.0, 5.0]])
    y = np.array(F.batch_norm(x, np.float32([2, 2]), np.float32([var, 1.0]), eps=1.0))
    scale = 1 / np.sqrt(2)
    assert_within(y[:, 1], np.array([scale, 3 * scale]), 4 * U * 3)
    assert_within(y[:, 0], np.array([expected, 3 * expected]), 4 * U * 3)


@pytest.mark.parametrize("rows", [65_535, 65_536, 65_537])
@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm"])
def test_29_65_536_rows(rows, norm):
    x = np.float32(RNG.standard_normal((rows, 3)) + 100)
    wide = x.astype(np.float64)
    axis = 1 if norm == "layer_norm" else 0
    expected = (wide - wide.mean(axis=axis, keepdims=True)) / np.sqrt(
        wide.var(axis=axis, keepdims=True) + 1e-5
    )
    function = F.layer_norm if axis else F.batch_norm
    y = function(x, 3) if axis else function(x, training=True)
    assert_within(np.array(y), expected, 4 * U * np.maximum(1, np.abs(expected)))


def test_30_a_last_batch_of_one_sample_is_named():
    """Nothing of that step is kept: dropping or merging samples is the caller's choice."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), fn.optim.SGD(model.parameters(), lr=0.1))
    x, y = np.ones((9, 2), np.float32), np.zeros(9, np.int64)
    with pytest.raises(ValueError, match="batch_norm") as caught:
        trainer.fit(x, y, batch_size=4, verbose=0)
    assert str(caught.value) == f"fit: epoch 1, step 3: batch_norm '1': {ALONE} (1, 3)"
    assert model[1].num_batches_tracked.item() == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_28_a_channel_of_nan_leaves_the_others_their_bits(layout):
    x = RNG.standard_normal((9, 5)).astype(np.float32)
    clean = np.array(F.batch_norm(LAYOUTS[layout](x), training=True))
    x[4, 2] = NAN
    y = np.array(F.batch_norm(LAYOUTS[layout](x), training=True))
    assert np.isnan(y[:, 2]).all()
    others = [0, 1, 3, 4]
    assert_bitwise_equal(y[:, others], clean[:, others])
