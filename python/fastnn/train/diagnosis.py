"""What the curves of a training say: the lectures' table of captions and remedies, by rules."""

from __future__ import annotations

import dataclasses

from fastnn.train.curves import Curves
from fastnn.train.history import History
from fastnn.train.monitor import Monitor
from fastnn.train.rules import FATAL, RULES

__all__ = ["Curves", "Diagnosis", "Problem", "diagnose"]

# What each problem is told with, and what to do about it.
REMEDIES = {
    "diverged": "lower the learning rate, clip gradients, standardise the data; see whether a log, "
    "a division or a softmax of the model's own is numerically unstable",
    "wrong sign": "see the sign of the loss, or maximize=True",
    "not learning": "see whether the optimizer has the model's parameters, its rate is above 0 and "
    "nothing is detached: gradients do not change the weights",
    "not shuffled": "train with shuffle=True",
    "softmax before the loss": "take the softmax off the model: cross-entropy takes logits",
    "learning rate too high": "divide the rate by 10, or warm it up; see fn.train.lr_range_test",
    "slow start": "initialise by nn.init.auto_, or add batch norm: the first weights are too small",
    "learning rate too low": "multiply the rate by 10; see fn.train.lr_range_test",
    "not converged": "train longer",
    "overfit": "take more data, augmentation, dropout, weight decay or a smaller model; keep the "
    "best epoch by EarlyStopping",
    "underfit": "take a larger model, less regularisation, better features, or a higher rate",
    "validation set too small": "validate on more samples, or by cross-validation",
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that the curves show.

    Attributes:
        name: One of the names in ``REMEDIES``.
        evidence: The numbers that show it.
        remedy: What to do about it.
    """

    name: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}; {self.remedy}"


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The problems of a training, the one to mend first at the front; none if it is healthy.

    Attributes:
        problems: In that order.
    """

    problems: tuple[Problem, ...]

    @property
    def name(self) -> str:
        """The first problem's, or ``"healthy"``."""
        return self.problems[0].name if self.problems else "healthy"

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems)) or "healthy: nothing to mend in the curves"


def diagnose(history: History | Curves, monitor: Monitor | None = None) -> Diagnosis:
    """Read the curves of a training and name what is wrong, with the remedy.

    Args:
        history: What fit returned; after an error it is ``trainer.history``. For a run folder, see
            ``fastnn diagnose``.
        monitor: A :class:`fastnn.train.Monitor` that was among the callbacks: the losses of steps
            show whether data were shuffled.

    Returns:
        The problems; ``print`` it.

    Raises:
        ValueError: If no epoch was trained, and no error ended the training.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Linear(2, 2)
        >>> optimizer = fn.optim.SGD(model.parameters(), lr=0.0)
        >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> history = trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=8, verbose=0)
        >>> fn.train.diagnose(history).name
        'not learning'

    Source:
        Karpathy 2016, CS231n, "Babysitting the learning process".
    """
    if isinstance(history, Curves):
        curves = history
    else:
        steps = [] if monitor is None else list(zip(monitor.epoch, monitor.loss, strict=True))
        curves = Curves.of(
            history.history,
            history.params,
            history.first_loss,
            history.error,
            steps,
            history.moved,
            history.gains,
        )
    if not len(curves.loss) and curves.error is None:
        raise ValueError("diagnose: expected the logs of at least one epoch, got none")
    found: list[Problem] = []
    for name, rule in RULES.items():
        if found and name == "underfit":  # which is what remains when nothing else explains it
            continue
        evidence = rule(curves)
        if evidence is not None:
            found.append(Problem(name, evidence, REMEDIES[name]))
            if name in FATAL:
                break
    return Diagnosis(tuple(found))
