"""The host waits for no op on CUDA; what ops find wrong with their data is raised when it looks."""

import os
import re
import subprocess
import sys
import threading

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import emulated, host, is_emulated, needs_cuda, on_cuda
from fastnn import nn, optim
from fastnn.testing.harness import to_tensors
from fastnn.testing.ops import OPS, OPTIMIZERS
from foreign_helpers import Runtime

pytestmark = [pytest.mark.gpu, needs_cuda]

BAD_LABEL = "cross_entropy: expected 0 <= target < 3, got 7 at target[1]"


def host_waits():
    return Runtime().functions.fastnn_emulator_host_waits()


def waits_of(work):
    """How often the host waits for it, and the collection of what it leaves."""
    work()  # the first use of a class of products is checked, and memory is allocated
    before = host_waits()
    work()
    return host_waits() - before


@emulated
@pytest.mark.parametrize("op", [op for op in OPS if op.cuda is None], ids=lambda op: op.short)
def test_no_op_waits(op):
    sample = op.sample(*op.cases[0], "float32")
    inputs = [on_cuda(x) for x in to_tensors(op, sample.inputs, "float32")]
    dy = fn.tensor(sample.dy.astype(np.float32), device="cuda")

    def work():
        op.call(*inputs, **sample.params).backward(dy)

    assert waits_of(work) == 0


def parameters():
    p = fn.tensor(np.ones((3, 4), np.float32), device="cuda", requires_grad=True)
    p.grad = fn.tensor(np.full((3, 4), 0.5, np.float32), device="cuda")
    return p


@emulated
@pytest.mark.parametrize("row", OPTIMIZERS, ids=lambda row: row.name)
def test_no_step_waits(row):
    p = parameters()
    optimizer = getattr(optim, row.name)([p], **row.options[0])
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1)

    def work():
        nn.utils.clip_grad_norm_([p], 1.0)
        nn.utils.clip_grad_value_([p], 1.0)
        optimizer.step(max_grad_norm=1.0)
        scheduler.step()

    assert waits_of(work) == 0


@emulated
def test_no_part_of_a_training_step_waits():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)).to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scaler = fn.amp.GradScaler()
    x = fn.tensor(np.ones((2, 4), np.float32), device="cuda")
    labels = fn.tensor(np.array([0, 2]), device="cuda")

    def work():
        fn.manual_seed(1)
        optimizer.zero_grad()
        with fn.autocast(dtype="bfloat16"):
            y = model(x)
        scaler.scale(fn.F.cross_entropy(y, labels)).backward()
        scaler.step(optimizer)
        scaler.update()
        fn.zeros(3, dtype="int64", device="cuda")

    assert waits_of(work) == 0


@emulated
def test_what_has_no_row_does_not_wait_either():
    x, good = fn.ones(2, 3).to("cuda"), labels(0, 2)
    layer = nn.LSTM(3, 4, bidirectional=True).to("cuda")
    steps, lengths = fn.ones(5, 2, 3).to("cuda"), labels(5, 2)
    optimizer = optim.SGD([parameters()], lr=0.1)
    optimizer.register_step_post_hook(optim.MaxNorm(1.0))
    optimizer.register_step_post_hook(optim.ProximalL1(0.1))

    def work():
        fn.F.one_hot(good, 3)
        fn.F.argmax(x)
        fn.F.accuracy(x, good)
        fn.F.split(fn.F.cat([x, x]), 2)
        layer(steps, lengths=lengths)[0].sum().backward()
        nn.init.normal_(layer.weight_ih_l0)
        optimizer.step()
        x.copy_(x * 2 + 1)

    assert waits_of(work) == 0


def logits():
    return fn.zeros(2, 3).to("cuda")


def labels(*values):
    return fn.tensor(np.array(values), device="cuda")


def raised(message, work):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        work()


@pytest.fixture
def lazy(monkeypatch):
    """The emulator runs what the host waits for and nothing else."""
    monkeypatch.setenv("FASTNN_EMULATOR_LAZY", "1")
    yield
    fn.cuda.synchronize()


def look(how, x):
    looks = {"item": x.sum().item, "to": lambda: x.to("cpu"), "synchronize": fn.cuda.synchronize}
    return looks[how]()


@emulated
@pytest.mark.parametrize("how", ["item", "to", "synchronize"])
def test_bad_data_is_raised_when_the_host_looks_and_updates_nothing(lazy, how):
    p = parameters()
    optimizer = optim.Adam([p], lr=0.1)
    optimizer.step()
    before = host(p)
    fn.F.cross_entropy(logits(), labels(0, 7))
    optimizer.step()
    nn.utils.clip_grad_value_([p], 0.1)
    raised(BAD_LABEL, lambda: look(how, p.detach().to("cuda") + 0))
    np.testing.assert_array_equal(host(p), before)
    np.testing.assert_array_equal(host(p.grad), 0.5)
    optimizer.step()
    np.testing.assert_allclose(host(p), 0.8, atol=1e-6)


@emulated
def test_the_first_is_raised_and_later_ones_go_with_it(lazy):
    x, good, bad, worse = logits(), labels(0, 1), labels(0, 7), labels(9, 0)
    fn.F.cross_entropy(x, good)
    fn.F.cross_entropy(x, bad)
    fn.F.nll_loss(x, worse)
    raised(BAD_LABEL, fn.cuda.synchronize)
    fn.cuda.synchronize()
    fn.F.nll_loss(x, worse)
    raised("nll_loss: expected 0 <= target < 3, got 9 at target[0]", fn.cuda.synchronize)


def test_the_next_call_that_looks_at_data_raises_it():
    """If the device has come so far by then, as the emulator always has; else the look after it."""
    p = parameters()
    step = optim.SGD([p], lr=0.1).step
    fn.F.cross_entropy(logits(), labels(0, 7))
    raised(BAD_LABEL, step if is_emulated else lambda: (step(), p.to("cpu")))
    np.testing.assert_array_equal(host(p), 1)


@emulated
def test_labels_are_named_as_they_were(lazy):
    """Those of a call whose report nobody has seen live on."""
    bad = labels(0, 7)
    fn.F.cross_entropy(logits(), bad)
    del bad
    others = [fn.zeros(2, dtype="int64", device="cuda") for _ in range(3)]
    raised(BAD_LABEL, fn.cuda.synchronize)
    assert len(others) == 3


@emulated
def test_reports_belong_to_their_thread(lazy):
    def other():
        fn.F.cross_entropy(logits(), labels(0, 7))

    for _ in range(2):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        fn.F.cross_entropy(logits(), labels(0, 1))
        fn.cuda.synchronize()


@emulated
def test_a_device_that_is_far_behind_is_waited_for(lazy):
    """One status word tells 65,535 calls apart."""
    x, good, bad, worse = logits(), labels(0, 1), labels(0, 9), labels(0, 7)
    fn.F.one_hot(good, 3)
    before = host_waits()
    for _ in range(65_534):
        fn.F.one_hot(good, 3)
    assert host_waits() == before
    fn.F.one_hot(bad, 3)
    fn.F.cross_entropy(x, worse)
    raised("one_hot: expected 0 <= input < 3, got 9 at input[1]", fn.cuda.synchronize)


def test_each_call_raises_its_own_where_launches_block():
    work = """
import fastnn as fn, numpy as np
x, y = fn.zeros(2, 3).to("cuda"), fn.tensor(np.array([0, 7]), device="cuda")
try:
    fn.F.cross_entropy(x, y)
except ValueError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", work],
        env={**os.environ, "CUDA_LAUNCH_BLOCKING": "1", "FASTNN_EMULATOR_LAZY": "1"},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == BAD_LABEL, run.stderr[-2000:]
