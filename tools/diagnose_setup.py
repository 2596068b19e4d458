"""The trainings of diagnose_runs.py: architectures, rates and seeds of both sets."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import fastnn as fn
import numpy as np
from diagnose_data import DATA, Data
from fastnn import F, nn, optim


class Mish(nn.Module):
    """x tanh(log(1 + e^x))."""

    def forward(self, x: Any) -> Any:
        return x * F.tanh(F.softplus(x))


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


def low_elu() -> nn.Module:
    return nn.ELU(0.5)


ACTIVATIONS = {
    "dev": (
        nn.ReLU, nn.Tanh, nn.GELU, nn.ELU, nn.LeakyReLU, nn.SiLU, nn.SELU, nn.Softplus,
        nn.Hardswish, nn.ReLU6, nn.PReLU, nn.Hardtanh,
    ),
    "held-out": (nn.Swish, Mish, leaky, low_elu),
}  # fmt: skip
WIDTHS = {
    "dev": (
        [32], [64], [64, 64], [48], [96, 48], [40, 40, 40], [72], [120, 30], [56, 56, 28],
        [80], [100, 50], [52, 52], [44, 44, 44], [128, 32, 32],
    ),
    "held-out": ([60], [88], [110, 44], [36, 36, 36], [76, 76], [150, 50, 24]),
}  # fmt: skip
RESIDUAL = {"dev": 0.2, "held-out": 0.3}  # how often layers of one width are added to their input
NORMS = {
    "dev": (
        None, None, nn.BatchNorm1d, nn.LayerNorm, nn.RMSNorm, lambda width: nn.GroupNorm(2, width),
    ),
    "held-out": (None, None, nn.BatchNorm1d, nn.LayerNorm),
}  # fmt: skip
BATCHES = {"dev": (16, 24, 32, 40), "held-out": (20, 28, 48)}
OPTIMIZERS = {
    "dev": ("sgd", "adam", "rmsprop"),
    "held-out": ("sgd", "adam", "rmsprop", "adamw", "nadam"),
}
MAKERS = {
    "sgd": optim.SGD, "adam": optim.Adam, "rmsprop": optim.RMSprop, "adamw": optim.AdamW,
    "nadam": optim.NAdam,
}  # fmt: skip
RATES = {"sgd": (0.01, 0.05), "rmsprop": (1e-3, 4e-3)}  # sound ones; of Adam and its kind:
RATES_OF_ADAM = (2e-3, 8e-3)
SEED = {"dev": 0, "held-out": 7_000_000}


# ---- trainings -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Setup:
    """A sound training, before a bug is injected."""

    data: Data
    hidden: list[int]
    activation: Any
    norm: Any
    dropout: float
    optimizer: str
    lr: float
    epochs: int
    batch_size: int
    seed: int
    train: int = 700
    val: int = 300
    schedule: bool = False
    end: Any = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    fit: dict[str, Any] = dataclasses.field(default_factory=dict)
    init_scale: float = 1.0
    residual: bool = False

    def like(self, **changes: Any) -> Setup:
        """The same training but for some changes."""
        own = {"options": dict(self.options), "fit": dict(self.fit)}
        return dataclasses.replace(self, **{**own, **changes})

    def model(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        width = self.data.x.shape[1]
        if self.data.x.ndim == 4:
            front = [nn.Conv2d(1, 6, 3, padding=1), self.activation(), nn.MaxPool2d(2)]
            layers, width = [*front, nn.Flatten()], 6 * 4 * 4
        elif self.data.x.ndim == 3:
            front = [nn.Conv1d(1, 8, 5, padding=2), self.activation(), nn.AvgPool1d(2)]
            layers, width = [*front, nn.Flatten()], 8 * 12
        for size in self.hidden:
            block: list[nn.Module] = [nn.Linear(width, size)]
            if self.norm is not None:
                block.append(self.norm(size))
            block.append(self.activation())
            if self.dropout:
                block.append(nn.Dropout(self.dropout))
            skips = self.residual and size == width
            layers += [nn.Residual(nn.Sequential(*block))] if skips else block
            width = size
        layers.append(nn.Linear(width, self.data.classes))
        model = nn.Sequential(*layers, *([] if self.end is None else [self.end()]))
        nn.init.auto_(model)
        for p in model.parameters():
            if len(p.shape) > 1 and self.init_scale != 1:
                p.copy_(p.detach() * self.init_scale)
        return model

    def run(self, monitored: bool = False) -> Run:
        fn.manual_seed(self.seed)
        model = self.model()
        momentum = {"momentum": 0.9} if self.optimizer == "sgd" else {}
        maker: Any = MAKERS[self.optimizer]
        optimizer = maker(model.parameters(), lr=self.lr, **momentum, **self.options)
        scheduler = None
        if self.schedule:
            scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer, scheduler=scheduler)
        monitor = fn.train.Monitor()
        train, val = self.data.split(self.train, self.val)
        with contextlib.suppress(ValueError):  # not finite: the history says so
            trainer.fit(
                *train, self.batch_size, self.epochs, validation_data=val, verbose=0,
                callbacks=[monitor] * monitored, seed=self.seed, **self.fit,
            )  # fmt: skip
        return Run(trainer.history, monitor, trainer, train, val)


@dataclasses.dataclass
class Run:
    history: Any
    monitor: Any
    trainer: Any
    train: Any
    val: Any
    also: frozenset[str] = frozenset()  # bugs whose remedy mends it besides its own's

    def last(self, name: str) -> float:
        return float(self.history.history.get(name, [float("nan")])[-1])

    def drop(self) -> float:
        """By which share the validation loss fell since the first epoch."""
        return 1 - self.last("val_loss") / self.history.history["val_loss"][0]

    def good(self) -> bool:
        """Whether there is little left to win."""
        return self.last("val_loss") < 0.15 * np.log(self.history.params["classes"])

    def better(self, other: Run, share: float = 0.7) -> bool:
        """Whether another training came to less than that share of the validation loss."""
        return other.history.error is None and other.last("val_loss") < share * self.last(
            "val_loss"
        )

    def fitted(self) -> dict[str, float]:
        """Loss and accuracy on the samples trained on, as in evaluation; NaN if they are lost."""
        with contextlib.suppress(ValueError):
            return self.trainer.evaluate(*self.train)
        return {"loss": float("nan"), "accuracy": float("nan")}

    def reached(self) -> int:
        """The first epoch with half the loss of chance; the number of epochs if there is none."""
        losses = self.history.history["loss"]
        low = 0.5 * np.log(self.history.params["classes"])
        return next((i for i, loss in enumerate(losses) if loss < low), len(losses))

    def settled(self) -> bool:
        """Whether the loss is low, or moved by less than a tenth in the last quarter."""
        losses = self.history.history["val_loss"]
        return self.good() or losses[-1] > 0.9 * losses[-len(losses) // 4]


def sound(rng: Any, part: str, seed: int) -> Setup:
    optimizer = str(rng.choice(OPTIMIZERS[part]))
    low, high = RATES.get(optimizer, RATES_OF_ADAM)
    return Setup(
        data=pick(rng, DATA[part])(rng),
        hidden=list(pick(rng, WIDTHS[part])),
        activation=pick(rng, ACTIVATIONS[part]),
        norm=pick(rng, NORMS[part]),
        dropout=float(rng.choice([0.0, 0.0, 0.1, 0.2])),
        optimizer=optimizer,
        lr=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
        epochs=int(rng.integers(25, 41)),
        batch_size=int(rng.choice(BATCHES[part])),
        seed=seed,
        schedule=bool(rng.random() < 0.3),
        residual=bool(rng.random() < RESIDUAL[part]),
    )


def pick(rng: Any, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]
