"""Norms beyond the op table: running statistics (the running_stats kernel), capture, hard channels,
fusion in Sequential, folding, and what batch norm does to a badly initialised network."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn import nn
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within
from fastnn.testing.reference import norm as reference
from fastnn.train import sizes, spec

RNG = np.random.default_rng(0)
KEYS = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def normal(*shape, scale=1.0, offset=0.0):
    return (offset + scale * RNG.standard_normal(shape)).astype(np.float32)


def values(*tensors):
    return [np.array(t.detach()) for t in tensors]


LAYERS = {
    "columns": (lambda **k: nn.BatchNorm1d(5, **k), (9, 5)),
    "planes": (lambda **k: nn.BatchNorm1d(5, **k), (4, 5, 3)),
    "images": (lambda **k: nn.BatchNorm2d(5, **k), (3, 5, 4, 2)),
}


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
@pytest.mark.parametrize("name", LAYERS)
def test_running_statistics_follow_the_definition(name, momentum):
    make, shape = LAYERS[name]
    layer = make(momentum=momentum)
    mean, var = np.zeros(5), np.ones(5)
    for step in range(1, 6):
        x = normal(*shape, scale=step, offset=3)
        layer(x)
        weight = 1 / step if momentum is None else momentum
        mean, var = reference.running_statistics(x.astype(np.float64), mean, var, weight)
        # One rounding to float32 a step, of which later ones keep a part.
        bound = 2 * step * U * np.maximum(np.abs(mean), var)
        assert_within(layer.running_mean.numpy(), mean, bound)
        assert_within(layer.running_var.numpy(), var, bound)
    assert layer.num_batches_tracked.item() == 5
    before = values(layer.running_mean, layer.running_var)
    y = layer.eval()(x)
    expected = reference.batch_norm(x.astype(np.float64), *(v.astype(np.float64) for v in before))
    assert_within(np.array(y.detach()), expected, 8 * U * np.maximum(1, np.abs(expected)))
    for got, old in zip(values(layer.running_mean, layer.running_var), before, strict=True):
        assert_bitwise_equal(got, old)
    assert layer.num_batches_tracked.item() == 5


def test_instance_norm_tracks_the_mean_of_its_samples():
    layer = nn.InstanceNorm1d(3, track_running_stats=True, affine=True)
    x = normal(4, 3, 7, offset=2)
    layer(x)
    wide = x.astype(np.float64)
    assert_within(layer.running_mean.numpy(), 0.1 * wide.mean(axis=(0, 2)), 2 * U)
    var = 0.9 + 0.1 * wide.var(axis=2, ddof=1).mean(axis=0)
    assert_within(layer.running_var.numpy(), var, 2 * U * var)
    y = layer.eval()(x)
    expected = F.batch_norm(x, layer.running_mean, layer.running_var)
    assert_bitwise_equal(np.array(y.detach()), expected.numpy())
    assert list(nn.InstanceNorm2d(3).state_dict()) == []


def test_state_dict_has_the_names_of_torch():
    assert list(nn.BatchNorm1d(2).state_dict()) == KEYS
    assert list(nn.BatchNorm2d(2, affine=False).state_dict()) == KEYS[2:]
    assert list(nn.BatchNorm2d(2, track_running_stats=False).state_dict()) == KEYS[:2]
    assert list(nn.GroupNorm(1, 2).state_dict()) == KEYS[:2]
    assert list(nn.RMSNorm(2).state_dict()) == KEYS[:1]
    layer = nn.BatchNorm1d(2)
    assert layer.num_batches_tracked.dtype == "int64"
    assert layer.num_batches_tracked.shape == ()
    assert nn.BatchNorm1d(2).to("bfloat16").running_mean.dtype == "float32"


def test_without_running_statistics_evaluation_uses_the_batch():
    layer = nn.BatchNorm1d(3, track_running_stats=False)
    x = normal(5, 3)
    trained = np.array(layer(x).detach())
    assert_bitwise_equal(np.array(layer.eval()(x).detach()), trained)


@pytest.mark.parametrize("name", LAYERS)
def test_captured_steps_are_those_of_eager(name):
    make, shape = LAYERS[name]
    batches = [normal(*shape, offset=i) for i in range(5)]
    results = []
    for capture in (False, True):
        layer = make(momentum=None)

        def step(x, layer=layer):
            for p in layer.parameters():
                p.grad = None
            y = layer(x, activation="gelu")
            (y * y).sum().backward()
            return y

        run = fn.capture(step) if capture else step
        results.append(
            [
                v
                for x in batches
                for v in values(
                    run(x),
                    layer.weight.grad,
                    layer.bias.grad,
                    *(getattr(layer, k) for k in KEYS[2:]),
                )
            ]
        )
    for eager, captured in zip(*results, strict=True):
        assert_bitwise_equal(captured, eager)


def test_nothing_is_updated_on_error():
    layer = nn.BatchNorm1d(3)
    for x in (normal(1, 3), normal(4, 2), normal(3)):
        with pytest.raises(ValueError, match="batch_norm"):
            layer(x)
    assert layer.num_batches_tracked.item() == 0
    assert_bitwise_equal(layer.running_mean.numpy(), np.zeros(3, np.float32))
    layer(np.zeros((0, 3), np.float32))  # no values: no statistics either
    assert layer.num_batches_tracked.item() == 0
    assert_bitwise_equal(layer.running_var.numpy(), np.ones(3, np.float32))


def test_an_empty_batch_has_gradients_of_zero():
    for shape in ((0, 3), (0, 3, 4)):
        x, w = fn.zeros(*shape), fn.ones(3)
        w.requires_grad = True
        F.batch_norm(x, weight=w, training=True).sum().backward()
        assert_bitwise_equal(w.grad.numpy(), np.zeros(3, np.float32))


def test_one_sample_is_enough_in_evaluation_and_with_several_positions():
    layer = nn.BatchNorm2d(2)
    assert np.isfinite(np.array(layer(normal(1, 2, 3, 3)).detach())).all()
    assert np.isfinite(np.array(nn.BatchNorm1d(2).eval()(normal(1, 2)).detach())).all()


@pytest.mark.parametrize("shape", [(12, 4), (3, 4, 5), (2, 4, 3, 7)])
def test_nan_in_one_channel_stays_there(shape):
    clean = normal(*shape)
    x = clean.copy()
    x[0, 1] = np.nan
    layer, untouched = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    call = lambda m, v: F.batch_norm(v, m.running_mean, m.running_var, training=True)  # noqa: E731
    got, expected = np.array(call(layer, x)), np.array(call(untouched, clean))
    others = [0, 2, 3]
    assert np.isnan(got[:, 1]).all()
    assert_bitwise_equal(got[:, others], expected[:, others])
    assert np.isnan(layer.running_var.numpy()[1])
    assert_bitwise_equal(layer.running_var.numpy()[others], untouched.running_var.numpy()[others])


def test_constant_channels_are_exactly_the_bias():
    for shape in ((9, 3), (2, 3, 33)):
        x = np.full(shape, 1e10, np.float32)
        y = F.batch_norm(x, bias=np.array([1, 2, 3], np.float32), training=True)
        expected = np.zeros(shape, np.float32) + np.array([1, 2, 3]).reshape(
            -1, *[1] * (x.ndim - 2)
        )
        assert_bitwise_equal(y.numpy(), expected.astype(np.float32))


def test_statistics_are_right_at_an_offset_of_1e8():
    for shape in ((500, 3), (5, 3, 10, 10)):
        x = (1e8 + 8 * RNG.integers(-20, 20, shape)).astype(np.float32)
        layer = nn.BatchNorm1d(3, momentum=1.0)
        F.batch_norm(x, layer.running_mean, layer.running_var, training=True, momentum=1.0)
        axes = (0, *range(2, len(shape)))
        var = x.astype(np.float64).var(axis=axes, ddof=1)
        assert_within(layer.running_var.numpy(), var, 2 * U * var)


def test_groups_have_the_other_norms_as_limits():
    x = normal(4, 6, 5)
    layer = np.array(F.layer_norm(x, (6, 5)))
    one = np.array(F.group_norm(x, 1))
    assert_within(one, layer.astype(np.float64), 4 * U * np.maximum(1, np.abs(layer)))
    assert_bitwise_equal(np.array(F.group_norm(x, 6)), np.array(F.instance_norm(x)))


def test_images_are_batches_of_pixels():
    x = normal(3, 4, 5, 6)
    rows = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(-1, 4)
    image = np.array(F.batch_norm(x, training=True)).transpose(0, 2, 3, 1).reshape(-1, 4)
    assert_within(image, np.array(F.batch_norm(rows, training=True), np.float64), 16 * U * 4)


def test_epsilon_of_rms_norm_is_that_of_the_dtype():
    x = normal(3, 5, scale=1e-4)
    for dtype, eps in (("float32", 2.0**-23), ("bfloat16", 2.0**-7)):
        t = fn.tensor(x, dtype)
        assert_bitwise_equal(np.array(F.rms_norm(t, 5)), np.array(F.rms_norm(t, 5, eps=eps)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(6), nn.GroupNorm(2, 6), nn.LayerNorm(6), nn.RMSNorm(6),
        nn.BatchNorm1d(6, affine=False),
    ],
    ids=repr,
)  # fmt: skip
def test_sequential_fuses_a_norm_with_its_activation(layer):
    x = fn.tensor(normal(7, 6), requires_grad=True)
    results = []
    for fused in (True, False):
        x.grad = None
        model = nn.Sequential(layer, nn.GELU())
        remove = (lambda: None) if fused else model[1].register_forward_hook(lambda m, a, y: None)
        y = model(x)
        y.backward(fn.ones(7, 6))
        results.append(values(y, x.grad))
        remove()
    for one, two in zip(*results, strict=True):
        assert_within(one, two.astype(np.float64), 64 * U * np.maximum(1, np.abs(two)))


def test_folding_changes_nothing_in_evaluation():
    for bias in (True, False):
        linear, bn = nn.Linear(7, 4, bias=bias), nn.BatchNorm1d(4)
        bn.weight.copy_(normal(4))
        bn.bias.copy_(normal(4))
        for _ in range(3):
            bn(linear(normal(20, 7, offset=1)))
        state = fn.random.get_state()
        folded = nn.utils.fold_bn(linear, bn)
        assert fn.random.get_state() == state
        x = normal(9, 7)
        expected = np.array(bn.eval()(linear(x)).detach(), np.float64)
        assert_within(np.array(folded(x).detach()), expected, 1e-5)


def test_folding_says_what_does_not_fit():
    with pytest.raises(ValueError, match="fold_bn: ") as caught:
        nn.utils.fold_bn(nn.Linear(2, 3), nn.BatchNorm1d(4))
    assert str(caught.value) == (
        "fold_bn: expected BatchNorm1d(3) to fit Linear(2, 3), got 4 features"
    )
    with pytest.raises(ValueError, match="fold_bn: ") as caught:
        nn.utils.fold_bn(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False))
    assert str(caught.value) == (
        "fold_bn: expected running statistics, got track_running_stats=False"
    )


def test_layers_say_what_they_expect():
    for layer, x, message in (
        (nn.BatchNorm1d(3), normal(2, 3, 4, 5),
         "batch_norm: expected input of shape (n, channels) or (n, channels, length), "
         "got (2, 3, 4, 5)"),
        (nn.BatchNorm2d(3), normal(2, 3),
         "batch_norm: expected input of shape (n, channels, height, width), got (2, 3)"),
        (nn.InstanceNorm1d(3), normal(2, 3),
         "instance_norm: expected input of shape (n, channels, length), got (2, 3)"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="norm: ") as caught:
            layer(x)
        assert str(caught.value) == message
    with pytest.raises(ValueError, match="GroupNorm") as caught:
        nn.GroupNorm(3, 4)
    assert str(caught.value) == (
        "GroupNorm: expected num_groups that divides the 4 channels, got 3"
    )


def test_norms_are_kept_in_checkpoints():
    model = nn.Sequential(
        nn.BatchNorm1d(4, momentum=None), nn.GroupNorm(2, 4, affine=False), nn.RMSNorm(4),
        nn.InstanceNorm2d(4, track_running_stats=True), nn.BatchNorm2d(4, affine=False),
    )  # fmt: skip
    described = spec.describe(model)
    again = spec.build(described)
    assert spec.describe(again) == described
    assert sizes.num_parameters(described) == sum(
        int(np.prod(v.shape)) for v in model.state_dict().values()
    )
