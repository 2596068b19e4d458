"""Write python/fastnn/_core.pyi from the built module, or check that it is up to date (--check)."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "python/fastnn/_core.pyi"
# These are written against the C API: their members and what pybind11 cannot know.
BASES = {
    "class NodeBase:": '''\
class NodeBase:
    """Slots of fastnn.tape.Node."""

    inputs: tuple[typing.Any, ...]
    vjp: collections.abc.Callable | None
    sources: tuple[typing.Any, ...]
    @property
    def rule_name(self) -> str: ...
    @property
    def layouts(self) -> tuple[str, ...]: ...
    @property
    def versions(self) -> int: ...

''',
    "class TensorBase:": '''\
class TensorBase:
    """Storage and tape slots of fastnn.Tensor."""

    grad: typing.Any
    requires_grad: bool
    _node: typing.Any
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def layout(self) -> str: ...
    @property
    def ndim(self) -> int: ...
    @property
    def _version(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

''',
}
# fastnn.tensor is a function as well as a module; bare generics say nothing, nor does what is
# written against the C API.
SPELLINGS = (
    (r"import fastnn\.tensor\n", "from fastnn.tensor import Tensor\n"),
    (r"fastnn\.tensor\.Tensor", "Tensor"),
    (r"-> tuple:", "-> tuple[int, ...]:"),
    (r"\bdict(?=[:\s]|$)", "dict[str, typing.Any]"),
    (
        r"def apply\(rule, \*inputs, \*\*params\):",
        "def apply(rule: collections.abc.Callable, /, *inputs: typing.Any, **params: typing.Any)"
        " -> Tensor:",
    ),
    (r"collections\.abc\.Callable\b(?!\[)", "collections.abc.Callable[..., typing.Any]"),
)


def generate() -> str:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pybind11_stubgen",
                "fastnn._core",
                "-o",
                folder,
                "--ignore-all-errors",
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        text = (Path(folder) / "fastnn/_core.pyi").read_text()
    return clean(text)


def clean(text: str) -> str:
    """Replace the classes that stubgen cannot read."""
    lines, skipping = [], False
    for line in text.splitlines():
        if line in BASES:
            lines.extend(BASES[line].splitlines())
            skipping = True
        elif skipping and line and not line.startswith(" "):
            skipping = False
        if not skipping:
            lines.append(line)
    text = "\n".join(lines) + "\n"
    for spelling, meant in SPELLINGS:
        text = re.sub(spelling, meant, text)
    return text


def main() -> int:
    text = generate()
    if "--check" in sys.argv[1:]:
        if TARGET.exists() and TARGET.read_text() == text:
            return 0
        print(
            f"{TARGET.name} is not what the module gives; run python tools/stubs.py",
            file=sys.stderr,
        )
        return 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
