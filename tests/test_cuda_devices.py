"""Two CUDA devices: the same results on each, and copies between them. On two GPUs, or under the
emulator with FASTNN_EMULATOR_DEVICES=2.
"""

import re
import threading

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import DEVICES, host, two_devices
from fastnn import F, nn
from fastnn.data import Loader
from fastnn.testing.harness import to_tensors
from fastnn.testing.ops import OPS
from test_cuda_training import fitted, network, train_digits

pytestmark = [pytest.mark.gpu, two_devices]
X = np.random.default_rng(0).normal(size=(33, 20)).astype(np.float32)


def moved(x, device):
    if x is None:
        return None
    y = x.detach().to(device)
    y.requires_grad = x.requires_grad
    return y


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


def test_a_recorded_function_knows_what_cuda_means():
    step = fn.capture(lambda: fn.ones(3, device="cuda") * 2)
    for _ in range(2):
        for index, device in enumerate(DEVICES):
            with fn.cuda.device(index):
                assert step().device == device


# ---- between them --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_lazy", [False, True])
def test_copies_between_devices_and_their_gradients(is_lazy, monkeypatch):
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
