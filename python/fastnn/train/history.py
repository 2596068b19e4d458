"""What training leaves behind: a list per logged quantity."""

from __future__ import annotations

__all__ = ["History"]


class History:
    """The logs of every epoch, as in Keras, and what else tells how a training went.

    Attributes:
        epoch: Indices of the epochs, from 0.
        history: A list with one value per epoch for each of ``loss``, ``accuracy``, ``val_loss``,
            ``val_accuracy``, ``lr``, ``seconds`` and ``samples_per_s`` (those that apply).

        params: What was trained on: ``samples``, ``val_samples``, ``classes`` (0 where y holds no
            classes), ``batch_size``, ``epochs``; ``shuffle``, 0 or 1, but for a sampler;
            ``probabilities``, before a cross-entropy: 1 if the model puts those out, not logits.
        first_loss: Loss of the first step, before any update; None if the training went on from an
            earlier one.
        moved: How far each matrix of weights is from where it was before any update,
            ||w - w_0|| / ||w_0||, after 1, 2, 4, 8, ... epochs, by its path; likewise.
        gains: What each of them began with, by its path: the root mean square of its entries, times
            the root of its fan-in; likewise.
        error: What ended the training before its time, or None.

    Example:
        >>> from fastnn.train import History
        >>> history = History()
        >>> history.append(0, {"loss": 2.0})
        >>> history.history
        {'loss': [2.0]}
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}
        self.params: dict[str, int] = {}
        self.first_loss: float | None = None
        self.moved: dict[str, list[float]] = {}
        self.gains: dict[str, float] = {}
        self.error: str | None = None

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        """Add the logs of one epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        last = ", ".join(f"{k}={v[-1]:.4g}" for k, v in self.history.items() if v)
        return f"History({len(self.epoch)} epochs{': ' + last if last else ''})"
