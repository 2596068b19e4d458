"""Dropout, pooling, embedding and penalties on inputs that broke other libraries; every op on every
layout; and where the rest of the catalogue is."""

import re
from pathlib import Path

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
from fastnn.testing import harness
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.ops import OPS

# What is asserted by other tests: the item, and the file with the test.
ELSEWHERE = {
    "37 flush-to-zero set by others": (
        "test_process.py",
        "test_floating_point_state_is_left_alone",
    ),
    "45 coupled and decoupled decay": ("test_optim_lectures.py", "test_decoupled_decay_is_another"),
    "46 AMSGrad": ("test_optim_groups.py", "test_amsgrad_never_forgets"),
    "54 masks on any threads": ("test_random.py", "test_mask_does_not_depend_on_threads"),
    "54 masks after resuming": ("test_checkpoint.py", "test_resuming_inside_an_epoch"),
    "55 keep rate": ("test_random.py", "test_keep_rate"),
    "57 primes and empty products": ("test_gemm.py", "test_an_empty_product_is_the_bias"),
    "59 more axes than there may be": ("test_arrays.py", "test_nine_axes_are_refused"),
    "65 dtypes": ("test_arrays.py", "test_what_has_no_numbers_is_refused"),
    "71 NaN in X": ("test_trainer_errors.py", "BAD_DATA"),
    "72 shapes of y": ("test_trainer_errors.py", '"label shape"'),
    "73 ragged last batch": ("test_trainer.py", "test_means_are_over_samples_not_batches"),
    "80 divergence": ("test_trainer_errors.py", "test_a_loss_that_is_not_finite_leaves"),
}


@pytest.mark.parametrize("item", ELSEWHERE)
def test_the_catalogue_names_tests_that_exist(item):
    file, text = ELSEWHERE[item]
    assert text in (Path(__file__).parent / file).read_text()


def test_items_of_these_families_have_a_case():
    """1 to 57, but for those elsewhere, each in an id or a name of tests/test_adversarial*.py."""
    text = "".join(p.read_text() for p in Path(__file__).parent.glob("test_adversarial*.py"))
    found = {int(n) for n in re.findall(r'"(\d+) \w', text)}
    for name in re.findall(r"def test_((?:\d+_)+)", text):
        found |= {int(n) for n in name.strip("_").split("_")}
    assert set(range(1, 58)) - found == set()


# ---- 61 to 64: every op, arrays of every layout --------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.short)
def test_61_to_64_every_op_reads_every_layout(op, layout):
    """The same bits as from aligned memory, and nothing of the caller's is written."""
    shapes, params = op.cases[-1]
    inputs = op.draw(op.generator(), shapes, "float32")
    arrays = [
        None if x is None else x if x.dtype.kind in "iu" else x.astype(np.float32) for x in inputs
    ]
    fn.manual_seed(0)
    tensors = [None if t is None else t.detach() for t in harness.to_tensors(op, inputs, "float32")]
    expected = np.array(op.call(*tensors, **params))
    laid = [None if x is None else LAYOUTS[layout](x) for x in arrays]
    before = [None if x is None else np.array(x) for x in laid]
    fn.manual_seed(0)
    assert_bitwise_equal(np.array(op.call(*laid, **params)), expected)
    for x, old in zip(laid, before, strict=True):
        if x is not None:
            assert_bitwise_equal(np.array(x), old)


# ---- dropout -------------------------------------------------------------------------------------

SHAPE = (3, 4, 5, 7)
SPECIAL = np.resize(np.float32([1, -0.0, TINY, MAX, -MAX, INF, -INF, NAN]), SHAPE)
NOISES = {
    "dropout": F.dropout,
    "dropout1d": lambda x, p: F.dropout1d(x.reshape(12, 5, 7), p).reshape(*SHAPE),
    "dropout2d": F.dropout2d,
    "alpha_dropout": F.alpha_dropout,
    "gaussian_dropout": F.gaussian_dropout,
    "poisson_dropout": F.poisson_dropout,
    "stochastic_depth": lambda x, p: F.stochastic_depth(x, p, "row"),
    "stochastic_depth of batches": lambda x, p: F.stochastic_depth(x, p, "batch"),
}
MASKS = [name for name in NOISES if name not in ("gaussian_dropout", "poisson_dropout")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NOISES)
def test_52_p_0_is_the_identity_bit_by_bit(name, dtype):
    x = fn.tensor(SPECIAL, dtype, requires_grad=True)
    y = NOISES[name](x, 0.0)
    assert_bitwise_equal(np.array(y.detach()), np.array(x.detach()))
    y.backward(fn.ones(*SHAPE).to(dtype))
    assert_bitwise_equal(np.array(x.grad), np.ones(SHAPE, np.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MASKS)
def test_52_53_p_1_is_0_whatever_was_dropped(name, dtype):
    """No 0 * inf: also where infinities and NaN are dropped, and in the gradient."""
    x = fn.tensor(SPECIAL, dtype, requires_grad=True)
    y = NOISES[name](x, 1.0)
    assert_bitwise_equal(np.array(y.detach()), np.zeros(SHAPE, np.float32))
    y.backward(fn.tensor(np.nan_to_num(SPECIAL, nan=INF), dtype))
    assert_bitwise_equal(np.array(x.grad), np.zeros(SHAPE, np.float32))


@pytest.mark.parametrize("p", [-0.1, 1.5, NAN, INF, -INF])
@pytest.mark.parametrize("name", NOISES)
def test_52_p_out_of_range(name, p):
    op = name.partition(" ")[0]
    rule = {
        "gaussian_dropout": "0 <= p < 1",
        "poisson_dropout": "p = 0 or 2^-16 <= p < 1",
    }.get(op, "0 <= p <= 1")
    x = fn.zeros(*SHAPE)
    check_wrong(Wrong(lambda: NOISES[name](x, p), ValueError, f"{op}: expected {rule}, got {p}"))


@pytest.mark.parametrize("name", MASKS)
def test_53_what_is_dropped_is_0_and_what_is_kept_is_not(name):
    """Of infinities only, dropped ones are 0 (alpha's value), never NaN; in the gradient too."""
    x = fn.tensor(np.full(SHAPE, INF, np.float32), requires_grad=True)
    fn.manual_seed(1)
    y = NOISES[name](x, 0.5)
    values = np.array(y.detach())
    assert not np.isnan(values).any()
    y.sum().backward()
    grads = np.array(x.grad)
    assert ((grads == 0) == np.isfinite(values)).all()


@pytest.mark.parametrize("p", [2.0**-18, 1e-30])
def test_52_a_p_below_the_grid_of_the_lanes_drops_nothing(p):
    x = np.ones(100_000, np.float32)
    assert_bitwise_equal(np.array(F.dropout(x, p)), x)


def test_52_drop_connect_at_its_ends():
    x, w = np.float32([[1, INF, 2]]), np.full((2, 3), NAN, np.float32)
    bias = np.float32([3, -1])
    assert F.drop_connect(np.float32([[1, 4, 2]]), w, bias, 1.0).numpy().tolist() == [[3, -1]]
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = np.array(F.linear(x, w, bias))
    assert_bitwise_equal(np.array(F.drop_connect(x, w, bias, 0.0)), expected)


# ---- pooling -------------------------------------------------------------------------------------


def pool(function, *args, **params):
    return lambda x, repeat: function(x, *args, **params)


PLANE = [[[1.0, 2.0], [3.0, 4.0]]]
POOL = {
    "bound max pooling of negative numbers with padding": Case(
        pool(F.max_pool2d, 2, 1, 1), -np.ones((1, 2, 2)) * 5, -np.ones((1, 3, 3)) * 5
    ),
    "bound the first of equal elements gets the gradient": Case(
        pool(F.max_pool2d, 2), np.full((1, 2, 2), 3.0), [[[3]]], [[[1, 0], [0, 0]]]
    ),
    "bound NaN is the largest": Case(
        pool(F.max_pool2d, 2), [[[1.0, NAN], [INF, 2.0]]], [[[NAN]]], [[[0, 1], [0, 0]]]
    ),
    "bound max pooling of -inf": Case(
        pool(F.max_pool2d, 2), np.full((1, 2, 2), -INF), [[[-INF]]], [[[1, 0], [0, 0]]]
    ),
    "bound zeros of both signs are equal": Case(
        pool(F.max_pool1d, 2), [[-0.0, 0.0]], [[-0.0]], [[1, 0]]
    ),
    "bound overlapping windows add their gradients": Case(
        pool(F.max_pool1d, 2, 1), [[1.0, 5.0, 2.0]], [[5, 5]], [[0, 2, 0]]
    ),
    "bound a mean of the largest floats": Case(
        pool(F.avg_pool2d, 2), np.full((1, 2, 2), MAX), [[[MAX]]], np.full((1, 2, 2), 0.25)
    ),
    "bound a mean that cancels": Case(
        pool(F.avg_pool2d, 2), [[[MAX, -MAX], [1.0, 3.0]]], [[[1]]], np.full((1, 2, 2), 0.25)
    ),
    "bound a mean of subnormals": Case(
        pool(F.avg_pool1d, 2), [[TINY * 2, TINY * 4]], [[TINY * 3]], dtypes=("float32",)
    ),
    "bound a mean with infinities": Case(
        pool(F.avg_pool1d, 2), [[INF, -INF, INF, 1.0]], [[NAN, INF]]
    ),
    "bound padding counts": Case(
        pool(F.avg_pool2d, 2, 1, 1), PLANE, [[[0.25, 0.75, 0.5], [1, 2.5, 1.5], [0.75, 1.75, 1]]]
    ),
    "bound padding does not count": Case(
        pool(F.avg_pool2d, 2, 1, 1, count_include_pad=False),
        PLANE,
        [[[1, 1.5, 2], [2, 2.5, 3], [3, 3.5, 4]]],
    ),
    "bound a negative divisor": Case(
        pool(F.avg_pool2d, 2, divisor_override=-2), PLANE, [[[-5]]], np.full((1, 2, 2), -0.5)
    ),
    "bound adaptive pooling to more than there is": Case(
        pool(F.adaptive_avg_pool2d, (1, 4)), [[[2.0, 6.0]]], [[[2, 2, 6, 6]]], [[[2, 2]]]
    ),
    "bound adaptive maxima to more than there is": Case(
        pool(F.adaptive_max_pool2d, (1, 4)), [[[2.0, 6.0]]], [[[2, 2, 6, 6]]], [[[2, 2]]]
    ),
    "56 adaptive pooling to nothing": Case(
        pool(F.adaptive_avg_pool2d, 0), PLANE, np.zeros((1, 0, 0)), np.zeros((1, 2, 2))
    ),
    "56 pooling an empty batch": Case(
        pool(F.max_pool2d, 2), np.zeros((0, 3, 4, 4)), np.zeros((0, 3, 2, 2))
    ),
}


@pytest.mark.parametrize(("case", "way"), parameters(POOL))
def test_pooling(case, way):
    check(case, way)


# ---- penalties -----------------------------------------------------------------------------------


def penalty(function, *args):
    return lambda x, repeat: function(x, *args)


PENALTIES = {
    "bound l1 of the largest floats": Case(
        penalty(F.l1_penalty, 0.5), [MAX, -MAX / 2], 0.75 * MAX, [0.5, -0.5], whole=True
    ),
    "bound l1 at 0 has slope 0": Case(
        penalty(F.l1_penalty, 3.0), [0.0, -0.0], 0.0, [0, 0], whole=True
    ),
    "bound l1 of a subnormal": Case(
        penalty(F.l1_penalty, 1.0),
        [TINY, -TINY],
        2 * TINY,
        [1, -1],
        whole=True,
        dtypes=("float32",),
    ),
    "bound l1 of NaN": Case(penalty(F.l1_penalty, 1.0), [NAN, 1.0], NAN, [NAN, 1], whole=True),
    "bound l2 whose squares overflow float32, times a small factor": Case(
        penalty(F.l2_penalty, 2.0**-80),
        [2.0**80, -(2.0**70)],
        lambda x: 2.0**-80 * (x**2).sum(),
        lambda x: 2.0**-79 * x,
        ulps=2,
        whole=True,
    ),
    "bound l2 of the smallest": Case(
        penalty(F.l2_penalty, 1.0), [TINY], 0.0, [2 * TINY], whole=True, dtypes=("float32",)
    ),
    "bound a factor of 0": Case(penalty(F.l2_penalty, 0.0), [MAX, 1.0], 0.0, [0, 0], whole=True),
}


@pytest.mark.parametrize(("case", "way"), parameters(PENALTIES))
def test_penalties(case, way):
    check(case, way)


REFUSED = {
    "bound l1 with a negative factor": Wrong(
        lambda: F.l1_penalty(np.ones(2, np.float32), -1.0),
        ValueError,
        "l1_penalty: expected a finite lam >= 0, got -1.0",
    ),
    "bound l2 with a factor of NaN": Wrong(
        lambda: F.l2_penalty(np.ones(2, np.float32), NAN),
        ValueError,
        "l2_penalty: expected a finite lam >= 0, got nan",
    ),
    "58 2^44 elements": Wrong(
        lambda: fn.zeros(2**22, 2**22), ValueError, "shape: expected fewer than 2^44 elements"
    ),
    "58 a product that overflows int64": Wrong(
        lambda: fn.zeros(2**62, 4), ValueError, "shape: expected fewer than 2^44 elements"
    ),
    "58 a product that overflows to 0": Wrong(
        lambda: fn.zeros(2**32, 2**32), ValueError, "shape: expected fewer than 2^44 elements"
    ),
    "58 one_hot of 2^32 classes for each of many": Wrong(
        lambda: F.one_hot(np.zeros(2**13, np.int64), 2**32),
        MemoryError,
        "allocate: expected at most 2^46 bytes, got 281474976710656",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    check_wrong(REFUSED[case])


# ---- embedding -----------------------------------------------------------------------------------

INDICES = {"-1": -1, "rows": 3, "INT64_MAX": 2**63 - 1, "INT64_MIN": -(2**63), "2^32": 2**32}
TABLE = np.float32([[1, -0.0], [INF, TINY], [NAN, MAX]])


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize("at", [0, 4])
def test_9_an_index_out_of_range(index, at):
    indices = np.ones(5, np.int64)
    indices[at] = index
    message = f"expected 0 <= input < 3, got {index} at input[{at}]"
    check_wrong(Wrong(lambda: F.embedding(indices, TABLE), ValueError, f"embedding: {message}"))
    check_wrong(Wrong(lambda: F.one_hot(indices, 3), ValueError, f"one_hot: {message}"))


@pytest.mark.parametrize("index", [-1, -(2**63)])
def test_9_a_negative_index_is_named_where_classes_are_counted(index):
    message = f"one_hot: expected 0 <= input < 2, got {index} at input[1]"
    check_wrong(Wrong(lambda: F.one_hot([1, index]), ValueError, message))
    message = f"one_hot: expected 0 <= input < 1, got {index} at input[0]"
    check_wrong(Wrong(lambda: F.one_hot([index]), ValueError, message))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 3])
def test_bound_rows_are_copied_bit_by_bit(dtype, threads):
    fn.set_num_threads(threads)
    indices = np.resize([2, 0, 1, 1], 40_001)
    table = fn.tensor(TABLE, dtype, requires_grad=True)
    y = F.embedding(indices, table)
    assert_bitwise_equal(np.array(y.detach()), np.array(table.detach())[indices])
    y.sum().backward()
    counts = fn.tensor(np.bincount(indices).astype(np.float32), dtype).numpy()
    assert_bitwise_equal(np.array(table.grad), np.repeat(np.array(counts)[:, None], 2, axis=1))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)], ids=str)
def test_56_no_indices(shape):
    table = fn.tensor(TABLE, requires_grad=True)
    y = F.embedding(np.zeros(shape, np.int64), table)
    assert y.shape == (*shape, 2)
    y.sum().backward()
    assert np.array(table.grad).tolist() == [[0, 0]] * 3


# ---- 56: nothing, through every layer ------------------------------------------------------------

EMPTY = {
    "Linear": (lambda: nn.Linear(4, 3), (0, 4)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (0, 4)),
    "RMSNorm": (lambda: nn.RMSNorm(4), (0, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (0, 4)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), (0, 4)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), (0, 4, 2, 2)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(4), (0, 4, 5)),
    "Dropout": (nn.Dropout, (0, 4)),
    "AlphaDropout": (nn.AlphaDropout, (0, 4)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (0, 3, 4, 4)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (0, 3, 4, 4)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(1), (0, 3, 4, 4)),
    "Softmax": (nn.Softmax, (0, 4)),
    "GELU": (nn.GELU, (0, 4)),
    "PReLU": (nn.PReLU, (0, 4)),
    "Maxout": (lambda: nn.Maxout(4, 3), (0, 4)),
    "Hardtanh": (nn.Hardtanh, (0, 4)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_56_an_empty_batch_through_every_layer(name):
    """Forward, and backward with gradients of 0."""
    make, shape = EMPTY[name]
    layer = make()
    x = fn.zeros(*shape)
    x.requires_grad = True
    y = layer(x)
    assert y.shape[0] == 0
    y.sum().backward()
    assert x.grad.shape == shape
    for p in layer.parameters():
        assert (np.array(p.grad) == 0).all()
