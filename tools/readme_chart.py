"""Draw docs/chart.svg: training steps and a whole fit, fastnn next to its best peers.

python tools/readme_chart.py bench/results/bench_cpu.jsonl docs/chart.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

_NAMES = {"fastnn": "fastnn", "jax": "JAX", "torch": "PyTorch", "sklearn": "scikit-learn"}
_COLOURS = {"fastnn": "#d9480f", "jax": "#748ffc", "torch": "#adb5bd", "sklearn": "#8ce99a"}
_TITLES = {
    "C20": "64-64-64-10, batch 32\none training step",
    "C21": "784-512-256-10, batch {batch}\none training step",
    "C25": "digits, 64-128-64-10\n20 epochs, whole fit",
}


def main() -> int:
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    records = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    threads = int(sys.argv[3]) if len(sys.argv) == 4 else 1
    panels = {
        _title(r): _bars(r)
        for r in records
        if r.get("goal") in _TITLES and r.get("threads") == threads
    }
    if not panels:
        print(f"no record of {', '.join(_TITLES)} at {threads} thread(s)", file=sys.stderr)
        return 2
    machines = [r["machine"] for r in records if "machine" in r]
    machine = max(machines, key=lambda m: m["date"], default=None)
    _draw(panels, _footnote(machine, threads), Path(sys.argv[2]))
    return 0


def _title(record: dict[str, Any]) -> str:
    return _TITLES[record["goal"]].format(**record["params"])


def _bars(record: dict[str, Any]) -> dict[str, float]:
    times = {"fastnn": record["fastnn_us"]}
    times |= {name: p["us"] for name, p in record["peers"].items() if name in _NAMES}
    return dict(sorted(times.items(), key=lambda item: item[1]))


def _footnote(machine: dict[str, Any] | None, threads: int) -> str:
    text = f"{threads} thread{'s' if threads > 1 else ''}; every library in its fastest setting"
    text += " (JAX: lax.scan, without compilation); medians of interleaved rounds."
    if machine is None:
        return text
    versions = machine["versions"]
    shown = ", ".join(f"{k} {versions[k]}" for k in ("torch", "jax") if k in versions)
    return f"{text}\n{machine['cpu']}, {machine['date']}; {shown}. Shorter is better."


def _draw(panels: dict[str, dict[str, float]], footnote: str, path: Path) -> None:
    plt.rcParams.update({"font.size": 9, "svg.fonttype": "path", "svg.hashsalt": "fastnn"})
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.3 * columns, 2.1 * rows + 0.4))
    flat = list(axes.flat) if hasattr(axes, "flat") else [axes]
    for axis, (title, times) in zip(flat, panels.items(), strict=False):
        _panel(axis, title, times)
    for axis in flat[len(panels) :]:
        axis.axis("off")
    figure.text(0.01, 0.01, footnote, fontsize=7, color="#495057", va="bottom")
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axis: Any, title: str, times: dict[str, float]) -> None:
    names = list(times)
    bars = axis.barh(names, list(times.values()), color=[_COLOURS[n] for n in names], height=0.7)
    axis.set_yticks(range(len(names)), [_NAMES[n] for n in names])
    axis.bar_label(bars, [_time(t) for t in times.values()], padding=3, fontsize=8)
    axis.invert_yaxis()
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_xlim(0, 1.3 * max(times.values()))
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def _time(us: float) -> str:
    if us < 1000:
        return f"{us:.1f} µs" if us < 100 else f"{us:.0f} µs"
    return f"{us / 1e3:.2f} ms" if us < 1e4 else f"{us / 1e3:.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
