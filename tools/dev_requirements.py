"""Print the tools of the extras [dev] and [docs], one a line: CI installs them without a build."""

import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def main() -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    for tool in extras["dev"] + extras["docs"]:
        if not tool.startswith("fastnn"):
            print(tool)


if __name__ == "__main__":
    main()
