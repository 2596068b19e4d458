"""What an experiment returns: numbers beside what they should be, a picture, perhaps a table."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.inspect.summary import format_table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Number", "Result", "at_least", "at_most", "between", "equal", "near"]


@dataclasses.dataclass(frozen=True)
class Number:
    """A measured number and the range it should be in.

    Attributes:
        name: What was measured.
        measured: The value.
        low: The least that is right.
        high: The most that is right.
        expected: The range in words.
        why: Where the expectation and its tolerance come from.
    """

    name: str
    measured: float
    low: float
    high: float
    expected: str
    why: str

    @property
    def ok(self) -> bool:
        """Whether it is in its range; NaN is not."""
        return self.low <= self.measured <= self.high


def near(
    name: str, measured: float, expected: float, why: str, *, rel: float = 0.0, abs: float = 0.0
) -> Number:
    """A number within a relative or an absolute distance of another.

    Example:
        >>> from fastnn.experiments.result import near
        >>> near("pi", 3.14, 22 / 7, "Archimedes", abs=0.01).expected
        '3.143 ± 0.01'
    """
    expected, abs = float(expected), float(abs)
    margin = abs or rel * math.fabs(expected)
    text = f"{number(expected)} ± {number(abs) if abs else f'{100 * rel:.3g} %'}"
    return Number(name, float(measured), expected - margin, expected + margin, text, why)


def equal(name: str, measured: float, expected: float, why: str) -> Number:
    """A number that is exactly another.

    Example:
        >>> from fastnn.experiments.result import equal
        >>> equal("legs", 3, 4, "a table").ok
        False
    """
    text = number(expected, 6)
    return Number(name, float(measured), float(expected), float(expected), text, why)


def between(name: str, measured: float, low: float, high: float, why: str) -> Number:
    """A number in a range.

    Example:
        >>> from fastnn.experiments.result import between
        >>> between("share", 0.5, 0, 1, "a share").ok
        True
    """
    return Number(name, float(measured), low, high, f"{number(low)} to {number(high)}", why)


def at_least(name: str, measured: float, low: float, why: str) -> Number:
    """A number that is not less than another; NaN is not.

    Example:
        >>> from fastnn.experiments.result import at_least
        >>> at_least("accuracy", 0.9, 0.8, "practice").expected
        '≥ 0.8'
    """
    return Number(name, float(measured), low, math.inf, f"≥ {number(low)}", why)


def at_most(name: str, measured: float, high: float, why: str) -> Number:
    """A number that is not more than another; NaN is not.

    Example:
        >>> from fastnn.experiments.result import at_most
        >>> at_most("error", float("nan"), 1.0, "theory").ok
        False
    """
    return Number(name, float(measured), -math.inf, high, f"≤ {number(high)}", why)


@dataclasses.dataclass
class Result:
    """What an experiment found.

    Attributes:
        numbers: What was measured, beside what was expected.
        draw: Draws the picture into a figure.
        size: Of that figure, in inches.
        table: A table of more numbers, for people.
        animate: Draws into a figure, and yields after each frame, if there is an animation.
    """

    numbers: list[Number]
    draw: Callable[[Figure], None]
    size: tuple[float, float] = (9.0, 3.6)
    table: str = ""
    animate: Callable[[Figure], Iterator[None]] | None = None

    @property
    def ok(self) -> bool:
        """Whether every number is as expected."""
        return all(n.ok for n in self.numbers)

    def __str__(self) -> str:
        rows = [
            [n.name, number(n.measured, 6), n.expected, "OK" if n.ok else "OFF"]
            for n in self.numbers
        ]
        text = format_table(["number", "measured", "expected", ""], rows)
        return f"{self.table}\n\n{text}" if self.table else text

    def to_dict(self) -> dict[str, Any]:
        """The numbers in plain Python, ready for JSON: no infinities, no NaN."""
        return {
            "ok": self.ok,
            "numbers": [
                {
                    key: value if not isinstance(value, float) or math.isfinite(value) else None
                    for key, value in {**dataclasses.asdict(n), "ok": n.ok}.items()
                }
                for n in self.numbers
            ],
        }

    def figure(self) -> Figure:
        """The picture; needs matplotlib, but no display."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.size, dpi=110, layout="constrained")
        self.draw(figure)
        return figure

    def save(self, folder: str, name: str) -> list[str]:
        """Write ``name.png``, ``name.json`` and, if there is an animation, ``name.gif``.

        Args:
            folder: Made if it is not there.
            name: Of the files.

        Returns:
            Their paths.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        stem = Path(folder) / name
        stem.with_suffix(".json").write_text(json.dumps(self.to_dict(), indent=1) + "\n")
        self.figure().savefig(stem.with_suffix(".png"))
        paths = [stem.with_suffix(".png"), stem.with_suffix(".json")]
        if self.animate is not None:
            paths.append(self._save_animation(stem.with_suffix(".gif")))
        return [str(path) for path in paths]

    def _save_animation(self, path: Path) -> Path:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image

        assert self.animate is not None
        figure = Figure(figsize=(6.4, 4.8), dpi=80, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        frames = []
        for _ in self.animate(figure):
            canvas.draw()  # type: ignore[no-untyped-call]
            pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
            frames.append(Image.fromarray(pixels).convert("RGB"))
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=80, loop=0)
        return path
