"""Augmentation in training: captured as eager, resumed to the bit, validation without chance; and
the Loader, which makes batches ahead."""

import re
import time

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core, nn
from fastnn.data import Loader, augment

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (70, 3, 12, 12), dtype=np.uint8)
Y = RNG.integers(0, 4, 70)
PLAIN = [
    augment.RandomCrop(12, padding=2),
    augment.RandomHorizontalFlip(),
    augment.ToDtype("float32", scale=True),
    augment.Normalize(0.5, 0.25),
]


def roll(image, rng):
    return np.roll(image, rng.integers(3), -1)


PIPELINES = {
    "native": augment.Compose(PLAIN),
    "mixup": augment.Compose([*PLAIN, augment.MixUp(alpha=0.4, num_classes=4)]),
    "function": augment.Compose([roll, *PLAIN, augment.CutMix(num_classes=4)]),
}


def make(capture=True, **flags):
    fn.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(400, 4)
    )
    optimizer = fn.optim.Adam(model.parameters(), lr=1e-2)
    return fn.Trainer(model, nn.CrossEntropyLoss(), optimizer, capture=capture, **flags)


def fit(trainer, pipeline, **options):
    arguments = {"batch_size": 16, "epochs": 2, "verbose": 0, "seed": 3, **options}
    history = trainer.fit(X, Y, augment=PIPELINES[pipeline], **arguments)
    return history, [p.detach().numpy().tobytes() for p in trainer.model.parameters()]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_captured_as_eager_on_any_threads(pipeline):
    history, weights = fit(make(), pipeline, validation_split=0.2)
    again, eager = fit(make(capture=False), pipeline, validation_split=0.2)
    threads = fn.get_num_threads()
    fn.set_num_threads(1)
    try:
        _, alone = fit(make(), pipeline, validation_split=0.2)
    finally:
        fn.set_num_threads(threads)
    assert weights == eager == alone
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert history.history[name] == again.history[name]


def test_steps_see_the_images_of_their_epoch():
    """The losses are those of a loop by hand over what the pipeline makes of each epoch."""
    history, _ = fit(make(), "native", shuffle=False)
    trainer = make(capture=False)
    for epoch, expected in enumerate(history.history["loss"]):
        images = PIPELINES["native"](X, seed=3, epoch=epoch)
        alone = trainer.fit(
            images, Y, batch_size=16, epochs=epoch + 1, initial_epoch=epoch, verbose=0,
            shuffle=False, seed=3,
        )  # fmt: skip
        assert alone.history["loss"] == [expected]


class StopAt(fn.train.Callback):
    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_end(self, batch, logs=None):
        if self.trainer.epoch == 1 and batch == self.batch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_resumes_to_the_bit(tmp_path, pipeline):
    _, expected = fit(make(), pipeline)
    trainer = make()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, pipeline, callbacks=[StopAt(2)])
    path = str(tmp_path / "last.safetensors")
    trainer.save(path)
    other = make()
    other.load(path)
    _, resumed = fit(other, pipeline, initial_epoch=None)
    assert resumed == expected


@pytest.mark.parametrize("pipeline", ["native", "function"])
def test_with_class_weights_and_accumulation(tmp_path, pipeline):
    """Captured as eager, and resumed in the middle of an epoch to the bit; weights do count."""
    steps = augment.Compose([roll, *PLAIN] if pipeline == "function" else PLAIN)
    weights = {0: 3.0, 2: 0.25}

    def run(trainer, **options):
        arguments = {"batch_size": 8, "epochs": 2, "verbose": 0, "seed": 3, "class_weight": weights}
        trainer.fit(X, Y, augment=steps, **{**arguments, **options})
        return [p.detach().numpy().tobytes() for p in trainer.model.parameters()]

    expected = run(make(accumulate_grad_batches=2))
    assert run(make(False, accumulate_grad_batches=2)) == expected
    assert run(make(accumulate_grad_batches=2), class_weight=None) != expected
    trainer = make(accumulate_grad_batches=2)
    with pytest.raises(KeyboardInterrupt):
        run(trainer, callbacks=[StopAt(2)])
    assert 0 < trainer.position.done < 70
    path = str(tmp_path / "last.safetensors")
    trainer.save(path)
    other = make(accumulate_grad_batches=2)
    other.load(path)
    assert run(other, initial_epoch=None) == expected


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_validation_has_no_chance(pipeline):
    trainer = make()
    history, _ = fit(trainer, pipeline, validation_data=(X[:30], Y[:30]))
    plain = PIPELINES[pipeline].evaluation()
    values = trainer.evaluate(plain(X[:30]), Y[:30])
    assert history.history["val_loss"][-1] == values["loss"]
    assert history.history["val_accuracy"][-1] == values["accuracy"]


def test_errors_come_before_anything_changes():
    trainer = make()
    before = [p.detach().numpy().tobytes() for p in trainer.model.parameters()]
    message = "fit: x: expected images of shape (n, channels, height, width), got (70, 3, 12)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        trainer.fit(X[:, :, :, 0], Y, augment=PIPELINES["native"])
    wrong = int(np.flatnonzero(Y + 2 > 3)[0])
    message = (
        f"fit: expected 0 <= y < 4, one class per output of the model, got {Y[wrong] + 2} at "
        f"y[{wrong}]"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        trainer.fit(X, Y + 2, augment=PIPELINES["mixup"])
    message = (
        "fit: expected no MixUp with weights, since a mixed image is of two samples; use "
        "fn.train.BalancedSampler"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        trainer.fit(X, Y, augment=PIPELINES["mixup"], class_weight={0: 2.0})
    assert before == [p.detach().numpy().tobytes() for p in trainer.model.parameters()]


def test_a_function_that_fails_ends_the_fit():
    def broken(image):
        raise RuntimeError("no image today")

    with pytest.raises(RuntimeError, match="no image today"):
        make().fit(X, Y, augment=augment.Compose([broken, *PLAIN]), verbose=0)


# ---- the loader ---------------------------------------------------------------------------------


def test_loader_gives_what_the_pipeline_makes():
    whole = PIPELINES["native"](X, seed=5, epoch=1)
    for ahead in (0, 2):
        loader = Loader(X, Y, 16, augment=PIPELINES["native"], seed=5, prefetch=ahead)
        list(loader)
        order = fn.random.permutation(70, 5, 1)
        batches = list(loader)
        assert [len(x) for x, _ in batches] == [16, 16, 16, 16, 6]
        assert (np.concatenate([x for x, _ in batches]) == whole[order]).all()
        assert (np.concatenate([y for _, y in batches]) == Y[order]).all()


def test_loader_goes_on_by_sample():
    first = Loader(X, Y, 16, augment=PIPELINES["function"], seed=1)
    seen = [next(iter(first))]
    other = Loader(X, Y, 16, augment=PIPELINES["function"], seed=1)
    other.load_state_dict(first.state_dict())
    seen += list(other)
    whole = list(Loader(X, Y, 16, augment=PIPELINES["function"], seed=1))
    for (x, y), (a, b) in zip(seen, whole, strict=True):
        assert (x == a).all()
        assert (y == b).all()


def test_loader_of_lazy_samples():
    class Images:
        def __len__(self):
            return 9

        def __getitem__(self, i):
            return X[i]

    loader = Loader(Images(), batch_size=4, shuffle=False, drop_last=True)
    assert len(loader) == 2
    assert (np.concatenate([x for x, _ in loader]) == X[:8]).all()


def test_prefetcher_works_ahead_and_stops():
    made = []
    ahead = _core.prefetch(lambda i: made.append(i) or i, 100, 2)
    assert ahead.get() == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    ahead.close()
    assert made == [0, 1, 2, 3]  # one given, two ready, one in hand


def test_prefetcher_raises_where_it_is_asked():
    ahead = _core.prefetch(lambda i: 1 // (1 - i), 5, 2)
    assert ahead.get() == 1
    with pytest.raises(ZeroDivisionError):
        ahead.get()
    ahead.close()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Loader(X, Y[:3]), "Loader: expected as many labels as samples, got 3 for 70"),
        (
            lambda: Loader(X, Y, 0),
            "Loader: expected batch_size >= 1 and prefetch >= 0, got 0 and 2",
        ),
        (
            lambda: list(Loader(X, augment=PIPELINES["mixup"])),
            "MixUp: expected labels to mix, got none",
        ),
    ],
)
def test_loader_errors(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
