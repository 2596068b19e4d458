"""Capture: a replayed step is the eager one, bit for bit, without allocation; and refusals."""

import gc

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core
from fastnn import functional as F
from fastnn.testing.compare import assert_bitwise_equal

STEPS = 50


def make(optimizer="Adam", **options):
    fn.manual_seed(1)
    model = fn.nn.Sequential(
        fn.nn.Linear(12, 40), fn.nn.GELU(), fn.nn.LayerNorm(40), fn.nn.Dropout(0.3),
        fn.nn.Linear(40, 24), fn.nn.ReLU(), fn.nn.Linear(24, 5),
    )  # fmt: skip
    opt = getattr(fn.optim, optimizer)(model.parameters(), **options)
    return model, opt


def make_step(model, optimizer, clip=None):
    def step(x, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels, check_finite=True)
        loss.backward()
        if clip is not None:
            fn.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss.detach()

    return step


def batches(count=STEPS, rows=32):
    rng = np.random.default_rng(2)
    for _ in range(count):
        x = rng.standard_normal((rows, 12)).astype(np.float32)
        yield x, rng.integers(0, 5, rows)


def weights(model):
    return [np.array(p.detach()) for p in model.parameters()]


@pytest.mark.parametrize(("optimizer", "options", "clip"), [
    ("Adam", {}, None), ("AdamW", {"lr": 0.01}, 0.5), ("SGD", {"lr": 0.1}, None),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, 1.0),
])  # fmt: skip
def test_replay_is_the_eager_step_bit_for_bit(optimizer, options, clip):
    results = []
    for wrap in (lambda f: f, fn.capture):
        model, opt = make(optimizer, **options)
        step = wrap(make_step(model, opt, clip))
        losses = [step(*batch).item() for batch in batches()]
        results.append((losses, weights(model), opt.step_count, fn.random.get_state()))
    (losses, eager, steps, state), (replayed_losses, replayed, replayed_steps, replayed_state) = (
        results
    )
    assert losses == replayed_losses
    assert steps == replayed_steps == STEPS
    assert state == replayed_state
    for got, expected in zip(replayed, eager, strict=True):
        assert_bitwise_equal(got, expected)


def test_learning_rate_changes_are_seen():
    results = []
    for wrap in (lambda f: f, fn.capture):
        model, opt = make()
        step = wrap(make_step(model, opt))
        for i, batch in enumerate(batches(10)):
            opt.param_groups[0]["lr"] = 0.01 / (1 + i)
            step(*batch)
        results.append(weights(model))
    for got, expected in zip(results[1], results[0], strict=True):
        assert_bitwise_equal(got, expected)


def test_other_shapes_record_beside():
    results = []
    for wrap in (lambda f: f, fn.capture):
        model, opt = make()
        step = wrap(make_step(model, opt))
        for rows in (32, 32, 7, 32, 7, 1):
            for batch in batches(1, rows):
                step(*batch)
        results.append(weights(model))
    for got, expected in zip(results[1], results[0], strict=True):
        assert_bitwise_equal(got, expected)


def test_a_replay_allocates_nothing():
    model, opt = make()
    step = fn.capture(make_step(model, opt))
    data = [(fn.tensor(x), fn.tensor(y)) for x, y in batches(20)]
    for batch in data[:2]:
        step(*batch)
    (recording,) = next(iter(step._recordings.values()))
    before, private = _core.memory_stats(), recording.plan.system_allocations
    for batch in data[2:]:
        step(*batch)
    assert _core.memory_stats() == before
    assert recording.plan.system_allocations == private
    assert len(step._recordings) == 1


def test_copies_are_recorded():
    """clone(), and what backward copies where two parameters have one gradient."""
    double = fn.capture(lambda x: x.clone())
    double(np.ones(3, np.float32))
    assert double(np.zeros(3, np.float32)).numpy().tolist() == [0, 0, 0]
    a, b = (fn.tensor(np.ones(3), requires_grad=True) for _ in range(2))

    def gradients(x):
        a.grad = b.grad = None
        ((a + b) * x).sum().backward()
        return a.grad, b.grad

    captured = fn.capture(gradients)
    captured(np.ones(3, np.float32))
    for grad in captured(np.full(3, 5, np.float32)):
        assert grad.numpy().tolist() == [5, 5, 5]


def test_a_plan_reuses_its_memory():
    """A chain of 100 ops on 40 kB runs in the memory of a few of them."""
    x = np.ones(10_000, np.float32)

    def chain(v):
        for _ in range(100):
            v = F.relu(v)
        return v

    step = fn.capture(chain)
    with fn.no_grad():
        step(x)
    (recording,) = next(iter(step._recordings.values()))
    assert recording.plan.system_allocations <= 3
    assert recording.plan.num_launches == 100


def test_dropping_a_captured_function_frees_everything():
    model, opt = make()
    opt.zero_grad()
    opt.prepare()  # its state outlives the recording
    gc.collect()  # what other tests left
    before = _core.memory_stats()["live_blocks"]
    step = fn.capture(make_step(model, opt))
    for batch in batches(3):
        step(*batch)
    opt.zero_grad()
    del step
    assert _core.memory_stats()["live_blocks"] == before


def test_train_and_eval_are_recorded_apart():
    model, _ = make()
    forward = fn.capture(lambda x: model(x).detach())
    x = np.ones((4, 12), np.float32)
    dropped = [np.array(forward(x)) for _ in range(2)]
    assert (dropped[0] != dropped[1]).any()
    model.eval()
    kept = [np.array(forward(x)) for _ in range(2)]
    assert_bitwise_equal(kept[1], kept[0])
    model.train()
    assert (np.array(forward(x)) != kept[0]).any()
    assert len(next(iter(forward._recordings.values()))) == 2


def test_a_replaced_parameter_is_recorded_anew():
    layer = fn.nn.Linear(3, 2)
    forward = fn.capture(lambda x: layer(x).detach())
    x = np.ones((1, 3), np.float32)
    forward(x)
    layer.weight = fn.nn.parameter(np.full((2, 3), 5.0))
    layer.bias = fn.nn.parameter([1.0, 2.0])
    assert np.array(forward(x)).tolist() == [[16.0, 17.0]]


def test_load_state_dict_is_seen_without_recording():
    layer = fn.nn.Linear(3, 2)
    forward = fn.capture(lambda x: layer(x).detach())
    x = np.ones((1, 3), np.float32)
    forward(x)
    recordings = list(next(iter(forward._recordings.values())))
    layer.load_state_dict({"weight": np.full((2, 3), 5.0), "bias": [1.0, 2.0]})
    assert np.array(forward(x)).tolist() == [[16.0, 17.0]]
    assert next(iter(forward._recordings.values())) == recordings


def test_results_and_arguments():
    both = fn.capture(lambda x, z: (x + z, {"difference": x - z}))
    for i in range(3):
        x, z = np.full(3, 5.0 + i, np.float32), np.full(3, 2.0, np.float32)
        total, named = both(x, z)
        assert total.numpy().tolist() == [7.0 + i] * 3
        assert named["difference"].numpy().tolist() == [3.0 + i] * 3
        assert x[0] == 5.0 + i


REFUSED = (
    "capture: expected only operations on Tensors and arguments, got {}; move it out of the "
    "captured function"
)
READ = "a read of a Tensor on the host (numpy(), item(), np.asarray)"


@pytest.mark.parametrize(("function", "call"), [
    (lambda x: x.numpy(), READ),
    (lambda x: x.sum().item(), READ),
    (lambda x: np.asarray(x), READ),
    (lambda x: memoryview(x), READ),
    (lambda x: np.from_dlpack(x), "__dlpack__"),
    (lambda x: x + np.ones(2, np.float32), "a host array that is not an argument"),
    (lambda x: F.linear(x, [[1.0, 2.0]]), "a host array that is not an argument"),
    (lambda x: x.copy_(x), "Tensor.copy_"),
    (lambda x: fn.zeros(2, dtype="int64"), "zeros() of integers"),
])  # fmt: skip
def test_what_cannot_be_recorded(function, call):
    with pytest.raises(fn.CaptureError) as caught:
        fn.capture(function)(np.ones(2, np.float32))
    assert str(caught.value) == REFUSED.format(call)
    assert not _core.is_recording()
    assert fn.ones(2).sum().item() == 2.0


@pytest.mark.parametrize("make", [fn.optim.Adam, fn.optim.Adagrad, fn.optim.Adadelta])
def test_the_first_optimizer_step_is_recorded_too(make):
    """The state that it makes lasts: replays go on with it, and are not begun anew."""
    grads = [np.array([g, -g], np.float32) for g in (1.0, 0.5, 2.0, -1.0)]

    def weights(wrap):
        p = fn.tensor([1.0, 2.0], requires_grad=True)
        optimizer = make([p])

        def step(g):
            p.grad = g
            optimizer.step()
            return g

        run = wrap(step)
        for g in grads:
            run(fn.from_numpy(g))
        return p.detach().numpy().tolist(), optimizer.state_dict()["state"][0]["step"]

    assert weights(fn.capture) == weights(lambda step: step)


def test_a_capture_inside_a_capture():
    inner = fn.capture(lambda x: x + x)
    with pytest.raises(fn.CaptureError) as caught:
        fn.capture(lambda x: inner(x))(np.ones(2, np.float32))
    assert str(caught.value) == (
        "capture: expected no recording in progress, got a capture inside a capture"
    )
    assert inner(np.ones(2, np.float32)).numpy().tolist() == [2.0, 2.0]


def test_keyword_arguments():
    with pytest.raises(TypeError) as caught:
        fn.capture(lambda x: x)(x=np.ones(2, np.float32))
    assert str(caught.value) == "capture: expected positional arguments only, got x"


def bad_labels(x, labels):
    labels[[3, 9]] = 5, -1


def nan_in_the_input(x, labels):
    x[4, 5] = np.nan


@pytest.mark.parametrize("first", [True, False], ids=["while recording", "on replay"])
@pytest.mark.parametrize(("spoil", "message"), [
    (bad_labels, "cross_entropy: expected 0 <= target < 5, got 5 at target[3]"),
    (nan_in_the_input, "loss: expected a finite value, got NaN or infinity; lower the learning "
     "rate, or look for bad values in the data; nothing was updated"),
])  # fmt: skip
def test_bad_data_changes_nothing(spoil, message, first):
    model, opt = make()
    step = fn.capture(make_step(model, opt))
    good, bad, after = batches(3)
    if not first:
        step(*good)
    before, count = weights(model), opt.step_count
    spoil(*bad)
    with pytest.raises(ValueError, match="expected") as caught:
        step(*bad)
    assert str(caught.value) == message
    assert opt.step_count == count
    for got, expected in zip(weights(model), before, strict=True):
        assert_bitwise_equal(got, expected)
    assert np.isfinite(step(*after).item())


def test_an_error_in_the_function_ends_the_recording():
    def fails(x):
        raise KeyError("own")

    with pytest.raises(KeyError):
        fn.capture(fails)(np.ones(2, np.float32))
    assert not _core.is_recording()


def test_replay_on_threads_gives_the_same_bits():
    results = []
    for threads in (1, 3):
        fn.set_num_threads(threads)
        model, opt = make()
        step = fn.capture(make_step(model, opt))
        for batch in batches(5, rows=400):
            step(*batch)
        results.append(weights(model))
    for got, expected in zip(results[1], results[0], strict=True):
        assert_bitwise_equal(got, expected)
