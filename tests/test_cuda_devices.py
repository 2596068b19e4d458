"""Two CUDA devices: the same results on each, no memory touched by the work of the other, and no
thread's current device changed. On two GPUs, or under the emulator, FASTNN_EMULATOR_DEVICES=2.
"""

import ctypes
import os
import re
import subprocess
import sys
import threading

import fastnn as fn
import numpy as np
import pytest
from fastnn import F, nn
from fastnn.data import Loader
from fastnn.testing.harness import to_tensors
from fastnn.testing.ops import OPS
from test_cuda_training import fitted, network, train_digits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(fn.cuda.device_count() < 2, reason="fewer than two CUDA devices"),
]
DEVICES = ("cuda:0", "cuda:1")
emulated = fn.cuda.is_available() and "emulator" in fn.cuda.device_description()
only_emulated = pytest.mark.skipif(not emulated, reason="asks the emulator")
X = np.random.default_rng(0).normal(size=(33, 20)).astype(np.float32)


def emulator():
    return ctypes.CDLL(os.environ["FASTNN_CUDA_LIBRARY"])


def moved(x, device):
    if x is None:
        return None
    y = x.detach().to(device)
    y.requires_grad = x.requires_grad
    return y


def host(x):
    return np.array(x.detach().to("cpu"))


# ---- which device is meant -----------------------------------------------------------------------


def test_cuda_is_the_current_device_of_the_thread():
    assert fn.cuda.current_device() == 0
    assert fn.zeros(2, device="cuda").device == "cuda:0"
    with fn.cuda.device(1):
        assert fn.zeros(2, device="cuda").device == "cuda:1"
        with fn.cuda.device("cuda:0"), fn.cuda.device(None):
            assert fn.ones(2).to("cuda").device == "cuda:0"
        assert nn.Linear(2, 1).to("cuda").weight.device == "cuda:1"
        seen = []
        thread = threading.Thread(target=lambda: seen.append(fn.cuda.current_device()))
        thread.start()
        thread.join()
        assert seen == [0]
    fn.cuda.set_device("cuda:1")
    assert fn.tensor([1.0], device="cuda").device == "cuda:1"
    assert fn.cuda.info() == fn.cuda.info(1)
    fn.cuda.set_device(0)
    x = fn.tensor([1.0], device="cuda:1")
    assert x.to("cuda:1") is x
    assert x.to("cuda").device == "cuda:0"
    assert repr(x) == "Tensor([1.], dtype=float32, device='cuda:1')"
    assert x.__dlpack_device__() == (2, 1)


def test_a_device_that_is_not_there():
    n = fn.cuda.device_count()
    text = f"device: expected a CUDA device below {n}, got 'cuda:{n}': there are {n} devices"
    net = nn.Linear(2, 1)
    for call in (
        lambda: fn.zeros(1, device=f"cuda:{n}"),
        lambda: fn.ones(1).to(f"cuda:{n}"),
        lambda: net.to(f"cuda:{n}"),
        lambda: fn.cuda.set_device(n),
        lambda: fn.cuda.device(n),
        lambda: fn.cuda.info(n),
        lambda: fn.amp.GradScaler(f"cuda:{n}"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            call()
    for name in ("cuda:", "cuda:-1", "cuda:1x", "cuda1"):
        text = f"device: expected 'cpu', 'cuda' or 'cuda:N', got '{name}'"
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            fn.zeros(1, device=name)
    with pytest.raises(ValueError, match=r"^cuda: expected an index or 'cuda:N', got 'cpu'$"):
        fn.cuda.device("cpu")


# ---- the same on each ----------------------------------------------------------------------------


@pytest.mark.parametrize("op", [op for op in OPS if op.cuda is None], ids=lambda op: op.short)
def test_every_op_has_the_same_bits_on_both(op):
    sample = op.sample(*op.cases[0], "float32")
    results = []
    for device in DEVICES:
        fn.manual_seed(0)
        inputs = [moved(x, device) for x in to_tensors(op, sample.inputs, "float32")]
        y = op.call(*inputs, **sample.params)
        assert y.device == device
        if any(x is not None and x.requires_grad for x in inputs):
            y.backward(fn.tensor(sample.dy.astype(np.float32), y.dtype, device=device))
        grads = [x.grad for x in inputs if x is not None and x.grad is not None]
        assert {g.device for g in grads} <= {device}
        results.append([host(v) for v in (y, *grads)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("capture", [True, False])
def test_a_fit_has_the_same_bits_on_both(capture):
    first, losses, _ = fitted("cuda:0", network, capture=capture)
    other, other_losses, trainer = fitted("cuda:1", network, capture=capture)
    assert trainer.device == "cuda:1"
    assert losses == other_losses
    for name, value in first.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_the_command_line_takes_an_index(tmp_path):
    results = [
        train_digits(tmp_path / f"{i}", device, "--set=train.ema_decay=0.9")
        for i, device in enumerate(DEVICES)
    ]
    (first, lines), (other, other_lines) = results
    assert first["test_accuracy"] == other["test_accuracy"]
    assert [row["loss"] for row in lines] == [row["loss"] for row in other_lines]


def test_mixed_precision_and_small_networks():
    """What keeps state by device: the scaler, cuBLASLt's place, the fused step and its check."""
    results = []
    for device in DEVICES:
        weights, losses, _ = fitted(device, network, precision="16-mixed", gradient_clip_val=1.0)
        results.append((losses, weights))
    assert results[0][0] == results[1][0]
    fn.cuda.set_mlp_path("fused")
    steps = fn.cuda.info()["mlp_steps_fused"]
    made = []
    for device in DEVICES:
        fn.manual_seed(0)
        net = nn.Sequential(nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 3)).to(device)
        x, y = fn.tensor(X, device=device), fn.tensor(np.arange(33) % 3, device=device)
        _, loss = fn.train.forward_backward(net, nn.CrossEntropyLoss(), x, y)
        made.append([host(v) for v in (loss, *(p.grad for p in net.parameters()))])
    fn.cuda.set_mlp_path("auto")
    assert fn.cuda.info()["mlp_steps_fused"] == steps + 2
    for a, b in zip(*made, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("path", ["wgmma", "tiles"])
def test_paths_are_chosen_and_checked_for_each_device(path):
    if path == "wgmma" and fn.cuda.info(1)["wgmma_reason"]:
        pytest.skip(fn.cuda.info(1)["wgmma_reason"])
    fn.cuda.set_product_path(path)
    fn.cuda.set_recurrent_path("clusters" if path == "wgmma" else "steps")
    fn.set_float32_matmul_precision("high")
    try:
        results = []
        for device in DEVICES:
            fn.manual_seed(0)
            layer = nn.LSTM(20, 8).to(device)
            x = fn.tensor(X.reshape(3, 11, 20), device=device)
            w = fn.tensor(X[:8], device=device)
            y, _ = layer(x)
            y.sum().backward()
            results.append([host(v) for v in (y, F.linear(x, w), layer.weight_hh_l0.grad)])
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(a, b)
        assert fn.cuda.info(0)["refused"] == fn.cuda.info(1)["refused"]
    finally:
        fn.cuda.set_product_path("auto")
        fn.cuda.set_recurrent_path("auto")
        fn.set_float32_matmul_precision("highest")


# ---- between them --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_lazy", [False, True])
def test_copies_between_devices_and_their_gradients(is_lazy, monkeypatch):
    if is_lazy and not emulated:
        pytest.skip("only the emulator waits")
    monkeypatch.setenv("FASTNN_EMULATOR_LAZY", str(int(is_lazy)))
    x = fn.tensor(X, device="cuda:0", requires_grad=True)
    y = F.relu(2 * x).to("cuda:1")
    z = (y * 3).to("cuda:0")
    assert [t.device for t in (y, z)] == ["cuda:1", "cuda:0"]
    with fn.cuda.device(1):  # what "cuda" means now is not what it meant then
        z.backward(fn.ones(33, 20, device="cuda:0"))
    assert x.grad.device == "cuda:0"
    np.testing.assert_array_equal(host(z), 6 * np.maximum(X, 0))
    np.testing.assert_array_equal(host(x.grad), 6.0 * (X > 0))
    images = fn.tensor(X[:32].reshape(4, 4, 5, 8), device="cuda:1").contiguous("channels_last")
    assert images.to("cuda:0").layout == "nhwc"
    np.testing.assert_array_equal(host(images.to("cuda:0").contiguous()), host(images.contiguous()))
    target = fn.zeros(33, 20, device="cuda:1")
    target.copy_(x.detach())
    target.copy_(target + 1)  # the copy is before
    np.testing.assert_array_equal(host(target), X + 1)
    for _ in range(20):  # the source goes back to its device, and is written again
        (x.detach() + 1).to("cuda:1")
        fn.zeros(33, 20, device="cuda:0").copy_(x.detach())
    np.testing.assert_array_equal(host((x.detach() + 1).to("cuda:1")), X + 1)
    assert fn.zeros(0, 3, device="cuda:0").to("cuda:1").device == "cuda:1"
    fn.zeros(1, device="cuda:0").to("cpu"), fn.zeros(1, device="cuda:1").to("cpu")  # all is done


def test_modules_optimizers_and_checkpoints_on_another_index(tmp_path):
    weights, _, trainer = fitted("cuda:1", network)
    path = str(tmp_path / "a.safetensors")
    trainer.save(path)
    _, _, other = fitted("cuda:0", network)
    other.load(path)
    for name, p in other.model.state_dict().items():
        assert p.device == "cuda:0"
        np.testing.assert_array_equal(host(p), weights[name])
    net = trainer.model.to("cuda:0")
    assert {p.device for p in net.state_dict().values()} == {"cuda:0"}


def test_batches_for_another_index():
    with fn.cuda.device(1):
        loader = Loader(X, np.arange(33), 8, shuffle=False, pin_memory=True)
        moved = [fn.from_numpy(x).to("cuda", non_blocking=True) for x, _ in loader]
    assert {x.device for x in moved} == {"cuda:1"}
    np.testing.assert_array_equal(np.concatenate([host(x) for x in moved]), X)


def test_what_is_drawn_does_not_depend_on_the_index():
    drawn = []
    for device in (*DEVICES, "cpu"):
        fn.manual_seed(3)
        x = fn.ones(40, 5).to(device)
        drawn.append([host(F.dropout(x, 0.5)) for _ in range(2)])
    for masks in drawn[1:]:
        np.testing.assert_array_equal(masks, drawn[0])


# ---- what is refused -----------------------------------------------------------------------------


MIXED = (
    r"^\w+: expected \w.* on (cuda:\d)( like \w+)?, got (?!\1)cuda:\d; move it with .to\('\1'\)$"
)


@pytest.mark.parametrize("op", [op for op in OPS if op.cuda is None], ids=lambda op: op.short)
def test_arguments_on_two_devices_are_refused_by_name(op):
    sample = op.sample(*op.cases[0], "float32")
    inputs = to_tensors(op, sample.inputs, "float32")
    inputs = [x if x is None else x.detach().to("cuda:0") for x in inputs]
    present = [i for i, x in enumerate(inputs) if x is not None]
    for i in present if len(present) > 1 else ():
        moved = list(inputs)
        moved[i] = inputs[i].to("cuda:1")
        with pytest.raises(ValueError, match=MIXED):
            op.call(*moved, **sample.params)


def test_messages_of_mixed_devices():
    x, w = fn.ones(4, 3, device="cuda:0"), fn.ones(2, 3, device="cuda:1")
    for call, text in (
        (lambda: F.linear(x, w), "linear: expected weight on cuda:0, got cuda:1; move it with "
         ".to('cuda:0')"),
        (lambda: x + x.to("cuda:1"), "add: expected other on cuda:0 like input, got cuda:1; move "
         "it with .to('cuda:0')"),
        (lambda: x * x.to("cpu"), "mul: expected other on cuda:0 like input, got cpu; move it with "
         ".to('cuda:0')"),
        (lambda: F.cross_entropy(x, fn.tensor([0, 1, 2, 0], device="cuda:1")),
         "cross_entropy: expected target on cuda:0, got cuda:1; move it with .to('cuda:0')"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            call()


def test_parameters_on_two_devices():
    nets = [nn.Linear(3, 2).to(device) for device in DEVICES]
    optimizer = fn.optim.SGD([p for net in nets for p in net.parameters()], lr=0.1)
    for net, device in zip(nets, DEVICES, strict=True):
        net(fn.ones(1, 3, device=device)).sum().backward()
    text = r"^sgd: expected parameter 2 on cuda:0, got cuda:1; move it with .to\('cuda:0'\)$"
    before = [host(p) for p in nets[0].parameters()]
    with pytest.raises(ValueError, match=text):
        optimizer.step()
    for p, value in zip(nets[0].parameters(), before, strict=True):
        np.testing.assert_array_equal(host(p), value)


def test_a_recorded_step_is_of_one_device():
    a, b = fn.ones(3, device="cuda:0"), fn.ones(3, device="cuda:1")
    text = (
        "capture: expected one CUDA device in a step, got cuda:0 and cuda:1; record a function for "
        "each"
    )
    step = fn.capture(lambda: (F.relu(a), F.relu(b)))
    with pytest.raises(fn.CaptureError, match=f"^{re.escape(text)}$"):
        step()
    steps = [fn.capture(lambda x, v=v: F.relu(v * x)) for v in (a, b)]
    for _ in range(3):
        results = [step(v * 2) for step, v in zip(steps, (a, b), strict=True)]
        assert [r.device for r in results] == list(DEVICES)
        np.testing.assert_array_equal(host(results[0]), host(results[1]))


# ---- the thread's device -------------------------------------------------------------------------


def every_call(device):
    """At least one call of each kind."""
    x = fn.tensor(X, device=device, requires_grad=True)
    net = nn.Sequential(nn.Linear(20, 4), nn.Dropout(0.1)).to(device)
    F.cross_entropy(net(x), fn.tensor(np.arange(33) % 4, device=device)).backward()
    fn.optim.Adam(net.parameters()).step()
    step = fn.capture(lambda v: F.relu(v))
    for _ in range(3):
        step(x.detach())
    for batch, _ in Loader(X, None, 8, pin_memory=True):
        fn.from_numpy(batch).to(device, non_blocking=True)
    x.to("cuda:0" if device == "cuda:1" else "cuda:1").to("cpu")
    fn.cuda.info(device), fn.cuda.device_description(device)
    with pytest.raises(ValueError, match="expected 0 <= target < 4, got 9"):
        F.cross_entropy(net(x), fn.tensor([9] * 33, device=device))
    with pytest.raises(MemoryError):
        fn.zeros(1 << 43, device=device)


@only_emulated
@pytest.mark.parametrize("before", [-1, 0, 1])
@pytest.mark.parametrize("device", DEVICES)
def test_the_current_device_is_left_as_it_was(device, before):
    """That of the CUDA runtime, which another library set on this thread; -1: nobody did."""
    seen = []

    def work():
        if before >= 0:
            emulator().fastnn_emulator_set_device(before)
        every_call(device)
        seen.append(emulator().fastnn_emulator_current_device())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_threads_with_a_device_each():
    """At the same time, and with the results that each has alone."""
    results = {}

    def work(device):
        with fn.cuda.device(device):
            net = nn.Linear(20, 4).to("cuda")
            for p in net.parameters():
                p.copy_(fn.ones(*p.shape))
            x = fn.tensor(X, device="cuda")
            for _ in range(30):
                net(x).sum().backward()
            results[device] = [host(p.grad) for p in net.parameters()]

    threads = [threading.Thread(target=work, args=(device,)) for device in DEVICES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(*(results[d] for d in DEVICES), strict=True):
        np.testing.assert_array_equal(a, b)


def in_a_process(work):
    return subprocess.run(
        [sys.executable, "-c", work],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONFAULTHANDLER": "0"},
    )


@only_emulated
def test_no_context_where_nobody_asked_for_one():
    work = (
        "import ctypes, os, fastnn as fn\n"
        "from fastnn import nn\n"
        "library = ctypes.CDLL(os.environ['FASTNN_CUDA_LIBRARY'])\n"
        "assert fn.cuda.device_count() == 2 and library.fastnn_emulator_contexts() == 0\n"
        "net = nn.Linear(3, 2).to('cuda:1')\n"
        "trainer = fn.Trainer(net, nn.MSELoss(), fn.optim.SGD(net.parameters()))\n"
        "trainer.fit(fn.ones(8, 3).numpy(), fn.ones(8, 2).numpy(), epochs=2, verbose=0)\n"
        "fn.from_numpy(fn.ones(3).numpy()).to('cuda:1', non_blocking=True)\n"
        "print(library.fastnn_emulator_contexts(), fn.cuda.device_description(1))\n"
    )
    done = in_a_process(work)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 fastnn emulator")


@only_emulated
def test_memory_of_a_device_is_touched_by_its_own_work_only():
    """The emulator's part, on which the others stand."""
    work = (
        "import ctypes, fastnn as fn\n"
        "from fastnn import _core\n"
        "x = fn.ones(4, device='cuda:{}')\n"
        "fn.ones(4, device='cuda:1').to('cpu')\n"
        "print(ctypes.c_float.from_address(_core.data_pointer(x)).value)\n"
    )
    assert in_a_process(work.format(1)).stdout == "1.0\n"  # it was the last that worked
    done = in_a_process(work.format(0))
    text = "emulator: memory of device 0 was touched by work that is not its own\n"
    assert done.returncode < 0
    assert done.stderr.startswith(text)
