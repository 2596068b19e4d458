"""Ctrl-C between two steps, never inside one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["between_steps"]


@contextlib.contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until the function given is called; a second one comes through at once.

    Outside of the main thread, or where somebody else handles the signal, nothing is held back.

    Example:
        >>> from fastnn.train.interrupt import between_steps
        >>> with between_steps() as check:
        ...     check()  # raises KeyboardInterrupt if Ctrl-C was pressed
    """
    pending: list[int] = []

    def check() -> None:
        if pending:
            raise KeyboardInterrupt

    def note(number: int, frame: Any) -> None:
        check()
        pending.append(number)

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
