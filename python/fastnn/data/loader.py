"""Batches of anything that has samples by number, augmented, made ahead, and resumed by sample."""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _core, cuda
from fastnn.data.order import epoch_order

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastnn.data.augment import Augmentation

__all__ = ["Loader"]

Array = np.ndarray[Any, Any]


class Loader:
    """Iterates over an epoch in batches; each iteration is the next epoch.

    Batches are made on another thread while the last one is used; it counts against the threads of
    ``fn.set_num_threads``. They depend on seed, epoch and sample alone. Rows of arrays, with
    augmentation that has no function of the user's, are made without the interpreter (and at once,
    on the caller's thread, where they are so small that this takes less than waking another); for
    other sources and functions that thread calls Python. A batch is the caller's: its memory is
    used again only when no array refers to it.

    Args:
        x: Samples by number: an array (memory-mapped too) or a sequence such as
            :class:`fastnn.data.ImageFolder`.
        y: Labels by number, or None.
        batch_size: Samples of a batch; the last of an epoch may have fewer.
        shuffle: Whether each epoch has an order of its own; or a function of (samples, seed, epoch)
            that gives n indices, such as :class:`fastnn.train.BalancedSampler`.
        augment: What is done to images.
        seed: What is random depends on it.
        drop_last: Whether a smaller last batch is left out.
        prefetch: Batches made ahead; 0 makes each when it is asked for.
        pin_memory: Whether batches are in page-locked memory, so that
            ``fn.from_numpy(x).to("cuda", non_blocking=True)`` copies while the host goes on.
            Where there is no CUDA this warns and changes nothing, as in torch.

    Attributes:
        epoch: Whole epochs done.
        done: Samples done in this one.
        waited: Seconds waited for batches.

    Raises:
        ValueError: If there are not as many labels as samples, an argument is out of range, or,
            while iterating, ``shuffle`` gives other than indices of the samples.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import Loader
        >>> loader = Loader(np.arange(5), np.arange(5) % 2, batch_size=2, shuffle=False)
        >>> [x.tolist() for x, y in loader]
        [[0, 1], [2, 3], [4]]
        >>> loader.epoch, loader.done
        (1, 0)
    """

    def __init__(
        self,
        x: Any,
        y: ArrayLike | None = None,
        batch_size: int = 32,
        *,
        shuffle: bool | Callable[[int, int, int], ArrayLike] = True,
        augment: Augmentation | None = None,
        seed: int = 0,
        drop_last: bool = False,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        if batch_size < 1 or prefetch < 0:
            raise ValueError(
                f"Loader: expected batch_size >= 1 and prefetch >= 0, got {batch_size} and "
                f"{prefetch}"
            )
        self.x, self.y = x, None if y is None else np.asarray(y)
        if self.y is not None and len(self.y) != len(x):
            raise ValueError(
                f"Loader: expected as many labels as samples, got {len(self.y)} for {len(x)}"
            )
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.drop_last, self.prefetch = drop_last, prefetch
        self._pins = pin_memory and cuda.is_available()
        if pin_memory and not self._pins:
            warnings.warn(
                f"Loader: pin_memory=True has no effect without CUDA: {cuda.why_unavailable()}",
                RuntimeWarning,
                stacklevel=2,
            )
        self.epoch, self.done, self.waited = 0, 0, 0.0
        self._augment = augment
        self._runner: Any = None

    def __len__(self) -> int:
        """Batches of an epoch."""
        whole, rest = divmod(len(self.x), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Array, Array | None]]:
        """The batches left in this epoch."""
        first, end, epoch = self.done, len(self.x), self.epoch
        if self.drop_last:
            end -= (end - first) % self.batch_size
        order = epoch_order("Loader", self.shuffle, len(self.x), self.seed, epoch)
        samples = np.arange(first, end) if order is None else order[first:end]
        ahead = self._start(np.ascontiguousarray(samples, np.int64), epoch)
        try:
            for start in range(first, end, self.batch_size):
                batch = ahead.get()
                self.done = min(start + self.batch_size, end)
                yield batch
            self.epoch, self.done = epoch + 1, 0
        finally:
            ahead.close()
            self.waited += ahead.waited

    def state_dict(self) -> dict[str, int]:
        """Where the loader is: counted in samples, so that batches may have another size later.

        Example:
            See :meth:`load_state_dict`.
        """
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where another loader of these data stopped.

        Example:
            >>> from fastnn.data import Loader
            >>> first, second = Loader(range(6), batch_size=2), Loader(range(6), batch_size=2)
            >>> for x, _ in first:
            ...     break
            >>> second.load_state_dict(first.state_dict())
            >>> len(list(second))
            2
        """
        self.epoch, self.done = int(state["epoch"]), int(state["done"])

    def _start(self, samples: Array, epoch: int) -> Any:
        """What makes the batches of these samples, in order."""
        size = self.batch_size
        if self._is_native():
            program, mixing = None, None
            if self._augment is not None:
                program, mixing = self._runner_for(self.x[:1]).native(self.seed, epoch)
            return _core.prefetch_rows(
                self.x, self.y, samples, size, self.prefetch, program, mixing, self._pins,
                _on_disk(self.x),
            )  # fmt: skip

        def make(i: int) -> tuple[Array, Array | None]:
            return self._make(samples[i * size : (i + 1) * size], epoch)

        return _core.prefetch(make, -(-len(samples) // size), self.prefetch)

    def _is_native(self) -> bool:
        """Whether batches are rows of memory, and what is done to them is ours."""
        arrays = [self.x] if self.y is None else [self.x, self.y]
        if not all(isinstance(a, np.ndarray) and a.flags.c_contiguous for a in arrays):
            return False
        if any(a.dtype.hasobject for a in arrays):
            return False
        if self._augment is None:
            return True
        if self.x.dtype not in (np.uint8, np.float32):
            return False  # converted, batch by batch
        runner = self._runner_for(self.x[:1])
        mixes = runner.mixes is not None
        return runner.is_native and (not mixes or (self.y is not None and self.y.dtype == np.int64))

    def _make(self, samples: Array, epoch: int) -> tuple[Array, Array | None]:
        whole = hasattr(self.x, "dtype")
        x = np.asarray(self.x[samples] if whole else np.stack([self.x[int(i)] for i in samples]))
        y = None if self.y is None else self.y[samples]
        if self._augment is not None:
            runner = self._runner_for(x)
            runner.start(self.seed, epoch)
            x, y = runner.whole(x, y, samples)
        return (_pinned(x), _pinned(y)) if self._pins else (x, y)

    def _runner_for(self, x: Array) -> Any:
        """The transform for such images; of another shape it would be another program."""
        from fastnn.data.augment.run import Runner, as_images

        images = as_images("Loader", x, False)
        given = images.shape[1:], images.dtype == "float32"
        if self._runner is None or self._runner.given != given:
            assert self._augment is not None
            self._runner = Runner(self._augment, *given)
        return self._runner


def _pinned(a: Any) -> Any:
    return a if a is None or a.dtype.hasobject else _core.pin(np.ascontiguousarray(a))


def _on_disk(x: Any) -> bool:
    """Whether an array is a file's: then reading a row may take long."""
    while isinstance(x, np.ndarray) and not isinstance(x, np.memmap):
        x = x.base
    return isinstance(x, np.memmap | mmap.mmap)
