"""Residual and dense blocks against their definitions, layer by layer without fusion."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn import nn
from fastnn.testing.compare import assert_bitwise_equal

RNG = np.random.default_rng(0)


def images(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def randomised(block):
    """Norms with weights of their own, since ones and zeros hide mistakes."""
    fn.manual_seed(1)
    for name, p in block.named_parameters():
        if p.ndim == 1:
            p.copy_(RNG.uniform(0.5, 1.5, p.shape).astype(np.float32))
        assert "." in name
    return block


def results(block, call, x):
    """Output, gradients, and what the block keeps."""
    state = {k: np.array(v) for k, v in block.state_dict().items()}
    for p in block.parameters():
        p.grad = None
    t = fn.tensor(x, requires_grad=True)
    y = call(t)
    y.backward(np.cos(np.arange(np.prod(y.shape), dtype=np.float32)).reshape(y.shape))
    buffers = [np.array(b) for _, b in block.named_buffers()]
    block.load_state_dict(state)
    return [np.array(y.detach()), np.array(t.grad), *(np.array(p.grad) for p in block.parameters()),
            *buffers]  # fmt: skip


def check(block, definition, x):
    got = results(block, block, x)
    for a, b in zip(got, results(block, definition, x), strict=True):
        assert_bitwise_equal(a, b)
    block.eval()
    assert_bitwise_equal(np.array(block(x).detach()), np.array(definition(fn.tensor(x)).detach()))


@pytest.mark.parametrize(
    ("channels", "stride"), [((4, 4), 1), ((4, 8), 2), ((4, 4), 2), ((3, 6), 1)]
)
def test_basic_block(channels, stride):
    block = randomised(nn.BasicBlock(*channels, stride))
    assert (block.downsample is None) == (stride == 1 and channels[0] == channels[1])

    def definition(x):
        y = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
        return F.relu(y + (x if block.downsample is None else block.downsample(x)))

    check(block, definition, images(3, channels[0], 6, 6))


@pytest.mark.parametrize("stride", [1, 2])
def test_bottleneck(stride):
    block = randomised(nn.Bottleneck(8, 8, stride))

    def definition(x):
        y = F.relu(block.bn1(block.conv1(x)))
        y = block.bn3(block.conv3(F.relu(block.bn2(block.conv2(y)))))
        return F.relu(y + (x if block.downsample is None else block.downsample(x)))

    check(block, definition, images(3, 8, 6, 6))


@pytest.mark.parametrize("bn_size", [None, 2])
def test_dense_block(bn_size):
    block = randomised(nn.DenseBlock(3, 4, 5, bn_size))
    assert block.out_channels == 19

    def definition(x):
        for _, layer in block.children():
            y = layer.conv1(F.relu(layer.norm1(x)))
            if bn_size is not None:
                y = layer.conv2(F.relu(layer.norm2(y)))
            x = F.cat([x, y], dim=1)
        return x

    check(block, definition, images(3, 4, 6, 6))


def test_transition():
    block = randomised(nn.Transition(6, 3))
    check(block, lambda x: F.avg_pool2d(block.conv(F.relu(block.norm(x))), 2), images(2, 6, 6, 4))


def test_residual_of_any_body():
    body, short = nn.Linear(5, 3), nn.Linear(5, 3)
    block = nn.Residual(body, short, activation="tanh")
    check(block, lambda x: F.tanh(body(x) + short(x)), images(4, 5))
    plain = nn.Residual(nn.Linear(5, 5))
    check(plain, lambda x: plain.body(x) + x, images(4, 5))


@pytest.mark.parametrize("make", [nn.BasicBlock, nn.Bottleneck])
def test_zero_init_makes_a_block_the_identity_at_first(make):
    x = images(2, 8, 4, 4)
    assert_bitwise_equal(np.array(make(8, 8, zero_init=True)(x).detach()), np.maximum(x, 0))
    assert np.abs(np.array(make(8, 8)(x).detach()) - np.maximum(x, 0)).max() > 0.1


def test_names_are_torchvisions():
    names = {name for name, _ in nn.BasicBlock(2, 4, 2).named_parameters()}
    assert names == {
        "conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias",
        "downsample.0.weight", "downsample.1.weight", "downsample.1.bias",
    }  # fmt: skip
    names = {name for name, _ in nn.DenseBlock(1, 2, 2).named_parameters()}
    layer = ("norm1.weight", "norm1.bias", "conv1.weight", "norm2.weight", "norm2.bias",
             "conv2.weight")  # fmt: skip
    assert names == {f"denselayer1.{name}" for name in layer}


def test_dropout_of_a_dense_block():
    block = nn.DenseBlock(1, 2, 3, drop_rate=1.0)
    y = np.array(block(images(2, 2, 4, 4)).detach())
    assert (y[:, 2:] == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nn.BasicBlock(0, 4),
            "BasicBlock: expected channels and stride > 0, got channels 0 to 4 and stride 1",
        ),
        (
            lambda: nn.Bottleneck(4, 8, 0),
            "Bottleneck: expected channels and stride > 0, got channels 4 to 8 and stride 0",
        ),
        (
            lambda: nn.Bottleneck(4, 6),
            "Bottleneck: expected out_channels to be a multiple of 4, got 6",
        ),
        (
            lambda: nn.DenseBlock(2, 4, 0),
            "DenseBlock: expected sizes > 0, got num_layers=2, in_channels=4, growth_rate=0, "
            "bn_size=4",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert str(caught.value) == message
