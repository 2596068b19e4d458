"""Write the README's tables, or check that they are up to date (--check).

They are of ops, from the op table; of speeds, from the bench's records; and of the newest GPU run.
"""

import json
import sys
from pathlib import Path

from fastnn.testing.ops import OPS

ROOT = Path(__file__).resolve().parents[1]
README, GPU_RESULTS = ROOT / "README.md", ROOT / "bench" / "gpu" / "results"
RESULTS = ROOT / "bench" / "results"
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from report import summary  # noqa: E402

from bench.gpu.goals import GOALS  # noqa: E402


def op_table() -> str:
    lines = ["| function | family | dtypes | CUDA (under the emulator) |", "|-|-|-|-|"]
    for op in OPS:
        some = f"yes, {', '.join(op.cuda_dtypes)}" if op.cuda_dtypes else "yes"
        cuda = some if op.cuda is None else "not yet"
        lines.append(f"| `{op.name}` | {op.family} | {', '.join(op.dtypes)} | {cuda} |")
    return "\n".join(lines)


def speed_table(file: str, threads: tuple[int, ...]) -> str:
    records = [json.loads(line) for line in (RESULTS / file).read_text().splitlines()]
    return "\n".join(summary(records, threads))


def gpu_table(results: Path = GPU_RESULTS) -> str:
    """The verdicts of the newest run on a GPU; dry runs do not count."""
    runs = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    real = [run for run in runs if not run["fake"]]
    newest = max(real, key=lambda run: run["date"], default=None)
    verdicts = {v["goal"]: v for v in newest["goals"]} if newest else {}
    lines = ["| goal | what | result |", "|-|-|-|"]
    for goal in GOALS:
        verdict = verdicts.get(goal.id)
        told = "not measured yet" if verdict is None else verdict["verdict"]
        lines.append(f"| {goal.id} | {goal.what} | {told} |")
    if newest:
        lines += ["", f"{newest['device']}, commit {newest['commit'][:12]}, {newest['date']}."]
    return "\n".join(lines)


def replaced(text: str, name: str, table: str) -> str:
    """The text with the table between the marks of that name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, rest = text.split(begin)
    return f"{head}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def main() -> int:
    before = after = README.read_text()
    for name, table in (
        ("ops", op_table()),
        ("speeds", speed_table("bench_cpu.jsonl", (1,))),
        ("speeds-amd", speed_table("bench_cpu_amd.jsonl", (1, 2))),
        ("speeds-avx2", speed_table("bench_cpu_avx2.jsonl", (1, 2))),
        ("gpu", gpu_table()),
    ):
        after = replaced(after, name, table)
    if "--check" in sys.argv[1:]:
        if before != after:
            print("README.md: a table is stale; run python tools/readme.py", file=sys.stderr)
        return int(before != after)
    README.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
