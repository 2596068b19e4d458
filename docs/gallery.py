"""The gallery: the page of the experiments, with fresh numbers and a picture of each.

In the repository the page is ``experiments.md``, numbers alone. For the site every experiment runs
again, unless its picture is newer than its text; pictures are kept in ``docs/gallery``, which git
ignores.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastnn import experiments

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tools"))
from experiments import HEAD, section  # noqa: E402

PICTURES = HERE / "gallery"


def page() -> str:
    """The text of the page; runs what is not there yet.

    Raises:
        ValueError: If a number is not as expected.
    """
    parts = [HEAD, "\n".join(map(_thumbnail, experiments.EXPERIMENTS)), "\n\n"]
    for name in experiments.EXPERIMENTS:
        _run(name)
        title, line, *rest = section(name, PICTURES).split("\n\n")
        moving = f"\n\n![{name}, frame by frame](gallery/{name}.gif)" if _path(name, "gif") else ""
        picture = f"![{name}](gallery/{name}.png)"
        parts.append("\n\n".join([title, line, picture + moving, *rest]) + "\n")
    return "".join(parts)


def _thumbnail(name: str) -> str:
    return f'[![{name}](gallery/{name}.png){{width="31%"}}](#{name})'


def _path(name: str, kind: str) -> Path | None:
    path = PICTURES / f"{name}.{kind}"
    return path if path.exists() else None


def _run(name: str) -> None:
    package = Path(experiments.__file__).parent
    texts = [package / f"{n}.py" for n in (name.replace("-", "_"), "common", "result")]
    newest = max(path.stat().st_mtime for path in texts)
    made = [_path(name, kind) for kind in ("png", "json")]
    if all(path and path.stat().st_mtime > newest for path in made):
        return
    result = experiments.run(name)
    off = [number.name for number in result.numbers if not number.ok]
    if off:
        raise ValueError(f"{name}: expected every number in its range, got {off[0]!r} off")
    result.save(str(PICTURES), name)
