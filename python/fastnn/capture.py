"""Capture: a function of Tensors becomes one native call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar

from fastnn import _core
from fastnn.tape import autocast_key
from fastnn.tensor import as_tensor, is_grad_enabled

__all__ = ["CapturedFunction", "capture", "unrecorded"]

P = ParamSpec("P")
R = TypeVar("R")


class _Notes:
    """What a recording depends on beside its launches."""

    def __init__(self) -> None:
        self.modes: dict[int, tuple[Any, bool]] = {}  # modules called: a recording serves one mode
        self.optimizers: dict[int, Any] = {}  # stepped: their learning rates are written anew


_notes: _Notes | None = None


def note_module(module: Any) -> None:
    """Called by Module.__call__ while recording."""
    if _notes is not None:
        _notes.modes[id(module)] = (module, module.training)


def note_optimizer(optimizer: Any) -> None:
    """Called by Optimizer.step while recording."""
    if _notes is not None:
        _notes.optimizers[id(optimizer)] = optimizer


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """For what is made in the first run of a recorded function and lasts: it is no part of it.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> from fastnn.capture import unrecorded
        >>> kept = []
        >>> def total(x):
        ...     with unrecorded():
        ...         if not kept:
        ...             kept.append(fn.zeros(2))
        ...     return x + kept[0]
        >>> captured = fn.capture(total)
        >>> captured(np.ones(2, np.float32)).numpy()
        array([1., 1.], dtype=float32)
    """
    plan = _core.current_plan()
    if plan is None:
        yield
        return
    plan.end()
    try:
        yield
    finally:
        plan.begin()


class _Recording:
    """One recorded plan: its input buffers, its results, and what it depends on."""

    def __init__(self, plan: Any, inputs: list[Any], results: Any, notes: _Notes) -> None:
        self.plan = plan
        self.inputs = inputs
        self.results = results
        self.modes = list(notes.modes.values())
        self.optimizers = [(o, o.version) for o in notes.optimizers.values()]

    def serves(self) -> bool:
        return (
            self.plan.is_current()
            and all(m.training == mode for m, mode in self.modes)
            and all(o.version == version for o, version in self.optimizers)
        )

    def replay(self, arrays: list[Any]) -> None:
        for buffer, array in zip(self.inputs, arrays, strict=True):
            _core.copy_(buffer, array)
        for optimizer, _ in self.optimizers:
            optimizer.sync()
        self.plan.replay(1)
        self.plan.raise_data_error()


class CapturedFunction(Generic[P, R]):
    """What :func:`capture` returns."""

    def __init__(self, function: Callable[P, R]) -> None:
        self._function = function
        self._recordings: dict[Any, list[_Recording]] = {}
        self.__doc__ = function.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Replay the recording for these shapes, or run once and record."""
        if kwargs:
            raise TypeError("capture: expected positional arguments only, got " + ", ".join(kwargs))
        arrays = [as_tensor(a) for a in args]
        key = (
            tuple((a.shape, a.dtype, a.device, a.layout) for a in arrays),
            is_grad_enabled(),
            autocast_key(),
            _core.get_float32_matmul_precision(),
            _core.current_cuda(),  # what "cuda" means
        )
        recordings = self._recordings.setdefault(key, [])
        recordings[:] = [r for r in recordings if r.plan.is_current()]
        for recording in recordings:
            if recording.serves():
                recording.replay(arrays)
                result: R = recording.results
                return result
        recording = self._record(arrays)
        recordings.append(recording)
        first: R = recording.results
        return first

    def _record(self, arrays: list[Any]) -> _Recording:
        global _notes
        plan = _core.Plan()
        inputs = [_core.clone(a) for a in arrays]
        notes = _notes = _Notes()
        plan.begin()
        try:
            results = self._function(*inputs)  # type: ignore[call-arg,arg-type]
        finally:
            plan.end()
            _notes = None
        plan.raise_data_error()
        return _Recording(plan, inputs, results, notes)


def capture(function: Callable[P, R]) -> CapturedFunction[P, R]:
    """Record a function's launches on its first call, and replay them on the next ones.

    The first call for a set of argument shapes, dtypes, train/eval modes, autocast and precision of
    products runs as usual and records. Later calls copy their arguments into the recording's
    buffers and run the launches again: no Python, no checks, no allocation. Random numbers,
    learning rates and step counts go on, since they live in memory. The results are the recording's
    own buffers: valid until the next call. Parameters that are replaced (not written in place) are
    recorded anew.

    Args:
        function: Takes Tensors or arrays; reads no value on the host.

    Raises:
        CaptureError: If the function reads a Tensor on the host, or uses a host array that is not
            an argument.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> double = fn.capture(lambda x: x + x)
        >>> double(np.ones(2, np.float32)).numpy()
        array([2., 2.], dtype=float32)
        >>> double(np.zeros(2, np.float32)).numpy()
        array([0., 0.], dtype=float32)
    """
    return CapturedFunction(function)
