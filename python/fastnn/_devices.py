"""Names of devices: "cpu", "cuda" (the current CUDA device) and "cuda:1" (one by index)."""

from __future__ import annotations


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
