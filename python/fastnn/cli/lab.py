"""fastnn lab: the experiments of the lectures."""

from __future__ import annotations

import json
import sys
import time

from fastnn import experiments
from fastnn.cli.app import RunFailed
from fastnn.inspect.summary import format_table

__all__ = ["run", "show"]


def show(as_json: bool) -> None:
    """Print what there is."""
    every = experiments.EXPERIMENTS.values()
    if as_json:
        print(json.dumps([vars(e) for e in every]))
        return
    rows = [[e.name, e.ids, e.lectures, e.line] for e in every]
    print(format_table(["name", "id", "lectures", "what it shows"], rows, left=4))


def run(names: list[str], output: str, seed: int, quick: bool, as_json: bool) -> None:
    """Run some, or all, and write their pictures and numbers.

    Raises:
        RunFailed: If a number is not as expected.
    """
    chosen = list(experiments.EXPERIMENTS) if names == ["all"] else names
    results, off = {}, []
    for name in chosen:
        start = time.perf_counter()
        result = experiments.run(name, seed, quick)
        paths = result.save(output, name)
        seconds = time.perf_counter() - start
        results[name] = {**result.to_dict(), "seconds": round(seconds, 2), "files": paths}
        off += [f"{name}: {n.name}" for n in result.numbers if not n.ok]
        if not as_json:
            e = experiments.EXPERIMENTS[name]
            print(f"{name} ({e.ids}): {e.line}\n\n{result}\n\n{', '.join(paths)}\n", flush=True)
        print(f"{name}: {seconds:.1f} s", file=sys.stderr)
    if as_json:
        print(json.dumps(results))
    if off:
        raise RunFailed(f"lab: expected every number in its range, got {len(off)} off: {off[0]}")
