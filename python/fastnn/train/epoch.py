"""The inner loop: batches of a data set in memory, one recorded step replayed many times.

The data, the order of the epoch and the position in it live in memory that the step reads, so every
step is the same list of launches. The first batch of a size runs and is recorded; the others replay
it, many in one native call. A smaller last batch has a recording of its own, through the same text:
run eagerly it would cost 8 % of a fit on digits.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import CaptureError, _core, nn, random
from fastnn.tensor import Tensor
from fastnn.train.checks import Data
from fastnn.train.members import by_member
from fastnn.train.position import Sums

__all__ = ["Batches", "Body", "Loop", "Switch", "structure"]

CHUNK_SECONDS = 0.05  # how long a native call may last: progress and Ctrl-C wait for it


@dataclasses.dataclass
class Switch:
    """Whether steps are recorded; the loops of a Trainer share one, so it warns once."""

    on: bool = True


Body = Callable[[int], None]
# What a member made of a batch: its outputs, its loss, and the loss's terms by name.
Result = tuple[Tensor, Tensor, Mapping[str, Tensor]]


class _Totals:
    """The sums of one model, in memory that recorded steps add to."""

    def __init__(self, terms: Sequence[str], device: str) -> None:
        self.loss = _integers(np.zeros(1), device)  # the bits of a float64
        self.correct = _integers(np.zeros(1), device)
        self.terms = {name: _integers(np.zeros(1), device) for name in terms}

    def write(self, sums: Sums) -> None:
        self.correct.copy_(np.array([sums.correct], np.int64))
        for total, value in [
            (self.loss, sums.loss),
            *((total, sums.terms.get(name, 0.0)) for name, total in self.terms.items()),
        ]:
            total.copy_(np.array([value], np.float64).view(np.int64))

    def read(self) -> Sums:
        totals = (self.loss, *self.terms.values())
        loss, *terms = (float(_core.read_float64(total.to("cpu"))) for total in totals)
        correct = int(self.correct.to("cpu").item())
        return Sums(loss, correct, dict(zip(self.terms, terms, strict=True)))


class Batches:
    """Samples, the order to take them in, how far we are, and the sums over what was done.

    Args:
        data: The samples.
        device: Where the kernels run.
        terms: Names of the loss's terms, which are summed besides the loss.
        limit: Samples of an epoch; default: all.
        members: How many models learn from them.
    """

    def __init__(
        self,
        data: Data,
        device: str,
        terms: Sequence[str] = (),
        limit: int | None = None,
        members: int = 1,
    ) -> None:
        self.x, self.y = data.x.to(device), data.y.to(device)
        self._data, self._runner, self._device = data, data.runner, device
        self._ahead: Any = None
        self._fed: dict[int, Tensor] = {}  # by rows: images that a function of the user's made
        self._now: Tensor | None = None  # those of this step
        self.weights = None if data.weights is None else _core.share(data.weights).to(device)
        self.samples = data.x.shape[0] if limit is None else limit
        self.rows_per_sample = max(1, int(np.prod(data.y.shape[1:])))
        self.counts_correct = data.has_classes
        # Where some labels do not count: how many of each sample do.
        self._labels = data.labels
        self._kept = None if data.labels is None else _core.share(data.labels).to(device)
        self._order = np.arange(data.x.shape[0])
        self._index = _integers(self._order, device)
        self._cursor = _integers(np.zeros(1), device)
        self._totals = [_Totals(terms, device) for _ in range(members)]
        self.done = 0
        self.skipped = 0  # how many of those are not in the sums

    def start(
        self, order: Any = None, done: int = 0, skipped: int = 0, sums: Sequence[Sums] = ()
    ) -> None:
        """Begin an epoch, or continue it after ``done`` samples."""
        if order is not None:
            self._order = np.asarray(order)
            self._index.copy_(order)
        self.done, self.skipped = done, skipped
        self._cursor.copy_(np.array([done], np.int64))
        for i, totals in enumerate(self._totals):
            totals.write(sums[i] if sums else Sums())

    def sums(self) -> list[Sums]:
        """Those of each model, over the samples done."""
        return [totals.read() for totals in self._totals]

    def logs(self, sums: Sequence[Sums] | None = None) -> dict[str, float]:
        """Means over the samples done, or over their labels where some do not count.

        Args:
            sums: What :meth:`sums` has just returned; default: it is asked.
        """
        samples = max(1, self.done - self.skipped)
        labels = samples * self.rows_per_sample
        if self._labels is not None:
            done = self._order[self.skipped : self.done]
            samples = labels = max(1, int(self._labels[done].sum(dtype=np.int64)))
        each = []
        for own in self.sums() if sums is None else sums:
            totals = {"loss": own.loss, **own.terms}
            each.append({name: total / samples for name, total in totals.items()})
            if self.counts_correct:
                each[-1]["accuracy"] = own.correct / labels
        return by_member(each)

    def skip(self) -> None:
        """Forget the sums: the step that failed is in them."""
        self.start(done=self.done, skipped=self.done)

    def take(self, rows: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """The next rows of x and y, and of the samples' weights if there are any."""
        y = _core.gather(self.y, self._index, self._cursor, rows)
        if self._runner is None:
            x = _core.gather(self.x, self._index, self._cursor, rows)
        elif self._runner.is_native:
            x = self._runner.launch(self.x, self._index, self._cursor, rows)
        else:
            x = _core.gather(self._now, self._places, self._cursor, rows)
        if self._runner is not None:
            x, y = self._runner.mix(x, y, self._index, self._cursor)
        if self.weights is None:
            return x, y, None
        return x, y, _core.gather(self.weights, self._index, self._cursor, rows)

    def draw(self, seed: int, epoch: int) -> None:
        """What augmentation draws from here on."""
        if self._runner is not None:
            self._runner.start(seed, epoch)

    def inputs(self) -> Tensor:
        """All of x as the model takes it."""
        return self.x if self._runner is None else self._data.inputs()

    # Functions of the user's are not recorded: they fill memory that recorded steps read.

    @property
    def is_fed(self) -> bool:
        """Whether each step needs :meth:`feed`."""
        return self._runner is not None and not self._runner.is_native

    def start_feeding(self, rows: int) -> None:
        """Make the steps of so many rows that are left on another thread."""
        runner, x = self._runner, np.asarray(self._data.x)
        left = self._order[self.done : self.samples]
        assert runner is not None
        if not self._fed:  # where a sample is in the images of its step
            self._places = _integers(np.arange(self.samples) % rows, self._device)

        def make(i: int) -> Any:
            samples = left[i * rows : (i + 1) * rows]
            made = runner.batch(x[samples], samples)
            return _core.pin(made) if self._device != "cpu" else made

        self._ahead = _core.prefetch(make, -(-len(left) // rows), 2)

    def feed(self, rows: int) -> None:
        """The images of the next step to where steps of that many rows read them."""
        assert self._ahead is not None
        made = self._ahead.get()
        if rows in self._fed:
            self._fed[rows].copy_(made, non_blocking=True)
        else:
            self._fed[rows] = _core.to_device(_core.clone(made), self._device)
        self._now = self._fed[rows]

    def stop_feeding(self) -> None:
        """Let the thread end."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def count(self, results: Sequence[Result], y: Tensor, rows: int, is_sum: bool = False) -> None:
        """Add a batch to the sums and move on; a mean counts as often as it has rows."""
        kept: Any = None
        if not is_sum and self._kept is not None:
            kept = _core.sum(_core.gather(self._kept, self._index, self._cursor, rows), 1.0, False)
        if self.counts_correct:  # shares of mixed labels count for the greatest
            labels = y if y.dtype == "int64" else _core.argmax(y)
        for totals, (outputs, loss, terms) in zip(self._totals, results, strict=True):
            values = [(loss, totals.loss)]
            values += [(value, totals.terms[name]) for name, value in terms.items()]
            for value, total in values:
                if kept is not None:
                    value = _core.binary(_core.BINARIES["mul"], value, kept)
                _core.accumulate(value, total, float(rows) if kept is None and not is_sum else 1.0)
            if self.counts_correct:
                _core.count_correct(outputs, labels, totals.correct)
        _core.advance(self._cursor, rows)


class Loop:
    """Runs a step over all batches.

    Args:
        batches: The data.
        batch_size: Samples per step.
        body: The step of so many rows: takes them from the batches, and counts them.
        prepare: Called before each native call that code of the user's may have run before; writes
            what recorded steps read, and returns what a recording depends on besides memory:
            another value means to record anew.
        switch: Whether to record at all; turned off when a step cannot be recorded.
    """

    def __init__(
        self,
        batches: Batches,
        batch_size: int,
        body: Body,
        prepare: Callable[[], object],
        *,
        switch: Switch | None = None,
    ) -> None:
        self.batches, self.batch_size = batches, batch_size
        self._body, self._prepare = body, prepare
        self._switch = switch or Switch()
        self._plans: dict[int, tuple[Any, object]] = {}  # by rows: the plan, and what it depends on
        self._seconds_per_step = CHUNK_SECONDS

    def run(self, max_steps: int | None = None) -> Iterator[int]:
        """Run to the end of the epoch; yields the number of samples done after each native call.

        Args:
            max_steps: At most this many steps per call, where the caller lets the user's code run
                between calls; default: as many as fit in 50 ms, with nothing of it in between.
        """
        if not self.batches.is_fed:
            yield from self._run(max_steps)
            return
        self.batches.start_feeding(self.batch_size)
        try:
            yield from self._run(1)
        finally:
            self.batches.stop_feeding()

    def _run(self, max_steps: int | None) -> Iterator[int]:
        batches = self.batches
        signature = None
        while batches.done < batches.samples:
            left = batches.samples - batches.done
            rows = min(left, self.batch_size)
            if batches.is_fed:
                batches.feed(rows)
            if signature is None:
                signature = self._prepare()
            plan = self._current_plan(rows, signature)
            if plan is not None:
                fitting = max(1, int(CHUNK_SECONDS / self._seconds_per_step))
                self._replay(plan, rows, min(left // rows, fitting, max_steps or fitting))
            elif not self._switch.on or not self._record(rows, signature):
                self._body(rows)
                batches.done += rows
            yield batches.done
            if plan is None or max_steps is not None:  # code of the user's has run
                signature = None

    def _current_plan(self, rows: int, signature: object) -> Any:
        """The recording for this many rows, or None if there is none or it is out of date."""
        plan, recorded_for = self._plans.get(rows, (None, None))
        if plan is not None and (signature != recorded_for or not plan.is_current()):
            plan = None
            del self._plans[rows]
        return plan

    def _replay(self, plan: Any, rows: int, steps: int) -> None:
        start = time.perf_counter()
        whole = plan.replay(steps)
        self.batches.done += whole * rows
        plan.raise_data_error()
        self._seconds_per_step = max(1e-7, (time.perf_counter() - start) / steps)

    def _record(self, rows: int, signature: object) -> bool:
        """Run one step and record it. False if it cannot be recorded: then nothing has happened."""
        plan = _core.Plan()
        generators = random.get_state()
        start = time.perf_counter()
        plan.begin()
        try:
            self._body(rows)
        except CaptureError as error:
            plan.end()
            random.set_state(generators)
            warnings.warn(
                f"fit: the step is not captured and runs slower: {error}",
                RuntimeWarning,
                stacklevel=8,
            )
            self._switch.on = False
            return False
        finally:
            plan.end()
        plan.raise_data_error()
        self.batches.done += rows
        self._plans[rows] = plan, signature
        self._seconds_per_step = time.perf_counter() - start
        return True


def structure(model: nn.Module) -> object:
    """What a recording depends on besides memory: modes, hooks, precision, which parameters.

    The optimizer keeps a parameter alive that the model has replaced, so the plan cannot tell.
    """
    parts: list[object] = [_core.get_float32_matmul_precision()]
    for _, module in model.named_modules():
        parts += (module.training, len(module._forward_hooks))
        for name in (*module._parameters, *module._buffers):
            value = getattr(module, name)
            parts += (id(value), value is not None and value.requires_grad)
    return parts


def _integers(values: Any, device: str) -> Tensor:
    result: Tensor = _core.to_device(_core.clone(np.asarray(values, np.int64)), device)
    return result
