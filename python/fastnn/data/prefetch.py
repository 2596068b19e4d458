"""Batches made on another thread while the step runs.

The thread counts against the pool's budget while it works, so that no more threads run than
``fn.set_num_threads`` allows. What it makes depends on the number of the batch alone.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from fastnn import _core

__all__ = ["Prefetcher"]

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """The results of make(0), make(1), ..., in order, made ahead.

    Args:
        make: Called on a thread of its own.
        count: How many there are.
        ahead: How many may be ready before they are asked for.

    Attributes:
        waited: Seconds that :meth:`get` has waited.

    Example:
        >>> from fastnn.data.prefetch import Prefetcher
        >>> squares = Prefetcher(lambda i: i * i, 3)
        >>> [squares.get() for _ in range(3)]
        [0, 1, 4]
        >>> squares.close()
    """

    def __init__(self, make: Callable[[int], T], count: int, ahead: int = 2) -> None:
        self._ready: queue.Queue[T | BaseException] = queue.Queue(max(1, ahead))
        self._stopped = threading.Event()
        self.waited = 0.0
        self._thread = threading.Thread(target=self._work, args=(make, count), daemon=True)
        self._thread.start()

    def _work(self, make: Callable[[int], T], count: int) -> None:
        for i in range(count):
            result: T | BaseException
            _core.begin_loading()
            try:
                result = make(i)
            except BaseException as error:
                result = error
            finally:
                _core.end_loading()
            while not self._stopped.is_set():
                try:
                    self._ready.put(result, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._stopped.is_set() or isinstance(result, BaseException):
                return

    def get(self) -> T:
        """The next result.

        Raises:
            BaseException: What ``make`` raised.
        """
        start = time.perf_counter()
        result = self._ready.get()
        self.waited += time.perf_counter() - start
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        """Make no more, and wait until the thread has ended."""
        self._stopped.set()
        self._thread.join()
