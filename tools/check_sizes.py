"""Name every source file over 400 lines and every Python function over 60."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE, MAX_FUNCTION = 400, 60
SUFFIXES = {".py", ".h", ".cc", ".cu", ".cuh"}


def long_functions(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > MAX_FUNCTION:
                found.append(
                    f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {lines} lines"
                )
    return found


def main() -> int:
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    paths = [ROOT / name for name in listing.splitlines() if Path(name).suffix in SUFFIXES]
    problems = []
    for path in paths:
        lines = len(path.read_text().splitlines())
        if lines > MAX_FILE:
            problems.append(f"{path.relative_to(ROOT)}: {lines} lines")
        if path.suffix == ".py":
            problems.extend(long_functions(path))
    print(
        "\n".join(problems)
        or f"{len(paths)} files: none over {MAX_FILE} lines, no function over {MAX_FUNCTION}"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
