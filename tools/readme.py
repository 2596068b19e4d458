"""Write the README's tables, of ops and of speeds, or check that they are up to date (--check)."""

import json
import sys
from pathlib import Path

from fastnn.testing.ops import OPS

ROOT = Path(__file__).resolve().parents[1]
README, RECORDS = ROOT / "README.md", ROOT / "docs" / "results" / "bench_cpu.jsonl"
sys.path.insert(0, str(ROOT / "bench"))

from report import summary  # noqa: E402


def ops() -> list[str]:
    lines = ["| function | family | dtypes | CUDA (under the emulator) |", "|-|-|-|-|"]
    for op in OPS:
        some = f"yes, {', '.join(op.cuda_dtypes)}" if op.cuda_dtypes else "yes"
        cuda = some if op.cuda is None else "not yet"
        lines.append(f"| `{op.name}` | {op.family} | {', '.join(op.dtypes)} | {cuda} |")
    return lines


def speeds() -> list[str]:
    return summary([json.loads(line) for line in RECORDS.read_text().splitlines()])


def replace(text: str, name: str, lines: list[str]) -> str:
    """The text with these lines between the marks of that name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, rest = text.split(begin)
    return "\n".join([head + begin, *lines, end + rest.split(end)[1]])


def main() -> int:
    before = README.read_text()
    after = replace(replace(before, "ops", ops()), "speeds", speeds())
    if "--check" in sys.argv[1:]:
        if before != after:
            print("README.md: a table is stale; run python tools/readme.py", file=sys.stderr)
        return int(before != after)
    README.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
