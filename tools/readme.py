"""Write the README's table of ops from the op table, or check that it is up to date (--check)."""

import sys
from pathlib import Path

from fastnn.testing.ops import OPS

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- ops:begin -->", "<!-- ops:end -->"


def table() -> str:
    lines = ["| function | family | dtypes | CUDA (under the emulator) |", "|-|-|-|-|"]
    for op in OPS:
        some = f"yes, {', '.join(op.cuda_dtypes)}" if op.cuda_dtypes else "yes"
        cuda = some if op.cuda is None else "not yet"
        lines.append(f"| `{op.name}` | {op.family} | {', '.join(op.dtypes)} | {cuda} |")
    return "\n".join(lines)


def main() -> int:
    before = README.read_text()
    head, rest = before.split(BEGIN)
    tail = rest.split(END)[1]
    after = f"{head}{BEGIN}\n{table()}\n{END}{tail}"
    if "--check" in sys.argv[1:]:
        if before != after:
            print("README.md: the op table is stale; run python tools/readme.py", file=sys.stderr)
        return int(before != after)
    README.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
