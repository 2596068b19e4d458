"""Convolutions: bit-exact on integers over thousands of shapes, 16 u on hard numbers; layers."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn import nn
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within
from fastnn.testing.reference import conv as reference


def integers(rng, *shape):
    """Integers of few bits: every partial sum is a float32, whatever the order."""
    return rng.integers(-8, 9, shape).astype(np.float32)


def pick(rng, *choices):
    return choices[rng.integers(len(choices))]


def configuration(rng, transposed):
    """Shapes of x and w, and options, such that there is an output."""
    while True:
        groups = pick(rng, 1, 1, 1, 2, 3)
        kernel = rng.integers(1, 6, 2)
        if rng.random() < 0.2:
            kernel[rng.integers(2)] = 1
        stride, dilation = rng.integers(1, 5, 2), rng.integers(1, 4, 2)
        padding, size = rng.integers(0, 4, 2), rng.integers(1, 20, 2)
        if rng.random() < 0.2:
            size[1] += pick(rng, 16, 32, 64, 70)
        channels, filters = groups * rng.integers(1, 5), groups * pick(rng, 1, 2, 3, 6, 7, 13, 30)
        reach = dilation * (kernel - 1) + 1
        options = {
            "stride": tuple(stride.tolist()),
            "padding": tuple(padding.tolist()),
            "dilation": tuple(dilation.tolist()),
            "groups": groups,
        }
        outer, inner = (channels, filters) if not transposed else (filters, channels)
        w = (inner, outer // groups, *kernel.tolist())
        batch = int(rng.integers(0, 4)) + pick(rng, 0, 0, 0, 0, 14, 31)
        x = (batch, channels, *size.tolist())
        if transposed:
            extra = [int(rng.integers(0, max(a, b))) for a, b in zip(stride, dilation, strict=True)]
            options["output_padding"] = tuple(extra)
            out = (size - 1) * stride - 2 * padding + reach + extra
        else:
            out = size + 2 * padding - reach + 1
        if (out > 0).all():
            return x, w, options


def check_exactly(op, oracle, x_shape, w_shape, options, rng):
    x, w = integers(rng, *x_shape), integers(rng, *w_shape)
    transposed = op is F.conv_transpose2d
    filters = w_shape[1] * options["groups"] if transposed else w_shape[0]
    b = integers(rng, filters) if rng.random() < 0.5 else None
    activation = "relu" if rng.random() < 0.3 else None
    leaves = [None if v is None else fn.tensor(v, requires_grad=True) for v in (x, w, b)]
    y = op(*leaves, activation=activation, **options)
    dy = integers(rng, *y.shape)
    y.backward(dy)
    wide = [None if v is None else v.astype(np.float64) for v in (x, w, b)]
    forward, vjp = oracle
    expected = [forward(*wide, activation=activation, **options)]
    expected += vjp(dy.astype(np.float64), *wide, activation=activation, **options)
    got = [y.detach(), *(None if t is None else t.grad for t in leaves)]
    for i, (a, e) in enumerate(zip(got, expected, strict=True)):
        if e is not None:
            where = f"{op.__name__} result {i}: x {x_shape}, w {w_shape}, {options}"
            assert_bitwise_equal(np.array(a) + np.float32(0), np.float32(e) + np.float32(0), where)


def line(x, w, options):
    """The configuration's last axis alone."""
    first = {k: v if k == "groups" else v[1] for k, v in options.items()}
    return x[:2] + x[3:], w[:2] + w[3:], first


@pytest.mark.parametrize("seed", range(8))
def test_integers_are_exact(seed):
    """8 (130 + 50 + 80) configurations."""
    rng = np.random.default_rng(seed)
    fn.set_num_threads(1 + seed % 3)
    for _ in range(130):
        x, w, options = configuration(rng, False)
        check_exactly(F.conv2d, (reference.conv, reference.conv_vjp), x, w, options, rng)
    for _ in range(50):
        x, w, options = line(*configuration(rng, False))
        check_exactly(F.conv1d, (reference.conv, reference.conv_vjp), x, w, options, rng)
    for _ in range(80):
        x, w, options = configuration(rng, True)
        oracle = (reference.conv_transpose2d, reference.conv_transpose2d_vjp)
        check_exactly(F.conv_transpose2d, oracle, x, w, options, rng)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((2, 3, 40, 37), (5, 3, 3, 3), {"padding": 1}),  # a span is a part of an image
        ((40, 2, 3, 3), (3, 2, 3, 3), {"padding": 1}),  # many images are one
        ((33, 6, 14, 14), (16, 6, 5, 5), {}),  # images in the lanes
        ((16, 9, 6, 11), (7, 9, 4, 5), {"padding": (6, 9), "dilation": (1, 3)}),  # taps see none
        ((2, 24, 19, 17), (64, 24, 5, 3), {"padding": (3, 1)}),  # rows of lanes see fewer taps
        ((2, 24, 21, 40), (64, 24, 3, 3), {"padding": (4, 1), "dilation": (3, 1), "stride": 2}),
        ((1, 33, 3, 30), (64, 33, 3, 1), {"padding": (5, 0)}),  # or none
        ((1, 70, 60, 60), (4, 70, 3, 3), {}),  # bands of an image
        ((3, 9, 23, 20), (64, 9, 3, 3), {"padding": 1}),  # of which the last has fewer rows
        ((3, 5, 9, 56), (5, 1, 3, 3), {"padding": 1, "groups": 5}),  # rows share what they read
        ((3, 4, 11, 67), (8, 1, 3, 3), {"padding": (1, 3), "dilation": (1, 2), "groups": 4}),
        ((2, 3, 1, 21), (3, 1, 3, 3), {"padding": (2, 0), "groups": 3}),
        ((5, 3, 15, 16), (3, 1, 3, 3), {"padding": 1, "groups": 3}),  # of their gradients, images
        ((3, 2, 6, 1040), (2, 1, 3, 3), {"padding": 1, "groups": 2}),  # or parts of rows
        ((2, 2, 9, 31), (2, 1, 3, 3), {"padding": (4, 8), "dilation": (1, 3), "groups": 2}),
        ((2, 2, 7, 20), (4, 1, 3, 3), {"padding": (5, 17), "groups": 2}),  # vectors of padding
        ((3, 5, 9, 56), (5, 1, 5, 5), {"padding": 2, "groups": 5}),  # strips of whole rows
        ((3, 4, 9, 67), (8, 1, 5, 5), {"padding": 2, "groups": 4}),  # strips of parts of them
        ((35, 4, 13, 9), (12, 1, 3, 3), {"padding": 1, "groups": 4}),  # the same, images in lanes
        ((2, 3, 8, 8), (0, 3, 3, 3), {"padding": 1}),
        ((2, 3, 8, 0), (2, 3, 3, 3), {"padding": 2}),
        ((2, 3, 5, 1), (2, 3, 1, 1), {"stride": 3}),  # phases without outputs
        ((1, 2, 5, 2000), (3, 2, 3, 3), {"stride": (1, 2)}),
        ((2, 200, 4, 4), (70, 200, 3, 3), {"padding": 1}),  # rows of k in parts
        ((3, 40, 9, 8), (150, 40, 3, 3), {"padding": 2}),  # panels of filters
        ((2, 64, 7, 5), (96, 32, 3, 3), {"stride": 2, "groups": 2}),
    ],
)
def test_integers_are_exact_at_the_cuts(x, w, options, threads):
    """With all tasks on one thread, too, where what one leaves in scratch meets the next."""
    rng = np.random.default_rng(0)
    fn.set_num_threads(threads)
    options = {"groups": 1, **options}
    check_exactly(F.conv2d, (reference.conv, reference.conv_vjp), x, w, options, rng)


def normal(rng, *shape):
    return rng.standard_normal(shape)


def positive(rng, *shape):
    return rng.random(shape)


def log_normal(rng, *shape):
    return np.exp(6 * rng.standard_normal(shape)) * rng.choice([-1, 1], shape)


def cancelling(rng, *shape):
    return 1e3 * (1 - 2 * (np.indices(shape).sum(axis=0) % 2)) + rng.standard_normal(shape)


@pytest.mark.parametrize("draw", [normal, positive, log_normal, cancelling])
@pytest.mark.parametrize(
    ("x", "w"),
    [
        ((2, 300, 6, 7), (5, 300, 3, 3)),
        ((30, 3, 20, 20), (4, 3, 3, 3)),
        ((1, 2, 90, 90), (4, 2, 5, 5)),
        ((3, 80, 12, 12), (40, 80, 3, 3)),
    ],
)
def test_error_is_within_16_u(draw, x, w):
    rng = np.random.default_rng(3)
    x, w = (draw(rng, *s).astype(np.float32) for s in (x, w))
    leaves = [fn.tensor(v, requires_grad=True) for v in (x, w)]
    y = F.conv2d(*leaves, padding=1)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    y.backward(dy)
    wide = [v.astype(np.float64) for v in (x, w)]
    oracle = [reference.conv(*wide, padding=1), *reference.conv_vjp(dy, *wide, padding=1)[:2]]
    sizes = [np.abs(v) for v in wide]
    bounds = [reference.conv(*sizes, padding=1)]
    bounds += reference.conv_vjp(np.abs(dy).astype(np.float64), *sizes, padding=1)[:2]
    got = [y.detach(), *(t.grad for t in leaves)]
    for a, e, bound in zip(got, oracle, bounds, strict=True):
        assert_within(np.array(a), e, 16 * U * bound)


def test_an_image_does_not_depend_on_its_batch():
    rng = np.random.default_rng(4)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((19, 3, 12, 11), (7, 3, 3, 3)))
    whole = np.array(F.conv2d(x, w, padding=1))
    order = rng.permutation(19)
    assert_bitwise_equal(np.array(F.conv2d(x[order], w, padding=1)), whole[order])
    assert_bitwise_equal(np.array(F.conv2d(x[4], w, padding=1)), whole[4])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("width", [5, 20])
@pytest.mark.parametrize(
    ("kernel", "options"), [((3, 2, 2, 3), {}), ((2, 1, 3, 3), {"padding": 1, "groups": 2})]
)
def test_special_values_stay_where_windows_see_them(value, width, kernel, options):
    """And in the gradients, where zeros fill vectors up: 0 times infinity must not appear."""
    rng = np.random.default_rng(5)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((2, 2, 9, width), kernel))
    x[1, 0, 8, width - 1] = value
    for stride in (1, 2):
        leaves = [fn.tensor(v, requires_grad=True) for v in (x, w)]
        y = F.conv2d(*leaves, stride=stride, **options)
        dy = rng.standard_normal(y.shape).astype(np.float32)
        y.backward(dy)
        wide = [v.astype(np.float64) for v in (x, w)]
        with np.errstate(invalid="ignore"):
            oracle = [reference.conv(*wide, stride=stride, **options)]
            vjp = reference.conv_vjp(dy.astype(np.float64), *wide, stride=stride, **options)
            oracle += vjp[:2]
        got = [y.detach(), *(t.grad for t in leaves)]
        for a, e in zip(got, oracle, strict=True):
            np.testing.assert_array_equal(np.isfinite(np.array(a)), np.isfinite(e))


def test_groups_are_independent_convolutions():
    """LAY-4: groups=2 is two convolutions on halves of the channels."""
    rng = np.random.default_rng(6)
    x, w, b = (
        rng.standard_normal(s).astype(np.float32) for s in ((3, 6, 8, 9), (4, 3, 3, 3), (4,))
    )
    whole = np.array(F.conv2d(x, w, b, groups=2))
    for g in (0, 1):
        half = F.conv2d(x[:, 3 * g : 3 * g + 3], w[2 * g : 2 * g + 2], b[2 * g : 2 * g + 2])
        assert_bitwise_equal(np.array(half), whole[:, 2 * g : 2 * g + 2])


def test_a_line_is_an_image_of_height_1():
    rng = np.random.default_rng(7)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((3, 4, 30), (5, 4, 3)))
    line = F.conv1d(x, w, stride=2, padding=1, dilation=2)
    image = F.conv2d(x[:, :, None], w[:, :, None], stride=2, padding=(0, 1), dilation=2)
    assert_bitwise_equal(np.array(line), np.array(image)[:, :, 0])


def test_transposed_is_the_gradient_of_the_input():
    rng = np.random.default_rng(8)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((2, 3, 11, 10), (4, 3, 3, 3)))
    options = {"stride": 2, "padding": 1}
    leaf = fn.tensor(x, requires_grad=True)
    y = F.conv2d(leaf, w, **options)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    y.backward(dy)
    back = F.conv_transpose2d(dy, w, output_padding=(0, 1), **options)
    assert_bitwise_equal(np.array(back), np.array(leaf.grad))


def test_a_recorded_step_gives_the_same_bits():
    rng = np.random.default_rng(9)
    fn.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.GELU(), nn.Conv2d(5, 3, 3, stride=2))

    def step(x):
        for p in model.parameters():
            p.grad = None
        y = model(x).mean()
        y.backward()
        return [y.detach(), *(p.grad for p in model.parameters())]

    captured = fn.capture(step)
    for _ in range(3):
        x = rng.standard_normal((4, 2, 9, 9)).astype(np.float32)
        expected = [np.array(v) for v in step(x)]
        for got, e in zip(captured(x), expected, strict=True):
            assert_bitwise_equal(np.array(got), e)


# ---- layers --------------------------------------------------------------------------------------


def layers():
    return [
        (nn.Conv1d(4, 6, 3, 2, 1, groups=2), (3, 4, 12)),
        (nn.Conv2d(4, 6, (3, 2), padding=1, bias=False), (3, 4, 7, 8)),
        (nn.Conv2d(4, 6, 3, padding="same", dilation=2), (3, 4, 7, 8)),
        (nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2), (3, 4, 7, 8)),
    ]


@pytest.mark.parametrize(("layer", "shape"), layers(), ids=lambda v: str(v))
def test_layers_are_their_functions_and_fuse_an_activation(layer, shape):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    if isinstance(layer, nn.ConvTranspose2d):
        y = F.conv_transpose2d(x, layer.weight, layer.bias, 2, 1, 1, 2)
    else:
        function = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
        window = (layer.stride, layer.padding, layer.dilation, layer.groups)
        y = function(x, layer.weight, layer.bias, *window)
    assert_bitwise_equal(np.array(layer(x).detach()), np.array(y.detach()))
    calls = []
    forward = layer.forward
    layer.forward = lambda *a, **k: calls.append(k) or forward(*a, **k)
    fused = np.array(nn.Sequential(layer, nn.ReLU())(x).detach())
    assert calls == [{"activation": ("relu", 0.0)}] or "activation" in calls[0]
    assert_bitwise_equal(fused, np.array(F.relu(y.detach())))


def test_state_and_names_are_those_of_torch():
    layer = nn.ConvTranspose2d(4, 6, (3, 2), groups=2)
    assert {k: v.shape for k, v in layer.state_dict().items()} == {
        "weight": (4, 3, 3, 2),
        "bias": (6,),
    }
    assert {k: v.shape for k, v in nn.Conv1d(4, 6, 5, bias=False).state_dict().items()} == {
        "weight": (6, 4, 5)
    }
    assert repr(nn.Conv2d(3, 6, 5)) == "Conv2d(3, 6, kernel_size=(5, 5), stride=(1, 1))"
    assert repr(nn.Conv2d(4, 6, 3, 2, "valid", 2, 2, False)) == (
        "Conv2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding=valid, dilation=(2, 2), groups=2, "
        "bias=False)"
    )
    assert repr(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1)) == (
        "ConvTranspose2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), "
        "output_padding=(1, 1))"
    )


def test_weights_are_drawn_within_the_bound_of_their_fan():
    weight = np.array(nn.Conv2d(30, 40, 3).weight.detach())
    bound = 1 / np.sqrt(30 * 9)
    assert np.abs(weight).max() <= bound
    # The mean of n uniform squares l^2 / 3 has standard deviation l^2 sqrt(4 / 45 / n).
    assert abs((weight**2).mean() - bound**2 / 3) < 6 * bound**2 * np.sqrt(4 / 45 / weight.size)


WRONG = [
    (lambda: nn.Conv2d(3, 6, 5, padding_mode="reflect"),
     "Conv2d: expected padding_mode 'zeros', got 'reflect'"),
    (lambda: nn.Conv2d(3, 6, 5, groups=2),
     "Conv2d: expected in_channels > 0 divisible by groups, got 3 and groups=2"),
    (lambda: nn.ConvTranspose2d(4, 7, 5, groups=2),
     "ConvTranspose2d: expected out_channels > 0 divisible by groups, got 7 and groups=2"),
    (lambda: nn.Conv1d(3, 6, 0), "Conv1d: expected kernel_size > 0, got 0"),
    (lambda: nn.Conv1d(3, 6, (1, 2)),
     "Conv1d: expected kernel_size to be 1 numbers or one, got (1, 2)"),
    (lambda: nn.utils.fold_bn(nn.Conv2d(3, 6, 5), nn.BatchNorm1d(6)),
     "fold_bn: expected BatchNorm2d(6) to fit Conv2d(3, 6), got BatchNorm1d"),
    (lambda: nn.utils.fold_bn(nn.Conv1d(3, 6, 5), nn.BatchNorm1d(3)),
     "fold_bn: expected BatchNorm1d(6) to fit Conv1d(3, 6), got 3 features"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_layers_say_what_they_expect(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(("layer", "shape"), layers(), ids=lambda v: str(v))
def test_folding_a_batch_norm_changes_nothing_in_evaluation(layer, shape):
    rng = np.random.default_rng(2)
    bn = nn.BatchNorm1d(6) if len(shape) == 3 else nn.BatchNorm2d(6)
    bn.weight.copy_(rng.standard_normal(6).astype(np.float32))
    bn.bias.copy_(rng.standard_normal(6).astype(np.float32))
    for _ in range(3):
        bn(layer(rng.standard_normal(shape).astype(np.float32)))
    folded = nn.utils.fold_bn(layer, bn)
    x = rng.standard_normal(shape).astype(np.float32)
    expected = np.array(bn.eval()(layer(x)).detach(), np.float64)
    assert_within(np.array(folded(x).detach()), expected, 1e-5)
    assert repr(folded).replace(", bias=False", "") == repr(layer).replace(", bias=False", "")


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ((6, 1, 5, 5), 8),
        ((16, 6, 3, 3), 8),
        ((16, 16, 3, 3), 8),
        ((48, 16, 3, 3), 20),
        ((6, 1, 3, 3), 20),
    ],
)
def test_a_weight_that_is_not_finite_meets_the_padding_on_every_path(shape, side):
    """Zero times infinity is NaN there, whether lanes are images, filters or positions."""
    r = np.random.default_rng(9)  # whole numbers: sums are exact in any order
    w = r.integers(-3, 4, shape).astype(np.float32)
    w[0, 0, 0, 0] = np.inf
    x = r.integers(-3, 4, (64, shape[1], side, side)).astype(np.float32)
    alone = F.conv2d(x[:1], w, padding=shape[-1] // 2).numpy()
    assert np.isnan(alone[0, 0, 0]).all()
    assert np.isfinite(alone[0, 1:]).all()
    for batch in (8, 16, 64):
        y = F.conv2d(x[:batch], w, padding=shape[-1] // 2).numpy()
        np.testing.assert_array_equal(y[0], alone[0])
