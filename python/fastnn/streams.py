"""Whose CUDA stream carries the work: fastnn's own, or another library's. In fastnn.cuda."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fastnn import _core
from fastnn._devices import cuda_index

__all__ = ["Stream", "current_stream", "stream", "synchronize"]


class Stream:
    """A stream of a CUDA device, as :func:`current_stream` gives it; it owns nothing.

    PyTorch takes it as ``torch.cuda.ExternalStream(s.ptr)``, CuPy as
    ``cupy.cuda.ExternalStream(s.ptr)``, cuda.core by ``__cuda_stream__``.

    Attributes:
        ptr: The handle, an int; also as ``cuda_stream``, torch's name.
        device_id: The index of its device.
    """

    __slots__ = ("device_id", "ptr")

    def __init__(self, ptr: int, device_id: int) -> None:
        self.ptr = ptr
        self.device_id = device_id

    @property
    def cuda_stream(self) -> int:
        """The handle."""
        return self.ptr

    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, self.ptr)

    def synchronize(self) -> None:
        """Wait until all that the stream was given is done.

        Raises:
            ValueError: If this thread's calls before met bad data on the device: labels out of
                range, gradients that are not finite. The message is that of the CPU.
            CaptureError: While another library captures it.
        """
        _core.cuda_synchronize(self.device_id, self.ptr)

    def __repr__(self) -> str:
        return f"Stream(ptr={self.ptr:#x}, device_id={self.device_id})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.ptr == self.ptr

    def __hash__(self) -> int:
        return hash(self.ptr)


def current_stream(device: int | str | None = None) -> Stream:
    """The stream that this thread's work on a device goes to.

    Args:
        device: An index, or a name such as ``"cuda:1"``; default: the current one.

    Raises:
        CudaError: If CUDA is not available; the message says what is missing.

    Example:
        >>> import fastnn as fn
        >>> if fn.cuda.is_available():
        ...     fn.cuda.current_stream().synchronize()
    """
    index = cuda_index(device)
    return Stream(_core.cuda_stream(index), index)


def synchronize(device: int | str | None = None) -> None:
    """Wait until all that this thread has put on a device is done.

    Args:
        device: An index, or a name such as ``"cuda:1"``; default: the current one.

    Raises:
        ValueError: If this thread's calls before met bad data there: labels out of range, gradients
            that are not finite. No call waits to find that out, so it is raised by a later one:
            here, where numbers are read (``to("cpu")``, ``item()``), or by the next call that looks
            at its data. Until then updates of parameters change nothing. With
            ``CUDA_LAUNCH_BLOCKING=1`` in the environment each such call waits, and raises it.
        CudaError: If CUDA is not available; the message says what is missing.
        CaptureError: While another library captures the stream.

    Example:
        >>> import fastnn as fn
        >>> if fn.cuda.is_available():
        ...     fn.cuda.synchronize()
    """
    current_stream(device).synchronize()


def stream(on: Any, device: int | str | None = None) -> AbstractContextManager[Stream]:
    """A context in which this thread's work goes to another library's stream.

    As it begins, the stream waits for what this thread has put on its stream before, and as it
    ends, that one waits for this: fastnn's work is one order, whatever streams carry it, and the
    host waits for nothing. So what the other library puts on its stream before and after needs no
    event either. Memory of Tensors may be freed anywhere.

    While the other library captures the stream (``torch.cuda.graph``), work becomes a part of its
    graph. Memory that is allocated meanwhile belongs to the graph and lives as long as it does: a
    replay writes it again. The graph also keeps what its launches read. What the host would have to
    wait for raises :class:`fastnn.CaptureError`: copies between host and device, ``item()``, ops
    that report bad data. Run the step once before, since the first call of an op may do more.

    Args:
        on: The stream: its handle (an int), an object with ``__cuda_stream__`` (cuda.core, CuPy),
            ``cuda_stream`` (``torch.cuda.Stream``) or ``ptr``, or None for fastnn's own.
        device: An index, or a name such as ``"cuda:1"``; default: the stream's ``device`` or
            ``device_id``, else the current one.

    Raises:
        TypeError: If ``on`` is no stream.
        CudaError: If CUDA is not available; the message says what is missing.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> if fn.cuda.is_available():
        ...     x = fn.tensor(np.ones(3, np.float32), device="cuda")
        ...     with fn.cuda.stream(0):  # the legacy default stream, where PyTorch works
        ...         y = x + x
    """
    return _switched(_handle(on), cuda_index(_device_of(on) if device is None else device))


@contextmanager
def _switched(handle: int | None, index: int) -> Iterator[Stream]:
    handle = _core.cuda_own_stream(index) if handle is None else handle
    before = _core.switch_cuda_stream(index, handle)
    try:
        yield Stream(handle, index)
    finally:
        _core.switch_cuda_stream(index, before)


LEGACY = 1  # the default stream's handle, which others write as 0


def _handle(on: Any) -> int | None:
    """None for fastnn's own."""
    if on is None:
        return None
    if hasattr(on, "__cuda_stream__"):
        version, handle = on.__cuda_stream__()
        if version != 0:
            raise TypeError(
                f"cuda.stream: expected version 0 of __cuda_stream__, got version {version}"
            )
    else:
        handle = getattr(on, "cuda_stream", getattr(on, "ptr", on))
    if not isinstance(handle, int) or isinstance(handle, bool):
        raise TypeError(
            "cuda.stream: expected a handle, an object with __cuda_stream__, cuda_stream or ptr, "
            f"or None, got {type(on).__name__}"
        )
    if handle < 0:
        raise ValueError(f"cuda.stream: expected a handle >= 0, got {handle}")
    return handle or LEGACY


def _device_of(on: Any) -> int | None:
    """What the stream itself says."""
    index = getattr(getattr(on, "device", None), "index", getattr(on, "device_id", None))
    return index if isinstance(index, int) and index >= 0 else None
