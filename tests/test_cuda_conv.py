"""Convolution on CUDA: the bits of the CPU whatever the tile, and what its rows do not reach."""

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import needs_cuda
from fastnn import nn

pytestmark = [
    pytest.mark.gpu,
    needs_cuda,
]
F = fn.functional
HAS_FMA = fn.system.info()["cpu"].startswith(("v3", "v4"))
# Input, weight, and the other arguments: filters of one tile and of more, in tiles of every size;
# sums of more than one chain; a plane to a block, and blocks to a plane.
SHAPES = (
    ((2, 3, 9, 11), (6, 3, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 40, 7, 9), (21, 40, 3, 3), {"dilation": 2, "padding": 2}),
    ((1, 128, 3, 66), (1280, 2, 2, 3), {"groups": 64, "padding": 1}),
    ((1, 128, 3, 66), (2240, 2, 2, 3), {"groups": 64, "padding": (1, 0)}),
    ((3, 6, 40, 41), (6, 1, 3, 3), {"groups": 6, "padding": 1}),
    ((5, 300, 3, 3), (300, 1, 2, 3), {"groups": 300, "padding": 1, "stride": (1, 2)}),
    *(((2, 4, 9, 13), (4, 1, k, k), {"groups": 4, "padding": k // 2}) for k in (4, 5, 7)),
    ((2, 4, 9, 13), (4, 1, 3, 3), {"groups": 4, "padding": 2, "dilation": 2}),
    ((1, 2, 19, 9), (2, 1, 13, 5), {"groups": 2, "padding": (6, 2)}),
)


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(np.float32) for s in shapes]


def host(x):
    return np.array(x.detach().to("float32").to("cpu"))


def results(device, values, call, dtype="float32"):
    """The output, and the gradients of its inputs for dy = cos(0, 1, ...), which float16 has."""
    inputs = [fn.tensor(v, device=device).to(dtype) for v in values]
    for x in inputs:
        x.requires_grad = True
    y = call(*inputs)
    dy = np.cos(np.arange(np.prod(y.shape))).astype(np.float16).reshape(y.shape)
    y.backward(fn.tensor(dy.astype(np.float32), device=device).to(dtype))
    assert {v.dtype for v in (y, *(x.grad for x in inputs))} == {dtype}
    return [host(v) for v in (y, *(x.grad for x in inputs))]


def compare(op, values, options):
    cpu, cuda = (results(d, values, lambda *v: op(*v, **options)) for d in ("cpu", "cuda"))
    for name, a, b in zip(("y", "dx", "dw", "db"), cpu, cuda, strict=True):
        if name in ("y", "dx") and HAS_FMA:
            np.testing.assert_array_equal(b, a, err_msg=name)
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("x", "w", "options"), SHAPES)
def test_bits_of_the_cpu(x, w, options):
    """An element of y and of dx is the same sum on both; the CPU's, where it has FMA."""
    compare(F.conv2d, arrays(x, w, (w[0],)), options)


@pytest.mark.parametrize(("x", "w", "options"), SHAPES[:2] + SHAPES[-1:])
def test_bits_of_the_cpu_transposed(x, w, options):
    """Of the same geometry: what a convolution makes is the input."""
    y = F.conv2d(*map(fn.tensor, arrays(x, w)), **options)
    compare(F.conv_transpose2d, arrays(y.shape, w, (w[1] * options.get("groups", 1),)), options)


@pytest.mark.parametrize(("x", "w", "options"), [SHAPES[0], SHAPES[4], SHAPES[6]])
def test_float16_is_float32_rounded(x, w, options):
    """Sums are float32: what is stored is rounded once, after the activation."""
    values = [v.astype(np.float16).astype(np.float32) for v in arrays(x, w, (w[0],))]
    full, half = (
        results("cuda", values, lambda *v: F.conv2d(*v, **options), dtype)
        for dtype in ("float32", "float16")
    )
    for name, a, b in zip(("y", "dx", "dw", "db"), full, half, strict=True):
        np.testing.assert_array_equal(b, a.astype(np.float16), err_msg=name)


def test_more_groups_than_a_grid_has_blocks_in_y():
    x, w = arrays((1, 70_000, 3), (70_000, 1, 2))
    with fn.no_grad():
        y = F.conv1d(*(fn.tensor(v, device="cuda") for v in (x, w)), groups=70_000)
    expected = x[0, :, :-1] * w[:, :1, 0] + x[0, :, 1:] * w[:, :1, 1]
    np.testing.assert_allclose(np.array(y.to("cpu"))[0], expected, rtol=1e-6, atol=1e-6)


def test_dtypes_of_the_device_are_named():
    x = fn.tensor(np.ones((1, 2, 5, 5), np.uint8), device="cuda")
    w = fn.ones(3, 2, 3, 3).to("cuda")
    with pytest.raises(TypeError) as error:
        F.conv2d(x, w)
    assert str(error.value) == (
        "conv2d: expected input of dtype float32, bfloat16 or float16, got uint8"
    )
    with pytest.raises(TypeError) as error:
        F.conv2d(fn.ones(1, 2, 5, 5).to("cuda"), w.to("bfloat16"))
    assert str(error.value) == "conv2d: expected weight of dtype float32, got bfloat16"


def lenet(device):
    """Losses and weights of a short fit, recorded."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 1, 28, 28)).astype(np.float32)
    y = rng.integers(0, 10, 24)
    fn.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 10),
    ).to(device)  # fmt: skip
    trainer = fn.Trainer(net, nn.CrossEntropyLoss(), fn.optim.SGD(net.parameters(), lr=0.05))
    history = trainer.fit(x, y, batch_size=8, epochs=2, verbose=0)
    weights = {name: np.array(p.detach().to("cpu")) for name, p in net.state_dict().items()}
    return history.history["loss"], weights


@pytest.mark.filterwarnings("error")
def test_lenet_trains_as_on_the_cpu():
    (losses, weights), (cpu_losses, cpu_weights) = lenet("cuda"), lenet("cpu")
    np.testing.assert_allclose(losses, cpu_losses, rtol=1e-5)
    for name, value in weights.items():
        np.testing.assert_allclose(value, cpu_weights[name], rtol=1e-4, atol=1e-6, err_msg=name)
