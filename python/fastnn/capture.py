"""Capture: a function of Tensors becomes one native call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

from fastnn import _core
from fastnn.tensor import Tensor, is_grad_enabled

__all__ = ["CapturedFunction", "capture"]

P = ParamSpec("P")
R = TypeVar("R")

# The modules called while recording, with their modes: a recording serves one mode.
_modules_called: list[tuple[Any, bool]] | None = None


def note_module(module: Any) -> None:
    """Called by Module.__call__ while recording."""
    if _modules_called is not None:
        _modules_called.append((module, module.training))


class _Recording:
    """One recorded plan: its input buffers, its results, and the modes it was recorded in."""

    def __init__(self, plan: Any, inputs: list[Any], modes: list[tuple[Any, bool]]) -> None:
        self.plan = plan
        self.inputs = inputs
        self.modes = modes
        self.results: Any = None

    def serves(self) -> bool:
        return self.plan.is_current() and all(m.training == mode for m, mode in self.modes)


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
        arrays = [a if isinstance(a, Tensor) else _core.share(a) for a in args]
        key = tuple((a.shape, a.dtype, a.device) for a in arrays), is_grad_enabled()
        recordings = self._recordings.setdefault(key, [])
        recordings[:] = [r for r in recordings if r.plan.is_current()]
        for recording in recordings:
            if recording.serves():
                for buffer, array in zip(recording.inputs, arrays, strict=True):
                    _core.copy_(buffer, array)
                recording.plan.replay(1)
                recording.plan.raise_data_error()
                result: R = recording.results
                return result
        recording = self._record(arrays)
        recordings.append(recording)
        first: R = recording.results
        return first

    def _record(self, arrays: list[Any]) -> _Recording:
        global _modules_called
        plan = _core.Plan()
        inputs = [_core.clone(a) for a in arrays]
        outer, _modules_called = _modules_called, []
        plan.begin()
        try:
            results = self._function(*inputs)  # type: ignore[call-arg,arg-type]
        finally:
            plan.end()
            modes, _modules_called = _modules_called, outer
        plan.raise_data_error()
        recording = _Recording(plan, inputs, list({id(m): (m, t) for m, t in modes}.values()))
        recording.results = results
        return recording


def capture(function: Callable[P, R]) -> CapturedFunction[P, R]:
    """Record a function's launches on its first call, and replay them on the next ones.

    The first call for a set of argument shapes, dtypes and train/eval modes runs as usual and
    records. Later calls copy their arguments into the recording's buffers and run the launches
    again: no Python, no checks, no allocation. Random numbers, learning rates and step counts go on,
    since they live in memory. The results are the recording's own buffers: valid until the next
    call. Parameters that are replaced (not written in place) are recorded anew.

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
