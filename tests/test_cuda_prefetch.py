"""Batches for a CUDA device: in page-locked memory, copied while the host goes on, and never
overwritten before the device has read them. On a GPU, or under the emulator on any CPU."""

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import is_emulated, needs_cuda
from fastnn import _core, nn
from fastnn.data import Loader, augment

pytestmark = [
    pytest.mark.gpu,
    needs_cuda,
]
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(960, 700)).astype(np.float32)
IMAGES = RNG.integers(0, 256, (90, 3, 8, 8), dtype=np.uint8)
LABELS = RNG.integers(0, 4, 960)


def roll(image, rng):
    return np.roll(image, rng.integers(3), -1)


FLOATS = [augment.RandomHorizontalFlip(), augment.ToDtype("float32", scale=True)]
PIPELINES = {
    "native": augment.Compose(FLOATS),
    "mixed": augment.Compose([*FLOATS, augment.MixUp(num_classes=4)]),
    "function": augment.Compose([roll, *FLOATS]),
}


def pinned(name):
    return _core.pinned_memory_stats()[name]


@pytest.fixture(autouse=True)
def _nothing_cached():
    _core.trim_memory()


@pytest.fixture
def lazy(monkeypatch):
    """The device does its work only when the host waits for it."""
    if not is_emulated:
        pytest.skip("only the emulator waits")
    monkeypatch.setenv("FASTNN_EMULATOR_LAZY", "1")
    yield
    fn.ones(1).to("cuda").to("cpu")  # all is done


@pytest.mark.parametrize("kind", ["rows", "list", *PIPELINES])
def test_batches_are_page_locked_and_the_same(kind):
    x = {"rows": ROWS, "list": list(ROWS)}.get(kind, IMAGES)
    options = {"batch_size": 32, "augment": PIPELINES.get(kind), "seed": 3}
    plain = Loader(x, LABELS[: len(x)], **options)
    loader = Loader(x, LABELS[: len(x)], pin_memory=True, **options)
    before, blocks = pinned("system_allocations"), pinned("live_blocks")
    for _ in range(2):
        for (a, b), (c, d) in zip(loader, plain, strict=True):
            assert pinned("live_bytes") >= a.nbytes + b.nbytes
            np.testing.assert_array_equal(a, c)
            np.testing.assert_array_equal(b, d)
    # At most: one given, two ready, one in hand, each of x and y, and smaller last ones.
    assert 2 <= pinned("system_allocations") - before <= 16
    del a, b
    assert pinned("live_blocks") == blocks


def test_memory_that_the_device_has_not_read_is_not_given_again(lazy):
    """Each copy waits in the stream, and its batch is let go of at once."""
    loader = Loader(ROWS, LABELS, 32, shuffle=False, prefetch=1, pin_memory=True)
    before = pinned("system_allocations")
    moved = [fn.from_numpy(x).to("cuda", non_blocking=True) for x, _ in loader]
    allocations = pinned("system_allocations") - before
    for i, tensor in enumerate(moved):
        np.testing.assert_array_equal(np.array(tensor.to("cpu")), ROWS[32 * i : 32 * i + 32])
    assert allocations <= 2 * (8 + 5)  # so many copies are under way before the host waits


def test_copies_in_place_are_read_later(lazy):
    target = fn.zeros(32, 700).to("cuda")
    batch = _core.pin(ROWS[:32])
    target.copy_(batch, non_blocking=True)
    batch[:] = 7  # too early: what the documentation warns of
    np.testing.assert_array_equal(np.array(target.to("cpu")), np.full((32, 700), 7))
    ordinary = ROWS[:32].copy()
    target.copy_(ordinary, non_blocking=True)
    ordinary[:] = 7
    np.testing.assert_array_equal(np.array(target.to("cpu")), ROWS[:32])


def test_a_copy_holds_its_memory_until_the_device_has_read_it(lazy):
    target = fn.zeros(32, 700).to("cuda")
    before = pinned("live_blocks")
    target.copy_(_core.pin(ROWS[:32]), non_blocking=True)
    assert pinned("live_blocks") == before + 1
    np.array(target.to("cpu"))
    assert pinned("live_blocks") == before


@pytest.mark.parametrize("is_lazy", [False, True])
def test_the_trainer_feeds_page_locked_batches(is_lazy, request):
    if is_lazy:
        request.getfixturevalue("lazy")
    weights, allocations = {}, {}
    for device in ("cpu", "cuda"):
        fn.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).to(device)
        trainer = fn.Trainer(net, nn.CrossEntropyLoss(), fn.optim.SGD(net.parameters(), lr=0.1))
        before = pinned("system_allocations")
        trainer.fit(
            IMAGES, LABELS[:90], batch_size=16, epochs=3, verbose=0, seed=1,
            augment=PIPELINES["function"],
        )  # fmt: skip
        allocations[device] = pinned("system_allocations") - before
        weights[device] = np.array(net[1].weight.detach().to("cpu"))
    assert allocations["cpu"] == 0
    assert 1 <= allocations["cuda"] <= 16
    np.testing.assert_allclose(weights["cuda"], weights["cpu"], rtol=1e-4, atol=1e-5)
