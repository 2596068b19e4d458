"""What the curves of a training say: the lectures' table of captions and remedies, as rules.

A rule looks at the series and says what it sees, or nothing. Rules are in an order: a training with
a wrong sign also does not fit, but the sign is what to mend.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from fastnn.train.curves import (
    Curves,
    chance,
    collapsed,
    drift,
    early,
    judged,
    jumps,
    level,
    pace,
    roughness,
    sampling_error,
    trend,
)
from fastnn.train.history import History
from fastnn.train.monitor import Monitor

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
            history.history, history.params, history.first_loss, history.error, steps
        )
    if not len(curves.loss) and curves.error is None:
        raise ValueError("diagnose: expected the logs of at least one epoch, got none")
    found = []
    for name, rule in _RULES.items():
        evidence = rule(curves)
        if evidence is not None:
            found.append(Problem(name, evidence, REMEDIES[name]))
            if name in _FATAL:
                break
    return Diagnosis(tuple(found))


# ---- the rules, in their order -------------------------------------------------------------------


def _diverged(c: Curves) -> str | None:
    if c.error is not None:
        return c.error.removeprefix("fit: ").split("; ")[0]  # its advice is the remedy's
    for name, series in (("loss", c.loss), ("validation loss", c.val_loss)):
        if not np.isfinite(series).all():
            return f"the {name} of epoch {int(np.argmin(np.isfinite(series))) + 1} is not finite"
    return None


def _wrong_sign(c: Curves) -> str | None:
    """The loss rises all the time, and no answers are won by it."""
    if len(c.loss) < 3 or c.loss[-1] < 1.2 * c.first:
        return None
    rises = float((np.diff(c.loss) > 0).mean())
    learns = len(c.accuracy) and c.accuracy[-1] > c.accuracy[0] + 0.15
    learns = learns and c.loss[-1] < 3 * c.first
    if rises < 0.85 or learns:
        return None
    return (
        f"the loss rises from {c.first:.3g} to {c.loss[-1]:.3g}, in {100 * rises:.0f} % of epochs"
    )


def _not_learning(c: Curves) -> str | None:
    """Neither loss has a trend; dropout and running statistics move them to and fro."""
    if len(c.loss) < 5:
        return None
    evidence = f"loss {c.loss[0]:.4g} in the first epoch, {c.loss[-1]:.4g} in the last"
    moved = float(c.loss[0]) / level(c.loss) - 1
    if moved > 0.1 or (collapsed(c) and abs(moved) > 0.01):
        return None
    if any(len(s) and np.ptp(s) < 1e-5 * abs(s[0]) for s in (c.loss, c.val_loss)):
        return evidence
    for series in (c.loss, c.val_loss):
        if len(series) and (trend(series) < -3.5 or np.ptp(series[1:]) > 0.13 * abs(series[0])):
            return None
    if len(c.accuracy) and c.accuracy.max() > c.accuracy[0] + 0.08:
        return None
    if len(c.accuracy) and c.classes and c.accuracy[0] > 0.5 + 0.5 / c.classes:
        return None  # it has learned, in the first epoch
    return f"{evidence}, without a trend"


def _not_shuffled(c: Curves) -> str | None:
    """The losses of an epoch's steps have the shape that they had in the epoch before."""
    epochs = [e for e in c.steps if len(e) == len(c.steps[0]) and len(e) >= 8]
    epochs = epochs[1:]  # the first falls, whatever the order
    if len(epochs) < 3:
        return None
    shapes = []
    for losses in epochs:
        t = np.arange(len(losses))
        logs = np.log(np.maximum(losses, 1e-12))
        shapes.append(logs - np.polyval(np.polyfit(t, logs, 1), t))
    halves = [np.mean(shapes[i::2], axis=0) for i in (0, 1)]
    alike = float(np.corrcoef(*halves)[0, 1])
    if not alike > max(0.6, 3.2 / math.sqrt(len(shapes[0]) - 2)):  # by chance, of so many steps
        return None
    return f"the losses of the steps of odd and of even epochs correlate with {alike:.2f}"


def _softmax_twice(c: Curves) -> str | None:
    """Cross-entropy of softmax(p), p <= 1: log(1 + (C - 1) / e) if right, 1 more if wrong."""
    if c.classes < 2 or not len(c.accuracy) or pace(c.loss) > 0.012:
        return None
    if early(c.loss) < 0.5 and level(c.accuracy) < 0.93:  # it has not come to its floor yet
        return None
    floor = math.log(1 + (c.classes - 1) / math.e)
    for loss, accuracy in ((c.loss, c.accuracy), (c.val_loss, c.val_accuracy)):
        if len(loss):
            excess = level(loss) - (floor + 1 - level(accuracy))
            if loss.min() < 0.98 * floor or level(accuracy) < 0.7 or not -0.04 < excess < 0.15:
                return None
    loss, accuracy = c.loss, c.accuracy
    return (
        f"loss {level(loss):.3g} with {100 * level(accuracy):.0f} % right, where a second softmax "
        f"allows {floor:.3g} at least"
    )


def _rate_too_high(c: Curves) -> str | None:
    """The loss is above its start in the first epochs, or goes to and fro, and stays high."""
    end, top = level(c.loss), float(c.loss[: max(1, len(c.loss) // 4)].max())
    told = judged(c)
    validated = c.val_samples > 50 and end < 1.5 * level(told)  # what is off there holds nothing up
    if validated and told[-1] > 0.6 * chance(c) and jumps(told) > 0.2:
        return f"the validation loss jumps by 15 % in {100 * jumps(told):.0f} % of epochs"
    if c.loss[-1] > max(5 * end, 0.5 * chance(c)):
        return f"loss {end:.3g}, then {c.loss[-1]:.3g} in the last epoch"
    if (len(c.accuracy) and level(c.accuracy) > 0.9) or end < 0.2 * chance(c):
        return None
    if validated and roughness(told) > (0.012 if _lost(c) else 0.085):
        return f"the validation loss goes to and fro by {100 * roughness(told):.2g} % at each epoch"
    falls = top < 1.25 * end and trend(told) < -5  # it began high, and goes down since
    told_high = float(told[: max(1, len(told) // 4)].max()) > 1.1 * chance(c)  # without dropout too
    if top > 1.4 * max(c.first, chance(c)) and told_high and not falls:
        return f"loss {c.first:.3g} at first, {top:.3g} soon after, {end:.3g} at last"
    if jumps(c.loss) > 0.15:
        return f"the loss jumps by 15 % in {100 * jumps(c.loss):.0f} % of epochs"
    rough = len(c.loss) > 4 and float(np.median(np.abs(np.diff(c.loss, 2)))) > 0.02 * end
    if rough and len(c.accuracy) and c.accuracy.max() > level(c.accuracy) + 0.08:
        best = 100 * float(c.accuracy.max())
        return f"{best:.0f} % right at best, {100 * level(c.accuracy):.0f} % at last, in training"
    return None


def _lost(c: Curves) -> bool:
    """Whether the loss came down from more than chance to chance, and no further."""
    told = judged(c)
    fell = level(c.loss) < 0.9 * float(c.loss[0])
    return fell and level(told) > 0.97 * chance(c) and trend(told) > -3


def _slow_start(c: Curves) -> str | None:
    """Outputs are near 0, so the loss is that of chance, for some epochs; then it falls."""
    if len(c.loss) < 5 or level(c.loss) > 0.8 * c.first:
        return None
    apart = np.abs(c.loss[:3] / chance(c) - 1)
    if abs(c.first / chance(c) - 1) > 0.006 or (apart > (0.01, 0.02, 0.04)).any():
        return None
    flat = int(np.argmax(c.loss < 0.96 * c.first))
    return f"loss {c.first:.4g} for {flat} epochs, then down to {level(c.loss):.3g}"


def _rate_too_low(c: Curves) -> str | None:
    """Evenly down, but not far: a rate that is right does most of it in the first quarter."""
    series = judged(c)
    if len(series) < 6 or trend(series) > -3:
        return None
    if min(early(series), early(c.loss)) > 0.5 and drift(series) > -0.008:
        return None
    if series[-1] < 0.5 * min(chance(c), series[0]) or pace(series) > _FAST:
        return None
    if len(c.accuracy) and level(c.accuracy) > 0.9:
        return None
    return f"loss {series[0]:.3g} after an epoch, {series[-1]:.3g} at last, and falls as before"


def _held_back(c: Curves) -> bool:
    """Whether training is much worse than validation: what is off in evaluation is too strong."""
    if not len(c.accuracy) or not len(c.val_accuracy):
        return False
    return level(c.accuracy) < min(0.7, level(c.val_accuracy) - max(0.15, 4 * sampling_error(c)))


def _not_converged(c: Curves) -> str | None:
    """The losses still fall by much in each epoch."""
    series = judged(c)
    if len(series) < 3 or series[-1] < 0.15 * chance(c):
        return None
    if pace(series) < (_FAST if _held_back(c) else 0.025) or c.loss[len(c.loss) // 2] <= c.loss[-1]:
        return None
    return f"the loss still falls by {100 * pace(series):.0f} % in each epoch"


def _overfit(c: Curves) -> str | None:
    """Training goes on to improve, validation does not."""
    if not len(c.val_loss):
        return None
    loss, val, best = level(c.loss), level(c.val_loss), float(c.val_loss.min())
    if len(c.val_accuracy) and len(c.accuracy):
        right, gap = level(c.accuracy), level(c.accuracy) - level(c.val_accuracy)
        if right < 0.75 or gap < max(0.08, 3 * sampling_error(c)):
            return None
        return f"{100 * right:.0f} % right in training, {100 * gap:.0f} points less in validation"
    if val < 1.5 * best or loss > 0.5 * val:
        return None
    return f"validation loss {best:.3g} at best, {val:.3g} at last, training loss {loss:.3g}"


def _underfit(c: Curves) -> str | None:
    """Flat and high, in training and in validation."""
    if len(c.loss) < 5:
        return None
    if len(c.accuracy):
        best = max(level(c.accuracy), level(c.val_accuracy) if len(c.val_accuracy) else 0.0)
        if _held_back(c):
            return (
                f"{100 * level(c.accuracy):.0f} % right in training, {100 * best:.0f} % without it"
            )
        return f"{100 * best:.0f} % right, in training too" if best < 0.88 else None
    if level(c.loss) < 0.5 * c.first:
        return None
    return f"loss {c.first:.3g} at first, {level(c.loss):.3g} at last"


def _validation_too_small(c: Curves) -> str | None:
    if not c.val_samples or not len(c.val_accuracy):
        return None
    if c.val_samples > 30 and sampling_error(c) < 0.05:
        return None
    return f"{c.val_samples} samples: one more mistake is {100 / c.val_samples:.1f} points"


_FAST = 0.035  # a pace at which training longer is better than a higher rate
_FATAL = ("diverged", "wrong sign", "not learning")  # nothing else can be seen then
_RULES: dict[str, Callable[[Curves], str | None]] = {
    "diverged": _diverged,
    "wrong sign": _wrong_sign,
    "not learning": _not_learning,
    "not shuffled": _not_shuffled,
    "softmax before the loss": _softmax_twice,
    "learning rate too high": _rate_too_high,
    "slow start": _slow_start,
    "learning rate too low": _rate_too_low,
    "not converged": _not_converged,
    "overfit": _overfit,
    "underfit": _underfit,
    "validation set too small": _validation_too_small,
}
