"""The rules of a diagnosis, in their order.

A rule looks at the series and says what it sees, or nothing. Of several problems the first is to be
mended first: a training with a wrong sign also does not fit, but the sign is what to mend.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fastnn.train.curves import (
    Curves,
    Series,
    chance,
    collapsed,
    early,
    judged,
    jumps,
    late,
    level,
    likeness,
    pace,
    reached,
    roughness,
    sampling_error,
    slope,
    stride,
    travelled,
    trend,
)

__all__ = ["FATAL", "RULES"]


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
    learns = learns or (len(c.accuracy) and level(c.accuracy) > 0.8)
    steady = not len(c.val_loss) or (np.diff(c.val_loss) > 0).mean() > 0.6
    if rises < 0.85 or learns or not steady:
        return None
    return (
        f"the loss rises from {c.first:.3g} to {c.loss[-1]:.3g}, in {100 * rises:.0f} % of epochs"
    )


def _not_learning(c: Curves) -> str | None:
    """Neither loss has a trend; dropout and running statistics move them to and fro."""
    if len(c.loss) < 5:
        return None
    evidence = f"loss {c.loss[0]:.4g} in the first epoch, {c.loss[-1]:.4g} in the last"
    far = travelled(c)
    if far is not None:
        return f"{evidence}; weights moved by {far:.2g} of their size" if far < _STILL else None
    moved = float(c.loss[0]) / (level(c.loss) or 1.0) - 1
    if c.first > 1.4 * c.loss[0]:
        return None  # it has learned, in the first epoch
    if moved > 0.1 or (collapsed(c) and abs(moved) > 0.01):
        return None
    if any(len(s) and np.ptp(s) < 3e-3 * abs(s[0]) for s in (c.loss, c.val_loss)):
        return evidence
    if trend(c.loss) > 3.5:
        return None
    for series in (c.loss, c.val_loss):
        if len(series) and (trend(series) < -3.5 or np.ptp(series[1:]) > 0.13 * abs(series[0])):
            return None
    if len(c.accuracy) and np.ptp(c.accuracy) > 0.1:
        return None
    if len(c.accuracy) and c.classes and c.accuracy[0] > 0.5 + 0.5 / c.classes:
        return None  # it has learned, in the first epoch
    return f"{evidence}, without a trend"


def _not_shuffled(c: Curves) -> str | None:
    """The losses of an epoch's steps have the shape that they had in the epoch before."""
    alike, errors = likeness(c.steps)
    if errors < 5 or c.shuffle:
        return None
    return f"an epoch's steps have the losses of other epochs': correlation {alike:.2f}"


def _softmax_twice(c: Curves) -> str | None:
    """Cross-entropy of softmax(p), p <= 1: log(1 + (C - 1) / e) if right, 1 more if wrong."""
    if c.probabilities is not None:
        sight = "the model puts out probabilities, and its loss takes a softmax of them"
        return sight if c.probabilities else None
    if c.classes < 2 or not len(c.accuracy) or level(c.accuracy) < 0.8:
        return None
    if pace(c.loss) > (0.03 if level(c.accuracy) > 0.97 else 0.012):
        return None
    if early(c.loss) < 0.5 and level(c.accuracy) < 0.93:  # it has not come to its floor yet
        return None
    floor = math.log(1 + (c.classes - 1) / math.e)
    for loss, accuracy in ((c.loss, c.accuracy), (c.val_loss, c.val_accuracy)):
        if len(loss):
            excess = level(loss) - (floor + 1 - level(accuracy))
            if loss.min() < 0.98 * floor or level(accuracy) < 0.7 or not -0.03 < excess < 0.08:
                return None
    loss, accuracy = c.loss, c.accuracy
    return (
        f"loss {level(loss):.3g} with {100 * level(accuracy):.0f} % right, where a second softmax "
        f"allows {floor:.3g} at least"
    )


def _rate_too_high(c: Curves) -> str | None:
    """The loss bursts in the first epochs, is lost again, or goes to and fro, and stays high."""
    size = stride(c)
    if size is not None and size < _CALM:
        return None if _faded(c) else _unlearned(c)
    return _strode(c) or _unlearned(c) or _burst(c) or _restless(c)


def _faded(c: Curves) -> bool:
    """Whether weight decay has taken the weights away: they have moved by all of their size."""
    return len(c.moved) > 0 and abs(c.moved[-1] - 1) < 0.03 and level(judged(c)) > 0.9 * chance(c)


def _strode(c: Curves) -> str | None:
    """Steps as large as the weights: what the initialisation had made of them is lost."""
    size = stride(c)
    if size is None or size < _WILD or _fits(c):
        return None
    return f"the first epoch moved weights by {c.moved[0]:.3g} times their size"


def _unlearned(c: Curves) -> str | None:
    """What it had learned is lost: weight decay loses it too, but not beyond chance."""
    end, best, told = level(c.loss), float(c.loss.min()), judged(c)
    if c.loss[-1] > max(5 * end, 0.5 * chance(c)):
        return f"loss {end:.3g}, then {c.loss[-1]:.3g} in the last epoch"
    if end > max(3 * best, 0.3 * chance(c)) and level(told) > 2 * float(told.min()):
        return f"loss {best:.3g} at best, {float(c.loss[c.loss.argmin() :].max()):.3g} after that"
    if not len(c.accuracy) or level(told) < 1.02 * chance(c) or _loud(c):
        return None
    top, now = 100 * float(c.accuracy.max()), 100 * level(c.accuracy)
    return f"{top:.0f} % right at best, {now:.0f} % at last" if top > now + 20 else None


def _burst(c: Curves) -> str | None:
    """The first epochs are far above the start, and that is not made good."""
    early_part = slice(max(1, len(c.loss) // 4))
    end, top, told = level(c.loss), float(c.loss[early_part].max()), judged(c)
    times, loud = top / max(c.first, chance(c)), _loud(c)
    if times < (3 if loud else 1.4):
        return None
    sight = f"loss {c.first:.3g} at first, {top:.3g} soon after"
    if level(told) > 3 * chance(c):
        return f"{sight}; it did not recover"
    falls = top < 1.25 * end and trend(told) < -5  # it began high, and goes down since
    seen = float(told[early_part].max()) > 1.1 * chance(c)  # without dropout, too
    seen = seen or times > 5 or (times > 1.6 and _validated(c) and not loud)
    return None if _fits(c) or falls or not seen else f"{sight}, {end:.3g} at last"


def _restless(c: Curves) -> str | None:
    """The loss goes to and fro from epoch to epoch."""
    told = judged(c)
    if _validated(c) and told[-1] > 0.5 * chance(c) and jumps(told) > 0.2:
        return f"the validation loss jumps by 15 % in {100 * jumps(told):.0f} % of epochs"
    if _fits(c) or _loud(c):
        return None
    if _validated(c) and roughness(told) > (0.03 if _lost(c) else 0.085):
        return f"the validation loss goes to and fro by {100 * roughness(told):.2g} % at each epoch"
    good = len(c.val_accuracy) and level(c.val_accuracy) > 0.9
    if jumps(c.loss) > 0.15 and not good:
        return f"the loss jumps by 15 % in {100 * jumps(c.loss):.0f} % of epochs"
    return None


def _validated(c: Curves) -> bool:
    """Whether validation tells what the weights are worth: dropout does not hold training up."""
    return c.val_samples > 50 and level(c.loss) < 1.5 * level(judged(c))


def _fits(c: Curves) -> bool:
    """Whether there is little left to win in training."""
    return level(c.loss) < 0.2 * chance(c) or (len(c.accuracy) > 0 and level(c.accuracy) > 0.9)


def _loud(c: Curves) -> bool:
    """Whether dropout makes more noise than signal: the loss is far above chance from the start."""
    return c.first > 2 * chance(c) and len(c.val_loss) > 0 and c.loss[0] > 2 * c.val_loss[0]


def _lost(c: Curves) -> bool:
    """Whether the loss came down from more than chance to chance, and no further."""
    told = judged(c)
    fell = level(c.loss) < 0.9 * float(c.loss[0])
    return fell and level(told) > 0.9 * chance(c) and trend(told) > -3


def _slow_start(c: Curves) -> str | None:
    """Outputs are near 0, so the loss is that of chance, for some epochs; then it falls."""
    if len(c.loss) < 5 or max(c.first, c.loss[0]) > 1.15 * chance(c):
        return None
    plateau, learned = _plateau(c), reached(c.loss, 0.5 * chance(c))
    if c.gain is not None:
        sight = f"weights began with a gain of {c.gain:.2g}, and the loss is high for"
        return f"{sight} {learned} epochs" if c.gain < _SMALL_GAIN and learned > 4 else None
    flat = reached(c.loss, 0.9 * plateau)
    still = abs(c.loss[:3] / plateau - 1).max() < 0.02
    if learned == len(c.loss) or flat < max(0.3 * learned, 3 if still else 5):
        return None
    return f"loss {plateau:.4g} for {flat} epochs, then down to {level(c.loss):.3g}"


def _plateau(c: Curves) -> float:
    """The loss of outputs that are all alike: of chance, or less where some classes are rare."""
    start = c.loss[1:5]
    uneven = np.ptp(start) < 0.03 * start[0] and start[0] > 0.7 * chance(c)
    return min(chance(c), float(np.median(start))) if uneven else chance(c)


def _rate_too_low(c: Curves) -> str | None:
    """Evenly down, but not far: a rate that is right does most of it in the first quarter."""
    series = judged(c) if trend(judged(c)) < -3 else c.loss
    far = travelled(c)
    if far is not None and len(c.loss) > 4:
        told = judged(c)
        if far > _NEAR or level(told) < 0.15 * chance(c) or _ahead(told) > 0.3:
            return None
        return (
            f"loss {c.loss[0]:.3g} after an epoch, {c.loss[-1]:.3g} at last; weights moved by "
            f"{100 * far:.2g} % of their size"
        )
    if len(series) < 6 or trend(series) > -3 or _restrained(c) or _ahead(series) > _FAR:
        return None
    if level(series) > 0.9 * chance(c):  # it has hardly learned anything
        flat = slope(series, 3) > -3e-4 * level(series) and roughness(series) < 5e-3
        if (late(series) < 0.07 or flat) and level(series) < 1.03 * chance(c):
            return None
    elif late(series) < (0.3 if slope(series, 3) < -0.004 * level(series) else 0.45):
        return None
    if series[-1] < 0.5 * series[0] or (len(c.accuracy) and level(c.accuracy) > 0.9):
        return None
    return f"loss {series[0]:.3g} after an epoch, {series[-1]:.3g} at last, and falls as before"


def _ahead(series: Series) -> float:
    """Which share as many epochs again would take off, at the pace of the last third."""
    return -slope(series, 3) * (len(series) - 1) / (float(series[-1]) or 1.0)


def _restrained(c: Curves) -> bool:
    """Whether what is off in evaluation is too strong: it shows in all epochs, or in the first."""
    if not len(c.val_loss) or _held_back(c):
        return _held_back(c)
    loud = c.loss[0] > 2 * max(chance(c), float(c.val_loss[0]))
    return bool(loud) and level(c.loss) > level(c.val_loss)


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
    ahead, far = _ahead(series), travelled(c)
    if _restrained(c) and pace(series) < 0.035 and (far is None or far > _ON_THE_WAY):
        return None
    if far is not None:  # weights that have come far are no longer on their way
        if ahead < (0.15 if far < _ON_THE_WAY else 0.5):
            return None
    elif ahead < _FAR or (ahead < 0.5 and late(series) < 0.2) or _ahead(c.loss) < 0.15:
        return None
    if c.loss[len(c.loss) // 2] <= c.loss[-1]:
        return None
    return f"the loss still falls by {100 * pace(series):.0f} % in each epoch"


def _overfit(c: Curves) -> str | None:
    """Training goes on to improve, validation does not."""
    if not len(c.val_loss):
        return None
    loss, val, best = level(c.loss), level(c.val_loss), float(c.val_loss.min())
    if len(c.val_accuracy) and len(c.accuracy):
        right, gap = level(c.accuracy), level(c.accuracy) - level(c.val_accuracy)
        if right < 0.88 or gap < max(0.08, 3 * sampling_error(c)):
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


# Of weights, as shares of their size: how far they have come at most
_STILL = 2e-4  # that do not learn,
_NEAR = 0.15  # at a rate that is too low,
_ON_THE_WAY = 0.5  # in a training that is likely to need more epochs;
_CALM, _WILD = 0.1, 0.6  # and steps at a rate that is not too high, and at one that is.
_SMALL_GAIN = 0.5
_FAR = 0.23  # what as many epochs again would take off, from which on they are the remedy
FATAL = ("diverged", "wrong sign", "not learning")  # nothing else can be seen then
RULES: dict[str, Callable[[Curves], str | None]] = {
    "diverged": _diverged,
    "wrong sign": _wrong_sign,
    "not learning": _not_learning,
    "not shuffled": _not_shuffled,
    "softmax before the loss": _softmax_twice,
    "slow start": _slow_start,
    "learning rate too high": _rate_too_high,
    "learning rate too low": _rate_too_low,
    "not converged": _not_converged,
    "overfit": _overfit,
    "underfit": _underfit,
    "validation set too small": _validation_too_small,
}
