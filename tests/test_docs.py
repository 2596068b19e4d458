"""Every block of Python and every fastnn command in the documentation runs, page by page."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
from cli_helpers import run
from fastnn import experiments
from fastnn.experiments import zigzag

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = [DOCS / "tutorial.md", *sorted((DOCS / "howto").glob("*.md"))]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page):
    names = {"__name__": page.stem}
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks or page.stem == "index"
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, str(page), "exec"), names)
            continue
        for line in text.splitlines():
            program, *arguments = shlex.split(line.removeprefix("$ "))
            assert program == "fastnn", line
            run(*arguments)


@pytest.fixture
def gallery(monkeypatch, tmp_path):
    """The module that makes the page of the experiments, with two of them and its own folder."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PICTURES", tmp_path)
    few = {name: experiments.EXPERIMENTS[name] for name in ("zigzag", "adam-first-step")}
    monkeypatch.setattr(experiments, "EXPERIMENTS", few)
    return module


def test_the_gallery_has_a_picture_a_line_and_numbers_of_each(gallery, tmp_path):
    page = gallery.page()
    assert '[![zigzag](gallery/zigzag.png){width="31%"}](#zigzag)' in page
    section = page[page.index("## adam-first-step") :].splitlines()
    assert section[2] == "X20, lectures 004: Adam with and without bias correction."
    assert section[4] == "![adam-first-step](gallery/adam-first-step.png)"
    assert section[6] == "| number | measured | expected | why |"
    assert section[8].startswith("| first step / rate, bias corrected | 1 | 1 ± 0.1 % |")
    made = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {path.name for path in made} == {
        "zigzag.png", "zigzag.json", "adam-first-step.png", "adam-first-step.json",
    }  # fmt: skip
    assert gallery.page() == page  # nothing runs again
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made


def test_the_gallery_refuses_a_number_that_is_off(gallery, monkeypatch):
    monkeypatch.setattr(zigzag, "RATE", 0.01)
    with pytest.raises(ValueError, match="zigzag: expected every number in its range, got 'SGD: "):
        gallery.page()
