"""One page of HTML that holds all it shows: charts are inline SVG, nothing is fetched.

All text goes through ``html.escape``, because names of classes and columns come from files.
"""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from fastnn.train.files import write_atomically

__all__ = ["Page", "write_page"]

_STYLE = """
:root { --ink: #1f2933; --soft: #61707f; --line: #e3e8ee; --back: #f6f8fa; --good: #2f7d4f;
  --warn: #a05a00; --bad: #b3261e; }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px }
h1 { font-size: 26px; margin: 0 }
h2 { font-size: 18px; margin: 34px 0 10px }
header p, .note { color: var(--soft); margin: 4px 0 0 }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 0; padding: 0 }
.tiles div, section > .card { background: #fff; border: 1px solid var(--line); border-radius: 8px }
.tiles div { padding: 10px 16px; min-width: 132px }
.tiles dt { color: var(--soft); font-size: 13px }
.tiles dd { margin: 0; font-size: 21px; font-variant-numeric: tabular-nums }
section > .card { padding: 14px; margin: 0 0 12px; overflow-x: auto }
svg { max-width: 100%; height: auto; display: block }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
th { color: var(--soft); font-weight: 600 }
.pass { color: var(--good) } .warn { color: var(--warn) } .fail { color: var(--bad) }
footer { color: var(--soft); font-size: 13px; margin-top: 40px }
""".strip()


class Page:
    """A page with a title, the numbers that matter most, and sections.

    Args:
        title: The heading.
        subtitle: A line below it.

    Example:
        >>> from fastnn.train.report import Page
        >>> page = Page("A run", "of yesterday")
        >>> page.tile("accuracy", "97 %")
        >>> page.table("Settings", ["key", "value"], [["lr", "<0.1"]])
        >>> "&lt;0.1" in page.html()
        True
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._tiles: list[tuple[str, str]] = []
        self._sections: list[tuple[str, list[str]]] = []
        self._figures = 0

    def tile(self, name: str, value: str) -> None:
        """Add a number to those at the top."""
        self._tiles.append((name, value))

    def figure(self, section: str, figure: Figure, description: str) -> None:
        """Add a chart.

        Args:
            section: The heading it stands under; the first one with it opens the section.
            figure: A matplotlib figure.
            description: What it shows, for those who cannot see it.
        """
        self._figures += 1
        self._card(section, _svg(figure, f"chart{self._figures}", description))

    def table(self, section: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table of texts."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        self._card(section, f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def note(self, section: str, text: str, level: str = "note") -> None:
        """Add a line of text; its level is note, pass, warn or fail."""
        self._card(section, f'<p class="{html.escape(level)}">{html.escape(text)}</p>')

    def _card(self, section: str, body: str) -> None:
        for name, cards in self._sections:
            if name == section:
                cards.append(body)
                return
        self._sections.append((section, [body]))

    def html(self) -> str:
        """The whole page."""
        tiles = "".join(
            f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
            for name, value in self._tiles
        )
        sections = "".join(
            f"<section><h2>{html.escape(name)}</h2>"
            + "".join(f'<div class="card">{body}</div>' for body in cards)
            + "</section>\n"
            for name, cards in self._sections
        )
        title, subtitle = html.escape(self.title), html.escape(self.subtitle)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<link rel="icon" href="data:,">\n'
            f"<title>{title}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<main>\n"
            f"<header><h1>{title}</h1><p>{subtitle}</p></header>\n"
            f'<dl class="tiles">{tiles}</dl>\n{sections}'
            "<footer>Written by fastnn; this file needs no other.</footer>\n"
            "</main>\n</body>\n</html>\n"
        )


def write_page(page: Page, path: str) -> None:
    """Write a page; what was there stays if that fails."""
    write_atomically(path, page.html().encode())


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element of a page: with ids of its own, text that stays text, no date."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # 0.1 s that loss.png need not pay

    buffer = io.StringIO()
    canvas: Any = FigureCanvasSVG(figure)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    element = text[text.index("<svg") :]
    label = html.escape(description, quote=True)
    return element.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
