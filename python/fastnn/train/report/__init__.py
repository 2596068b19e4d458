"""Pictures of a run, and pages of them. Needs matplotlib, but no display.

``plots`` draws matplotlib figures; ``page`` puts them on one page of HTML that needs nothing else.
"""

from fastnn.train.report.page import Page, write_page
from fastnn.train.report.plots import (
    confusion_figure,
    curves_figure,
    histogram_figure,
    images_figure,
    norms_figure,
    quantity_figure,
    save_png,
    smooth,
    steps_figure,
)

__all__ = [
    "Page",
    "confusion_figure",
    "curves_figure",
    "histogram_figure",
    "images_figure",
    "norms_figure",
    "quantity_figure",
    "save_png",
    "smooth",
    "steps_figure",
    "write_page",
]
