"""The family of matrix products: the same bits on 1 to 16 threads, for unaligned inputs, on rerun.

Sizes are odd, so that tasks and vectors have tails, and large enough for several threads.
"""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn import nn, optim
from fastnn.testing.compare import assert_bitwise_equal

THREADS = (1, 2, 3, 4, 7, 8, 16)
OPS = {
    "linear": (lambda *a: F.linear(*a, activation="gelu"), ((301, 203), (257, 203), (257,))),
    "few outputs": (lambda *a: F.linear(*a, activation="gelu"), ((2301, 203), (11, 203), (11,))),
    "a long batch": (F.linear, ((2100, 35), (67, 35), (67,))),
    "matmul": (F.matmul, ((301, 203), (203, 257))),
    "bmm": (F.bmm, ((7, 61, 83), (7, 83, 45))),
    "a broadcast batch": (F.matmul, ((3, 1, 61, 83), (5, 83, 45))),
    "conv1d": (lambda *a: F.conv1d(*a, padding=2, dilation=2), ((9, 6, 301), (10, 6, 3), (10,))),
    "conv2d": (lambda *a: F.conv2d(*a, stride=2), ((9, 6, 33, 35), (10, 6, 3, 3), (10,))),
    "groups": (lambda *a: F.conv2d(*a, groups=3), ((9, 6, 33, 35), (12, 2, 3, 3), (12,))),
    "conv_transpose2d": (
        lambda *a: F.conv_transpose2d(*a, stride=2), ((9, 6, 17, 18), (6, 10, 3, 3), (10,)),
    ),
    "rnn": (lambda *a: F.rnn(*a)[0], ((5, 65, 43), (131, 43), (131, 131), (131,), (131,))),
    "lstm": (lambda *a: F.lstm(*a)[0], ((5, 65, 43), (4 * 65, 43), (4 * 65, 65), (4 * 65,))),
    "gru": (lambda *a: F.gru(*a)[0], ((5, 65, 43), (3 * 65, 43), (3 * 65, 65), (3 * 65,))),
}  # fmt: skip


def unaligned(x):
    """A copy at 4 bytes behind a boundary of 64."""
    memory = np.empty(x.size + 32, np.float32)
    first = (-memory.ctypes.data // 4) % 16 + 1
    copy = memory[first : first + x.size].reshape(x.shape)
    copy[...] = x
    return copy


def results(call, inputs, dy):
    leaves = [fn.from_numpy(x) for x in inputs]
    for leaf, x in zip(leaves, inputs, strict=True):
        assert np.asarray(leaf).ctypes.data == x.ctypes.data  # it is this memory that is read
        leaf.requires_grad = True
    y = call(*leaves)
    y.backward(fn.from_numpy(dy))
    return [np.array(y.detach()), *(np.array(leaf.grad) for leaf in leaves)]


@pytest.mark.parametrize("name", OPS)
def test_an_op_gives_the_same_bits(name):
    call, shapes = OPS[name]
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    dy = rng.standard_normal(call(*inputs).shape).astype(np.float32)
    apart, dy_apart = [unaligned(x) for x in inputs], unaligned(dy)
    assert all(x.ctypes.data % 64 == 4 for x in (*apart, dy_apart))
    first = results(call, inputs, dy)
    for threads in THREADS:
        fn.set_num_threads(threads)
        for where, run in (("aligned", (inputs, dy)), ("unaligned", (apart, dy_apart))) * 2:
            for got, expected in zip(results(call, *run), first, strict=True):
                assert_bitwise_equal(got, expected, f"{name}, {where}, {threads} threads")


def images():
    return nn.Sequential(
        nn.Conv2d(1, 7, 3, padding=1), nn.BatchNorm2d(7), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(7, 13, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.25), nn.Linear(13 * 36, 101),
        nn.GELU(), nn.LayerNorm(101), nn.Linear(101, 10),
    ), (33, 1, 16, 16), 33  # fmt: skip


class Sequences(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(37, 65, num_layers=2, dropout=0.25), nn.Linear(65, 10)

    def forward(self, x):
        return self.head(self.lstm(x)[0].reshape(-1, 65))


def sequences():
    return Sequences(), (6, 33, 37), 6 * 33


def trained(make, move):
    """Losses and weights after some captured steps; `move` places the batches in memory."""
    fn.manual_seed(3)
    model, shape, rows = make()
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    optimizer.prepare()

    def step(x, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    run, rng = fn.capture(step), np.random.default_rng(4)
    losses = []
    for _ in range(4):
        x, labels = rng.standard_normal(shape).astype(np.float32), rng.integers(0, 10, rows)
        losses.append(np.array(run(move(x), labels)))
    return [*losses, *(np.array(p.detach()) for p in model.parameters())]


@pytest.mark.parametrize("make", [images, sequences])
def test_a_captured_step_gives_the_same_bits(make):
    first = trained(make, np.copy)
    for threads in THREADS:
        fn.set_num_threads(threads)
        for move in (np.copy, unaligned):
            for got, expected in zip(trained(make, move), first, strict=True):
                assert_bitwise_equal(got, expected, f"{threads} threads, {move.__name__}")
