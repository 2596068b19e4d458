"""Augmentation on the CUDA library: the CPU's pictures to the bit, by the same program."""

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import is_emulated, needs_cuda
from fastnn import _core, nn
from fastnn.data import augment
from fastnn.data.augment.run import Runner
from test_augment import EVERY, FLOATS, IMAGES, NORMALIZED, name_of

pytestmark = [
    pytest.mark.gpu,
    needs_cuda,
]
ORDER = np.array([7, 0, 31, 12, 5])


def run(transform, images, device, channels_last=False, order=ORDER):
    """Some of the images, as a step takes them."""
    if channels_last:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    is_float = images.dtype == np.float32
    runner = Runner(transform, images.shape[1:], is_float, channels_last, device)
    runner.start(7, 3)
    x, index, cursor, labels = (
        _core.to_device(_core.clone(v), device)
        for v in (images, np.append(order[:1], order), np.array([1]), np.arange(len(order)) % 4)
    )
    y, shares = runner.mix(runner.launch(x, index, cursor, len(order)), labels, index, cursor)
    return np.array(y.to("cpu")), np.array(shares.to("cpu"))


def check_like(cuda, cpu):
    """The same bits; without FMA on the CPU, but for a few pixels that round to another."""
    if fn.system.info()["cpu"].startswith(("v3", "v4")):
        np.testing.assert_array_equal(cuda, cpu)
    else:
        assert (np.abs(cuda.astype(np.float64) - cpu) > 1e-3).mean() < 0.02


@pytest.mark.parametrize("transform", [*EVERY, NORMALIZED], ids=name_of)
@pytest.mark.parametrize("images", [IMAGES, FLOATS], ids=["uint8", "float32"])
def test_pictures_have_the_bits_of_the_cpu(transform, images):
    cpu, _ = run(transform, images, "cpu")
    check_like(run(transform, images, "cuda")[0], cpu)
    last, _ = run(transform, images, "cuda", channels_last=True, order=ORDER[:2])
    check_like(last.transpose(0, 3, 1, 2), cpu[:2])


@pytest.mark.parametrize(
    "mix", [augment.MixUp(0.4, num_classes=4), augment.CutMix(num_classes=4, p=0.8)], ids=name_of
)
def test_mixed_as_on_the_cpu(mix):
    for images in (IMAGES, FLOATS) if isinstance(mix, augment.CutMix) else (FLOATS,):
        for cuda, cpu in zip(run(mix, images, "cuda"), run(mix, images, "cpu"), strict=True):
            check_like(cuda, cpu)


@pytest.mark.skipif(not is_emulated, reason="only the emulator has schedules")
@pytest.mark.parametrize("images", [IMAGES, FLOATS], ids=["uint8", "float32"])
def test_no_picture_depends_on_the_schedule(images, monkeypatch):
    pipeline = augment.Compose(
        [
            augment.RandomResizedCrop(24),
            augment.ColorJitter(0.4, 0.4, 0.4, 0.1),
            augment.RandomAffine(20),
            augment.RandomEqualize(1.0),
            augment.RandomAutocontrast(1.0),
            augment.RandomAdjustSharpness(1.7, 1.0),
            augment.RandomErasing(1.0),
            augment.ToDtype("float32", scale=True),
            augment.MixUp(0.4, num_classes=4),
        ]
    )
    results = []
    for schedule in ("forward", "reverse", "random:1"):
        monkeypatch.setenv("FASTNN_EMULATOR_SCHEDULE", schedule)
        results.append(run(pipeline, images, "cuda"))
    for y, shares in results[1:]:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(shares, results[0][1])


def test_a_label_out_of_range_is_named():
    mix = augment.MixUp(num_classes=3)
    message = r"^MixUp: expected 0 <= labels < 3, got 3 at labels\[3\]$"
    with pytest.raises(ValueError, match=message):
        run(mix, FLOATS, "cuda")


def fitted(device, capture=True):
    fn.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 8), nn.ReLU(), nn.Linear(8, 4))
    model.to(device)
    trainer = fn.Trainer(
        model, nn.CrossEntropyLoss(), fn.optim.Adam(model.parameters(), lr=1e-3), capture=capture
    )
    pipeline = augment.Compose(
        [
            augment.RandomCrop(12, padding=2),
            augment.RandomHorizontalFlip(),
            augment.ToDtype("float32", scale=True),
            augment.MixUp(alpha=0.4, num_classes=4),
        ]
    )
    history = trainer.fit(
        IMAGES[:38, :, :12, :12], np.arange(38) % 4, augment=pipeline, batch_size=16, epochs=2,
        verbose=0, seed=3, validation_split=0.2,
    )  # fmt: skip
    return history.history


@pytest.mark.filterwarnings("error")
def test_trains_on_the_device_as_on_the_cpu():
    cuda, eager, cpu = fitted("cuda"), fitted("cuda", capture=False), fitted("cpu")
    for name in ("loss", "val_loss"):
        assert cuda[name] == eager[name]
        np.testing.assert_allclose(cuda[name], cpu[name], rtol=1e-4)
