"""Ctrl-C and SIGTERM between two steps, never inside one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Terminated", "between_steps"]


class Terminated(SystemExit):
    """SIGTERM came: where nobody catches it, the process ends with code 143, as from the signal."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


# What each signal does in the end, and the handler that has to be there for us to hold it back.
_SIGNALS: dict[int, tuple[type[BaseException], Any]] = {
    signal.SIGINT: (KeyboardInterrupt, signal.default_int_handler),
    signal.SIGTERM: (Terminated, signal.SIG_DFL),
}


@contextlib.contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C and SIGTERM back until the function given is called.

    A second one comes through at once. Outside of the main thread, and where somebody else handles
    a signal, it is not held back.

    Example:
        >>> from fastnn.train.interrupt import between_steps
        >>> with between_steps() as check:
        ...     check()  # raises KeyboardInterrupt if Ctrl-C was pressed, Terminated after SIGTERM
    """
    pending: list[int] = []

    def check() -> None:
        if pending:
            raise _SIGNALS[pending[0]][0]()

    def note(number: int, frame: Any) -> None:
        check()
        pending.append(number)

    held = {}
    if threading.current_thread() is threading.main_thread():
        held = {n: own for n, (_, own) in _SIGNALS.items() if signal.getsignal(n) is own}
    for number in held:
        signal.signal(number, note)
    try:
        yield check
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
