"""Batches of anything that has samples by number, augmented, made ahead, and resumed by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import random
from fastnn.data.prefetch import Prefetcher

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastnn.data.augment import Augmentation

__all__ = ["Loader"]

Array = np.ndarray[Any, Any]


class Loader:
    """Iterates over an epoch in batches; each iteration is the next epoch.

    Batches are made on another thread while the last one is used; it counts against the threads of
    ``fn.set_num_threads``. They depend on seed, epoch and sample alone.

    Args:
        x: Samples by number: an array (memory-mapped too) or a sequence such as
            :class:`fastnn.data.ImageFolder`.
        y: Labels by number, or None.
        batch_size: Samples of a batch; the last of an epoch may have fewer.
        shuffle: Whether each epoch has an order of its own; or a function of (samples, seed, epoch)
            that gives indices, such as :class:`fastnn.train.BalancedSampler`.
        augment: What is done to images.
        seed: What is random depends on it.
        drop_last: Whether a smaller last batch is left out.
        prefetch: Batches made ahead; 0 makes each when it is asked for.

    Attributes:
        epoch: Whole epochs done.
        done: Samples done in this one.
        waited: Seconds waited for batches.

    Raises:
        ValueError: If there are not as many labels as samples, or an argument is out of range.

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
        self.epoch, self.done, self.waited = 0, 0, 0.0
        self._augment = augment
        self._runner: Any = None

    def __len__(self) -> int:
        """Batches of an epoch."""
        whole, rest = divmod(len(self.x), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Array, Array | None]]:
        """The batches left in this epoch."""
        order = self._order()
        first, end = self.done, len(self.x)
        if self.drop_last:
            end -= (end - first) % self.batch_size
        starts = range(first, end, self.batch_size)
        chosen = [order[start : min(start + self.batch_size, end)] for start in starts]
        epoch = self.epoch

        def make(i: int) -> tuple[Array, Array | None]:
            return self._make(chosen[i], epoch)

        ahead = Prefetcher(make, len(chosen), self.prefetch) if self.prefetch else None
        try:
            for i, samples in enumerate(chosen):
                batch = make(i) if ahead is None else ahead.get()
                self.done += len(samples)
                yield batch
            self.epoch, self.done = epoch + 1, 0
        finally:
            if ahead is not None:
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

    def _order(self) -> Array:
        n = len(self.x)
        if callable(self.shuffle):
            return np.asarray(self.shuffle(n, self.seed, self.epoch))
        return random.permutation(n, self.seed, self.epoch) if self.shuffle else np.arange(n)

    def _make(self, samples: Array, epoch: int) -> tuple[Array, Array | None]:
        whole = hasattr(self.x, "dtype")
        x = np.asarray(self.x[samples] if whole else np.stack([self.x[int(i)] for i in samples]))
        y = None if self.y is None else self.y[samples]
        if self._augment is None:
            return x, y
        runner = self._ready(x)
        runner.start(self.seed, epoch)
        made: tuple[Array, Array | None] = runner.whole(x, y, samples)
        return made

    def _ready(self, x: Array) -> Any:
        """The transform for such images; of another shape it would be another program."""
        from fastnn.data.augment.run import Runner, as_images

        shape = as_images("Loader", x, False).shape[1:]
        if self._runner is None or self._runner.given != (shape, x.dtype == np.float32):
            assert self._augment is not None
            self._runner = Runner(self._augment, shape, x.dtype == np.float32)
        return self._runner
