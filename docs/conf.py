"""How the site is built: sphinx-build -W docs build/docs, after pip install '.[docs]'.

The API pages are written here from every module's ``__all__``, so they cannot miss a name.
"""

from __future__ import annotations

import importlib
from pathlib import Path

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
suppress_warnings = ["myst.header", "myst.xref_missing"]  # the texts of the lectures as they are

MODULES = (
    "fastnn", "fastnn.functional", "fastnn.nn", "fastnn.nn.init", "fastnn.nn.utils", "fastnn.optim",
    "fastnn.optim.lr_scheduler", "fastnn.data", "fastnn.train", "fastnn.train.metrics",
    "fastnn.train.report", "fastnn.random", "fastnn.system", "fastnn.cuda",
)  # fmt: skip
API = Path(__file__).parent / "api"


def _write_api() -> None:
    """A page for each module, with a line for each public name that has a page of its own."""
    API.mkdir(exist_ok=True)
    for name in MODULES:
        module = importlib.import_module(name)
        public = [n for n in sorted(module.__all__) if callable(getattr(module, n))]
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
