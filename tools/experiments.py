"""Write docs/experiments.md from what ``fastnn lab run all -o FOLDER`` left, or check it.

    fastnn lab run all -o lab && python tools/experiments.py lab

``--check`` compares names and expectations; measured numbers, and the standard errors that some
ranges are made of, may differ by a rounding elsewhere.
"""

import json
import re
import sys
from pathlib import Path

from fastnn.experiments import EXPERIMENTS
from fastnn.inspect.summary import number

DOC = Path(__file__).resolve().parents[1] / "docs" / "experiments.md"
HEAD = """# The experiments of the lectures

Each is a short file in `python/fastnn/experiments/`, run with fastnn's own kernels by
`fastnn lab run NAME`, which also draws the picture; `fastnn lab run all` runs them all. The ids are
those of [spec.md](spec.md). A number is right within the range given; the last column says where
that comes from. Written by `tools/experiments.py` from runs with seed 0; tests run smaller sizes.

"""


def section(name: str, folder: Path) -> str:
    experiment = EXPERIMENTS[name]
    facts = json.loads((folder / f"{name}.json").read_text())
    what = f"{experiment.ids}, lectures {experiment.lectures}: {experiment.line}."
    lines = [f"## {name}", "", what, "", "| number | measured | expected | why |", "|-|-|-|-|"]
    for n in facts["numbers"]:
        flag = "" if n["ok"] else " OFF"
        cells = [n["name"], number(n["measured"], 6) + flag, n["expected"], n["why"]]
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"


def fixed(text: str) -> str:
    """The text without the measured column, and without ranges of standard errors."""
    text = re.sub(r"(?m)^(\| (?:[^|\\]|\\.)+ \|) [^|]+ \|", r"\1", text)
    return re.sub(r"(?m) ± [^|]+(?= \| [^|]+ standard errors? \|$)", "", text)


def main() -> int:
    folder = Path(sys.argv[1])
    text = HEAD + "\n".join(section(name, folder) for name in EXPERIMENTS)
    if "--check" in sys.argv[2:]:
        stale = fixed(DOC.read_text()) != fixed(text)
        if stale:
            print("docs/experiments.md is stale; see tools/experiments.py", file=sys.stderr)
        return int(stale)
    DOC.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
