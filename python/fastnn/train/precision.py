"""The Trainer's precision, in Lightning's words: what a step's products are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from fastnn._devices import type_of
from fastnn.amp import GradScaler, autocast
from fastnn.train.members import outputs_of

__all__ = ["Precision"]

_DTYPES = {"32-true": None, "bf16-mixed": "bfloat16", "16-mixed": "float16"}


class Precision:
    """What the model runs in, and the scale of its loss.

    Args:
        name: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``; see :class:`fastnn.Trainer`.
        device: Where the model is.
        clips_values: Whether gradients are clipped one by one.

    Attributes:
        name: As given.
        dtype: What products are made of: ``"bfloat16"``, ``"float16"``, or None for float32.
        scaler: The :class:`fastnn.amp.GradScaler` of ``"16-mixed"``, else None.

    Raises:
        ValueError: If the name is another, or not for this device or clipping.

    Example:
        >>> from fastnn.train.precision import Precision
        >>> Precision("bf16-mixed", "cpu").dtype
        'bfloat16'
    """

    def __init__(self, name: str, device: str, clips_values: bool = False) -> None:
        if name not in _DTYPES:
            names = " or ".join(", ".join(map(repr, _DTYPES)).rsplit(", ", 1))
            raise ValueError(f"Trainer: expected precision {names}, got {name!r}")
        self.name, self.dtype = name, _DTYPES[name]
        self._device = device
        self.scaler: GradScaler | None = None
        if self.dtype == "float16":
            if device == "cpu":
                raise ValueError(
                    "Trainer: expected precision '32-true' or 'bf16-mixed' on cpu, got '16-mixed': "
                    "float16 has kernels on cuda only; 'bf16-mixed' is as fast and needs no scale "
                    "of the loss"
                )
            if clips_values:
                raise ValueError(
                    "Trainer: expected gradient_clip_algorithm 'norm' with precision '16-mixed', "
                    "whose gradients are scaled, got 'value'"
                )
            self.scaler = GradScaler(device)

    def run(self, model: Any, x: Any) -> Sequence[Any]:
        """What each member of the model makes of x, as float32."""
        if self.dtype is None:
            return outputs_of(model, x)
        with self.autocast():
            each = outputs_of(model, x)
        return [outputs.to("float32") for outputs in each]

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Around the model alone: losses, penalties and metrics are float32."""
        return autocast(type_of(self._device), self.dtype, enabled=self.dtype is not None)
