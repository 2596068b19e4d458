"""TerminateOnNaN: end a training whose numbers are not finite any more, and say where it began."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np

from fastnn import _core, nn, random
from fastnn.tensor import Tensor
from fastnn.train.callbacks import Callback
from fastnn.train.members import members_of, outputs_of
from fastnn.train.run import FailedStep
from fastnn.train.step import parts_of

__all__ = ["NonFinite", "TerminateOnNaN"]


@dataclasses.dataclass(frozen=True)
class NonFinite:
    """The first value in a step that is not finite.

    Attributes:
        epoch: Counted from 1.
        step: In the epoch, counted from 1.
        layer: Path of the layer in the model, "" for the loss.
        kind: The layer's class.
        tensor: ``"output"``, ``"loss"`` or ``"gradient of <parameter>"``.
        index: Where in that tensor.
        value: NaN or an infinity.
    """

    epoch: int
    step: int
    layer: str
    kind: str
    tensor: str
    index: tuple[int, ...]
    value: float

    def __str__(self) -> str:
        where = f" of layer {self.layer!r} ({self.kind})" if self.layer else ""
        index = list(self.index) or ""
        return (
            f"epoch {self.epoch}, step {self.step}: {self.tensor}{where} is {self.value}"
            f"{' at ' if index else ''}{index}"
        )


class TerminateOnNaN(Callback):
    """End the training when a loss or a gradient is not finite, rather than raise.

    The step is made once more to find the first layer whose numbers are not finite; a warning says
    which, and the model is as the last good step left it. Without this callback such a step is an
    error of fit.

    Attributes:
        found: The :class:`NonFinite`, or None.

    Example:
        >>> import numpy as np, warnings, fastnn as fn
        >>> model = fn.nn.Sequential(fn.nn.Linear(2, 2), fn.nn.ReLU(), fn.nn.Linear(2, 2))
        >>> _ = fn.nn.init.constant_(model[0].weight, 2.0)
        >>> optimizer = fn.optim.SGD(model.parameters())
        >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
        >>> terminate = fn.train.TerminateOnNaN()
        >>> x = np.full((1, 2), 3e38)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     history = trainer.fit(x, [1], callbacks=[terminate], verbose=0)
        >>> print(terminate.found)
        epoch 1, step 1: output of layer '0' (Linear) is inf at [0, 0]
    """

    found: NonFinite | None = None

    def reset(self) -> None:
        """Nothing was found so far."""
        self.found = None

    def on_train_error(self, failed: FailedStep) -> bool:
        """Find where it began."""
        batches, rows = failed.loop.batches, failed.loop.batch_size
        step = batches.done // rows + 1
        buffers = {name: b.clone() for name, b in self.trainer.model.named_buffers()}
        self._rewind(failed)
        for part in self._parts(failed):
            first = self._first(*batches.take(part))
            if first is not None:
                self.found = NonFinite(self.trainer.epoch + 1, step, *first)
                break
            _core.advance(batches._cursor, part)
        batches.skip()  # which also puts the cursor back
        self.trainer.optimizer.zero_grad()
        self.trainer.model.load_state_dict(buffers, strict=False)
        told = f"{self.found}" if self.found else str(failed.error).removeprefix("fit: ")
        warnings.warn(f"TerminateOnNaN: training ended: {told}", RuntimeWarning, stacklevel=2)
        return True

    def _parts(self, failed: FailedStep) -> list[int]:
        """Sizes of the batches of the step."""
        batches, rows = failed.loop.batches, failed.loop.batch_size
        one = rows // self.trainer.flags.accumulate_grad_batches
        return parts_of(min(rows, batches.samples - batches.done), one)

    def _rewind(self, failed: FailedStep) -> None:
        """Set the generators to where they were before the step: each step draws as often."""
        random.set_state(failed.generators)
        for part in self._parts(failed) if failed.before else ():
            outputs_of(self.trainer.model, failed.loop.batches.take(part)[0])
        drawn = random.get_state()
        state = {
            name: [seed, offset + failed.before * (drawn[name][1] - offset)]
            for name, (seed, offset) in failed.generators.items()
        }
        random.set_state(state)

    def _first(self, x: Any, y: Any, weight: Any) -> tuple[Any, ...] | None:
        """(layer, its class, tensor, index, value) of the first that is not finite, or None."""
        model = self.trainer.model
        seen: list[tuple[Any, ...]] = []

        def look(path: str) -> Any:
            def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
                for output in outputs if isinstance(outputs, tuple) else (outputs,):
                    if isinstance(output, Tensor) and output.dtype in ("float32", "bfloat16"):
                        seen.extend(_not_finite(path, type(module).__name__, "output", output))

            return hook

        modules = [(path, m) for path, m in model.named_modules() if not m._modules]
        removes = [module.register_forward_hook(look(path)) for path, module in modules]
        try:
            each = outputs_of(model, x)
            if seen:
                return seen[0]
            losses = [
                self.trainer.objective(member, outputs, y, weight, check_finite=False)[0]
                for member, outputs in zip(members_of(model), each, strict=True)
            ]
            for loss in losses:
                seen += _not_finite("", "", "loss", loss)
            if not seen:
                self.trainer.optimizer.zero_grad()
                for loss in losses:
                    loss.backward()
                for path, module in reversed(modules):  # gradients come from the end
                    for name in module._parameters:
                        gradient = getattr(getattr(module, name), "grad", None)
                        if gradient is not None:
                            kind = type(module).__name__
                            seen += _not_finite(path, kind, f"gradient of {name}", gradient)
        finally:
            for remove in removes:
                remove()
        return seen[0] if seen else None


def _not_finite(layer: str, kind: str, tensor: str, value: Tensor) -> list[tuple[Any, ...]]:
    array = np.asarray(value.detach().to("cpu"), np.float32)
    bad = ~np.isfinite(array)
    if not bad.any():
        return []
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    return [(layer, kind, tensor, index, float(array[index]))]
