"""Names of devices: "cpu", "cuda" (the current CUDA device) and "cuda:1" (one by index)."""

from __future__ import annotations

from fastnn import _core


def type_of(device: str) -> str:
    """``"cpu"`` or ``"cuda"``, whichever the index.

    Example:
        >>> from fastnn._devices import type_of
        >>> type_of("cuda:1")
        'cuda'
    """
    return device.partition(":")[0]


def is_device(target: str) -> bool:
    """Whether what ``to()`` was given is a device, and not a dtype.

    Example:
        >>> from fastnn._devices import is_device
        >>> is_device("cuda:1"), is_device("float32")
        (True, False)
    """
    return type_of(target) in ("cpu", "cuda")


def cuda_index(device: int | str | None) -> int:
    """The index of a CUDA device, given by it or by a name; None is the thread's current one.

    Example:
        >>> from fastnn._devices import cuda_index
        >>> cuda_index(None)
        0
    """
    if device is None:
        return int(_core.current_cuda())
    name = f"cuda:{device}" if isinstance(device, int) else device
    if type_of(name) != "cuda":
        raise ValueError(f"cuda: expected an index or 'cuda:N', got {device!r}")
    return int(_core.device_name(name).removeprefix("cuda:"))
