"""The lectures' default choices, each with its reason; and models and trainings made of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn import nn, optim

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer

__all__ = ["CHOICES", "Choice", "classifier", "explain", "trainer"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """What to take unless there is a reason for something else.

    Attributes:
        what: The question.
        take: The answer.
        because: Its reason.
        source: Who showed it.
    """

    what: str
    take: str
    because: str
    source: str

    def __str__(self) -> str:
        return f"{self.what}: {self.take}, since {self.because} ({self.source})"


CHOICES = (
    Choice(
        "preprocessing",
        "fn.data.StandardScaler fitted to the training part; for images, their mean off",
        "inputs that are all positive make all gradients of a unit's weights of one sign",
        "LeCun et al. 1998",
    ),
    Choice(
        "activation",
        "ReLU; LeakyReLU, ELU or Maxout for a little more; no sigmoid or tanh in hidden layers",
        "it does not saturate where it is positive, and costs nothing",
        "Nair, Hinton 2010",
    ),
    Choice(
        "initialisation",
        "He's before ReLU, Xavier's before tanh: nn.init.auto_",
        "activations and gradients then keep their size from layer to layer",
        "He et al. 2015",
    ),
    Choice(
        "normalisation",
        "batch norm between a layer and its activation; layer norm for small batches",
        "it allows higher rates and forgives a bad initialisation",
        "Ioffe, Szegedy 2015",
    ),
    Choice(
        "loss",
        "cross-entropy of the logits, without a softmax in the model",
        "both in one are stable, and their gradient is softmax minus target",
        "Bishop 2006",
    ),
    Choice(
        "optimizer",
        "Adam with a rate of 1e-3 to begin with; SGD with Nesterov's momentum 0.9 for the last bit",
        "Adam forgives a wrong rate, tuned SGD often generalises better",
        "Kingma, Ba 2015; Wilson et al. 2017",
    ),
    Choice(
        "learning rate",
        "what fn.train.lr_range_test suggests, lowered by a cosine to 0",
        "it is the option that matters most, and a low end finds the bottom",
        "Smith 2017; Loshchilov, Hutter 2017",
    ),
    Choice(
        "regularisation",
        "dropout in large linear layers, augmentation for images, little weight decay",
        "noise in training that prediction averages out makes the gap to the test smaller",
        "Srivastava et al. 2014",
    ),
    Choice(
        "stopping",
        "the snapshot with the best validation, by EarlyStopping with patience",
        "one worse epoch is noise, ten are overfitting",
        "Prechelt 1998",
    ),
    Choice(
        "babysitting",
        "fastnn check before, fastnn diagnose after",
        "a bug found by a tiny sample costs seconds, found by a long run days",
        "Karpathy 2019",
    ),
)


def explain() -> str:
    """All choices and their reasons, a line for each.

    Example:
        >>> import fastnn as fn
        >>> print(fn.recipes.explain().splitlines()[2])
        initialisation: He's before ReLU, Xavier's before tanh: nn.init.auto_, since activations \
and gradients then keep their size from layer to layer (He et al. 2015)
    """
    return "\n".join(map(str, CHOICES))


def classifier(
    features: int,
    classes: int,
    hidden: Sequence[int] = (128,),
    *,
    batch_norm: bool = True,
    dropout: float = 0.2,
) -> nn.Sequential:
    """A multilayer perceptron of the default choices: He's weights, batch norm, ReLU, dropout.

    Args:
        features: Inputs.
        classes: Outputs, logits.
        hidden: Widths of the hidden layers.
        batch_norm: Whether there is batch norm before each ReLU.
        dropout: Probability of dropping a hidden unit; 0 for none.

    Raises:
        ValueError: If a size is less than 1, or dropout is no probability.

    Example:
        >>> import fastnn as fn
        >>> [type(layer).__name__ for layer in fn.recipes.classifier(64, 10)]
        ['Linear', 'BatchNorm1d', 'ReLU', 'Dropout', 'Linear']
    """
    sizes = [features, *hidden]
    if min(*sizes, classes) < 1:
        raise ValueError(f"classifier: expected sizes >= 1, got {[*sizes, classes]}")
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers.append(nn.Linear(before, after))
        if batch_norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(nn.ReLU())
        if dropout:
            layers.append(nn.Dropout(dropout))
    model = nn.Sequential(*layers, nn.Linear(sizes[-1], classes))
    nn.init.auto_(model)
    return model


def trainer(
    model: nn.Module,
    samples: int,
    epochs: int,
    batch_size: int = 32,
    *,
    optimizer: str = "adam",
    lr: float | None = None,
    weight_decay: float = 1e-4,
) -> Trainer:
    """A Trainer of the default choices: cross-entropy, Adam or SGD, a cosine down to 0.

    Args:
        model: A classifier that puts out logits.
        samples: Size of the data.
        epochs: Those that fit will be given.
        batch_size: Likewise.
        optimizer: ``"adam"`` (AdamW), or ``"sgd"`` with Nesterov's momentum 0.9.
        lr: The first rate; default: 1e-3 or 0.05.
        weight_decay: Decay of the weights.

    Raises:
        ValueError: For another optimizer, or numbers out of range.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> x = np.random.default_rng(0).normal(size=(256, 8))
        >>> y = (x[:, 0] > 0).astype(int)
        >>> trainer = fn.recipes.trainer(fn.recipes.classifier(8, 2), len(x), epochs=20)
        >>> trainer.fit(x, y, epochs=20, verbose=0).history["accuracy"][-1] > 0.8
        True
    """
    from fastnn.train.trainer import Trainer

    made: Any
    if optimizer == "adam":
        made = optim.AdamW(model.parameters(), lr=lr or 1e-3, weight_decay=weight_decay)
    elif optimizer == "sgd":
        made = optim.SGD(
            model.parameters(), lr or 0.05, 0.9, weight_decay=weight_decay, nesterov=True
        )
    else:
        raise ValueError(f"trainer: expected optimizer 'adam' or 'sgd', got {optimizer!r}")
    steps = epochs * -(-samples // batch_size)
    cosine = optim.lr_scheduler.CosineAnnealingLR(made, steps)
    loss = nn.CrossEntropyLoss()
    return Trainer(model, loss, made, scheduler=cosine, scheduler_interval="step")
