"""How the site is built: sphinx-build -W docs build/docs, after pip install '.[docs]'.

The API pages are written here from every module's ``__all__``, so they cannot miss a name; the
experiments run, for the page with their pictures (gallery.py).
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import fastnn

project, author = "fastnn", "the fastnn authors"
version = release = fastnn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_copybutton",
]
html_theme = "pydata_sphinx_theme"
html_title = "fastnn"
html_theme_options = {"navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}
html_copy_source = False
exclude_patterns = ["results/*"]

autodoc_typehints = "none"  # signatures have them; docstrings say shapes
autodoc_member_order = "bysource"
autosummary_generate = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Source"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_inline"]
suppress_warnings = ["myst.header", "myst.xref_missing"]  # the texts of the lectures as they are

MODULES = (
    "fastnn", "fastnn.functional", "fastnn.nn", "fastnn.nn.init", "fastnn.nn.utils", "fastnn.optim",
    "fastnn.optim.lr_scheduler", "fastnn.data", "fastnn.data.augment", "fastnn.train",
    "fastnn.train.metrics", "fastnn.train.report", "fastnn.inspect", "fastnn.experiments",
    "fastnn.recipes", "fastnn.random", "fastnn.system", "fastnn.cuda", "fastnn.amp",
)  # fmt: skip
API = Path(__file__).parent / "api"


# A docstring is plain text with ``code``: bars and stars in it are mathematics, and a name may end
# in an underscore. What stands before the colon of an argument is napoleon's.
CODE = re.compile(r"(``.+?``|:[\w:]+:`.+?`)")
ARGUMENT = re.compile(r"\s*[\w*]+( \(.*?\))?:")


def plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape what would be markup, outside of examples and literal blocks."""
    literal = None  # the indentation of the line that a literal block follows
    example = False
    for i, line in enumerate(lines):
        indentation = len(line) - len(line.lstrip())
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if literal is not None and line.strip() and indentation <= literal:
            literal = None
        if not example and literal is None:
            argument = ARGUMENT.match(line)
            start = argument.end() if argument else 0
            parts = CODE.split(line[start:])
            parts[::2] = [re.sub(r"([|*]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
            lines[i] = line[:start] + "".join(parts)
        if line.rstrip().endswith("::"):
            literal = indentation


def without_rules(app: Any, name: str, source: list[str]) -> None:
    """The lectures' text separates its parts by rules, where a page may have none."""
    if name == "spec":
        source[0] = re.sub(r"^---+$", "", source[0], flags=re.MULTILINE)


def with_pictures(app: Any, name: str, source: list[str]) -> None:
    """The page of the experiments is made anew for the site: fresh numbers, and pictures."""
    if name == "experiments":
        import gallery

        source[0] = gallery.page()


def setup(app: Any) -> None:
    """Called by Sphinx."""
    sys.path.insert(0, str(Path(__file__).parent))
    app.connect("autodoc-process-docstring", plain, priority=100)  # before napoleon
    app.connect("source-read", without_rules)
    app.connect("source-read", with_pictures)


def _write_api() -> None:
    """A page for each module, with a line for each public name that has a page of its own."""
    API.mkdir(exist_ok=True)
    modules = {name: importlib.import_module(name) for name in MODULES}
    elsewhere = {n for name in MODULES[1:] for n in modules[name].__all__}
    for name, module in modules.items():
        public = [n for n in sorted(module.__all__) if callable(getattr(module, n))]
        if name == "fastnn":  # which repeats the names that are wanted most
            public = [n for n in public if n not in elsewhere]
        entries = "\n".join(f"   {entry}" for entry in public)
        summary = (module.__doc__ or "").strip()
        (API / f"{name}.rst").write_text(
            f"{name}\n{'=' * len(name)}\n\n{summary}\n\n.. currentmodule:: {name}\n\n"
            f".. autosummary::\n   :toctree: generated\n   :nosignatures:\n\n{entries}\n"
        )
    pages = "\n".join(f"   {name}" for name in MODULES)
    (API / "index.rst").write_text(
        f"API\n===\n\nEvery public name, by module.\n\n.. toctree::\n   :maxdepth: 1\n\n{pages}\n"
    )


_write_api()
