"""Channels-last: what is recognised, kept, converted and refused. Ops are in test_ops.py."""

import re
from io import BytesIO

import fastnn as fn
import numpy as np
import pytest
from fastnn import F, nn
from fastnn.testing.compare import assert_bitwise_equal

SHAPE = (2, 3, 4, 5)
STRIDES = (60, 1, 15, 3)
SHAPES = (SHAPE, (1, 1, 1, 1), (2, 1, 4, 5), (2, 3, 1, 1), (0, 3, 4, 5), (3, 70, 9, 17))


def numbers(shape=SHAPE, dtype=np.float32):
    return (100 * np.random.default_rng(0).random(shape)).astype(dtype)


def channels_last(x):
    """The same array with its channels last in memory."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


# ---- in and out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_there_and_back_by_every_way(shape, dtype):
    x = numbers(shape, dtype)
    t = fn.tensor(x).contiguous("channels_last")
    assert (t.shape, t.layout) == (shape, "nhwc")
    assert_bitwise_equal(t.numpy(), x)
    back = t.contiguous()
    assert back.layout == "nchw"
    assert_bitwise_equal(back.numpy(), x)
    assert_bitwise_equal(np.from_dlpack(t), x)
    view = channels_last(x)
    expected = "nchw" if view.flags.c_contiguous else "nhwc"  # where both fit
    for seen in (fn.tensor(view), fn.from_numpy(view), fn.tensor(np.from_dlpack(t))):
        assert seen.layout == expected
        assert_bitwise_equal(seen.numpy(), x)


def test_memory_is_shared_in_both_directions():
    x = channels_last(numbers())
    t = fn.from_numpy(x)
    assert t.layout == "nhwc"
    x[1, 2, 3, 4] = -1
    assert t.numpy()[1, 2, 3, 4] == -1
    assert t.numpy().strides == x.strides
    t.copy_(numbers())
    assert_bitwise_equal(x, numbers())
    y = np.from_dlpack(t)
    assert y.strides == x.strides
    x[0, 0, 0, 0] = 7
    assert y[0, 0, 0, 0] == 7


def test_arrays_of_torch_keep_their_order():
    torch = pytest.importorskip("torch")
    a = torch.from_numpy(numbers()).to(memory_format=torch.channels_last)
    y = F.relu(a)
    assert y.layout == "nhwc"
    assert torch.from_dlpack(y).stride() == a.stride() == STRIDES
    assert_bitwise_equal(np.array(y), a.numpy())
    other = a.permute(0, 2, 1, 3)  # neither order: a copy
    assert F.relu(other).layout == "nchw"
    assert_bitwise_equal(np.array(F.relu(other)), other.numpy())


def test_bfloat16_and_other_dtypes_keep_the_order():
    t = fn.tensor(numbers()).contiguous("channels_last")
    narrow = t.to("bfloat16")
    assert narrow.layout == t.clone().layout == t.detach().layout == "nhwc"
    expected = fn.tensor(numbers()).to("bfloat16").numpy()
    assert_bitwise_equal(narrow.numpy(), expected)
    assert_bitwise_equal(narrow.contiguous().numpy(), expected)


def check_raises(error, message, call):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_what_is_refused():
    t = fn.tensor(numbers()).contiguous("channels_last")
    check_raises(
        ValueError,
        "contiguous: expected memory_format 'contiguous_format' or 'channels_last', got 'nhwc'",
        lambda: t.contiguous("nhwc"),
    )
    check_raises(
        ValueError,
        "contiguous: expected a Tensor of shape (n, c, h, w) for channels_last, got (2, 3)",
        lambda: fn.ones(2, 3).contiguous("channels_last"),
    )
    t.requires_grad = True
    check_raises(
        ValueError,
        "SGD: expected parameters in the order of their shape, got one of shape (2, 3, 4, 5) that "
        "is channels-last; contiguous() gives it the other order",
        lambda: fn.optim.SGD([t], lr=0.1),
    )


def test_a_consumer_without_strides_is_refused():
    t = fn.tensor(numbers()).contiguous("channels_last")
    check_raises(
        BufferError,
        "buffer: expected a Tensor in the order of its shape, got a channels-last one; "
        "call contiguous() first",
        lambda: BytesIO(t),
    )


# ---- the tape ------------------------------------------------------------------------------------


def gradients(model, x, layout):
    fn.manual_seed(0)
    t = fn.tensor(x, requires_grad=True)
    for p in model.parameters():
        p.grad = None
    y = model(t.contiguous(layout))
    y.backward(np.cos(np.arange(np.prod(y.shape), dtype=np.float32)).reshape(y.shape))
    assert t.grad.layout == "nchw"
    return [np.array(v) for v in (y.detach(), t.grad, *(p.grad for p in model.parameters()))]


class Residual(nn.Module):
    """Operands of both orders meet, and ops that do not know channels-last."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.group = nn.GroupNorm(3, 3)

    def forward(self, x):
        h = self.norm(self.conv(x), activation="relu")
        h = F.add(h.contiguous(), self.group(x), activation="gelu") + x
        h = h * x - h / 2.0
        return F.layer_norm(F.softmax(h), (5,))


def test_gradients_are_those_of_the_other_order():
    model = Residual()
    rows, last = (
        gradients(model, numbers() / 50, f) for f in ("contiguous_format", "channels_last")
    )
    for a, b in zip(last, rows, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


def test_a_gradient_has_the_order_of_its_leaf():
    x = fn.tensor(numbers()).contiguous("channels_last")
    x.requires_grad = True
    (x * numbers()).sum().backward()
    assert x.grad.layout == "nhwc"
    assert_bitwise_equal(x.grad.numpy(), numbers())


@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "instance_norm"])
def test_fused_dropout_has_the_bits_of_the_chain(name):
    norm = {
        "batch_norm": lambda x, **k: F.batch_norm(x, training=True, **k),
        "group_norm": lambda x, **k: F.group_norm(x, 3, **k),
        "instance_norm": F.instance_norm,
    }[name]
    results = []
    for f in (
        lambda x: norm(x, activation="relu", dropout_p=0.3),
        lambda x: F.dropout(norm(x, activation="relu"), 0.3),
    ):
        fn.manual_seed(0)
        results.append(np.array(f(channels_last(numbers()))))
    assert_bitwise_equal(*results)


def test_a_weight_changed_in_place_is_noticed_behind_a_conversion():
    w = fn.tensor(numbers((2, 3, 1, 1)), requires_grad=True)
    x = fn.tensor(numbers(), requires_grad=True).contiguous("channels_last")
    y = F.conv2d(x, w).sum()
    w.copy_(np.zeros((2, 3, 1, 1), np.float32))
    with pytest.raises(RuntimeError, match="a Tensor that conv needs was changed in place"):
        y.backward()


def test_a_recording_is_of_one_order():
    step = fn.capture(lambda x: F.batch_norm(x, training=True, activation="relu"))
    x = numbers()
    for _ in range(2):
        for given in (x, channels_last(x)):
            y = step(given)
            assert y.layout == fn.tensor(given).layout
            np.testing.assert_allclose(
                np.array(y), np.array(F.batch_norm(x, training=True, activation="relu")), atol=1e-6
            )


def test_predict_and_training_take_channels_last_images():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 2))
    x = numbers((8, 3, 4, 5)) / 100
    assert_bitwise_equal(model.predict(channels_last(x)), model.predict(x))
    weights = model.state_dict()
    start = {k: np.array(v.detach()) for k, v in weights.items()}
    trained = []
    for images in (x, channels_last(x)):
        fn.manual_seed(0)
        model.load_state_dict(start)
        trainer = fn.train.Trainer(model, F.cross_entropy, fn.optim.SGD(model.parameters(), lr=0.1))
        trainer.fit(images, np.arange(8) % 2, epochs=2, batch_size=4)
        trained.append(np.array(model[0].weight.detach()))
    assert_bitwise_equal(*trained)
