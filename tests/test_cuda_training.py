"""Whole training runs on the CUDA library: on a GPU, or under the emulator on any CPU."""

import json

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import needs_cuda
from fastnn import nn
from fastnn.cli.app import app
from typer.testing import CliRunner

pytestmark = [
    pytest.mark.gpu,
    needs_cuda,
]
SMALL = [
    "--set=model.hidden=[32]",
    "--set=train.epochs=2",
    "--set=train.batch_size=64",
    "--set=train.max_grad_norm=1.0",
    "--set=schedule.name='cosine'",
]


def train_digits(folder, device, *settings):
    arguments = ["train", "digits", "-q", "--json", "--device", device, "-o", str(folder)]
    result = CliRunner().invoke(app, [*arguments, *SMALL, *settings])
    assert result.exit_code == 0, result.stderr
    assert "not captured" not in result.stderr
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return json.loads(result.stdout), [json.loads(line) for line in lines]


def test_digits_by_the_command_line_as_on_the_cpu(tmp_path):
    """The same batches, masks and steps; sums in another order: losses agree to 1e-4."""
    cpu, cpu_lines = train_digits(tmp_path / "cpu", "cpu")
    cuda, cuda_lines = train_digits(tmp_path / "cuda", "cuda")
    assert len(cpu_lines) == len(cuda_lines) > 0
    for a, b in zip(cpu_lines, cuda_lines, strict=True):
        assert (a["epoch"], a["step"], a["split"]) == (b["epoch"], b["step"], b["split"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    assert cuda["test_accuracy"] == pytest.approx(cpu["test_accuracy"], abs=0.01)


def fitted(device, model, optimizer=fn.optim.Adam, capture=True, **options):
    """Weights and losses of a short fit; the seed fixes weights, batches and masks."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(70, 6)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    fn.manual_seed(1)
    net = model().to(device)
    trainer = fn.Trainer(
        net, nn.CrossEntropyLoss(), optimizer(net.parameters()), capture=capture, **options
    )
    history = trainer.fit(x, y, batch_size=16, epochs=3, verbose=0, validation_split=0.2)
    weights = {name: np.array(p.detach().to("cpu")) for name, p in net.state_dict().items()}
    return weights, history.history["loss"], trainer


def network():
    return nn.Sequential(
        nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(), nn.Dropout(0.25), nn.Linear(16, 2)
    )


def batch_normed():
    return nn.Sequential(
        nn.Linear(6, 16, bias=False),  # its gradient would be rounding alone, which Adam magnifies
        nn.BatchNorm1d(16),
        nn.PReLU(),
        nn.GaussianDropout(0.1),
        nn.Linear(16, 2),
    )


class _Image(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 1, 2, 3)


def convolutional():
    return nn.Sequential(
        _Image(),
        nn.Conv2d(1, 4, 2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Tanh(),
        nn.ConvTranspose2d(4, 5, 2, stride=2),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(60, 2),
    )


MODELS = [network, batch_normed, convolutional]


@pytest.mark.parametrize("model", MODELS)
def test_a_recorded_step_has_the_bits_of_an_eager_one(model):
    recorded, losses, _ = fitted("cuda", model)
    eager, eager_losses, _ = fitted("cuda", model, capture=False)
    assert losses == eager_losses
    for name, value in recorded.items():
        np.testing.assert_array_equal(value, eager[name], err_msg=name)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.filterwarnings("error")
def test_mixed_precision_learns_as_float32_does(precision):
    """Recorded steps have the bits of eager ones, the scale of the loss and all."""
    fits = [
        fitted("cuda", network, capture=c, gradient_clip_val=1.0, precision=precision)
        for c in (True, False)
    ]
    for name, value in fits[0][0].items():
        np.testing.assert_array_equal(value, fits[1][0][name], err_msg=name)
    assert fits[0][1] == fits[1][1]
    full, losses, _ = fitted("cuda", network, gradient_clip_val=1.0)
    np.testing.assert_allclose(fits[0][1], losses, rtol=0.03)
    assert any((value != fits[0][0][name]).any() for name, value in full.items())
    scaler = fits[0][2].precision.scaler
    assert (scaler is None) == (precision == "bf16-mixed")
    if scaler is not None:
        assert scaler.state_dict()["_growth_tracker"] == fits[0][2].optimizer.step_count > 0


def test_a_float16_step_that_overflows_is_left_out():
    """2^40 makes every gradient infinite: steps are skipped until the scale is small enough."""
    x = fn.tensor(np.ones((4, 6), np.float32), device="cuda")
    net = network().to("cuda")
    optimizer = fn.optim.SGD(net.parameters(), lr=0.01)
    scaler = fn.amp.GradScaler(init_scale=2.0**40)
    scales, counts = [], []
    for _ in range(30):
        optimizer.zero_grad()
        with fn.autocast("cuda"):
            y = net(x)
        assert y.dtype == "float16"
        scaler.scale(fn.F.mse_loss(y.to("float32"), fn.zeros(4, 2).to("cuda"))).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
        counts.append(optimizer.step_count)
    assert 10 < counts.count(0) < counts[-1] + 20 < 30
    for before, scale, last, count in zip(
        [2.0**40, *scales], scales, [0, *counts], counts, strict=False
    ):
        assert (scale, count) in ((before, last + 1), (before / 2, last))
    assert all(np.isfinite(np.array(p.detach().to("cpu"))).all() for p in net.parameters())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("error")
def test_training_as_on_the_cpu(model):
    cuda, losses, _ = fitted("cuda", model, gradient_clip_val=1.0)
    cpu, cpu_losses, _ = fitted("cpu", model, gradient_clip_val=1.0)
    np.testing.assert_allclose(losses, cpu_losses, rtol=1e-4)
    for name, value in cuda.items():
        np.testing.assert_allclose(value, cpu[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_the_generator_moves_with_the_model():
    """What is drawn depends on the seed and on how many draws came before, on any device."""
    x = fn.ones(5, 40)
    masks = []
    for devices in (("cpu", "cpu", "cpu"), ("cuda", "cpu", "cuda")):
        fn.manual_seed(7)
        draws = [fn.F.dropout(x.to(device), 0.5).to("cpu") for device in devices]
        masks.append(np.stack([np.array(d) for d in draws]))
    np.testing.assert_array_equal(masks[0], masks[1])
    assert fn.random.get_state()["dropout"] == [7, 3]


def test_a_bad_loss_stops_training_and_changes_nothing_more():
    """The kernels find it; the host raises after the native call, with the weights before it."""
    net = nn.Linear(2, 2).to("cuda")
    trainer = fn.Trainer(net, nn.CrossEntropyLoss(), fn.optim.SGD(net.parameters(), lr=3e38))
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    with pytest.raises(ValueError, match="nothing was updated"):
        trainer.fit(x, (x[:, 0] > 0).astype(int), batch_size=8, epochs=5, verbose=0)
    assert np.isfinite(np.array(net.weight.detach().to("cpu"))).all()
