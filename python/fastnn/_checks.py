"""What arguments that are no arrays have to be, in the words of every message."""

from __future__ import annotations

from typing import Any, SupportsFloat, SupportsIndex


def check_number(op: str, name: str, value: Any) -> None:
    """Refuse what is no number."""
    if not isinstance(value, (float, int)) and not isinstance(value, SupportsFloat):
        raise TypeError(f"{op}: expected {name} to be a number, got {value!r}")


def check_whole(op: str, **values: Any) -> None:
    """Refuse what is no whole number."""
    for name, value in values.items():
        if not isinstance(value, int) and not isinstance(value, SupportsIndex):
            raise TypeError(f"{op}: expected {name} to be a whole number, got {value!r}")
