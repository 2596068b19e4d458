"""The command line. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys

__all__ = ["LABEL", "main"]

LABEL = "label"  # the label column of a table where none is named


def main() -> None:
    """Entry point of the ``fastnn`` command."""
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        print(
            "error: the fastnn command needs typer; install it with: pip install 'fastnn[train]'",
            file=sys.stderr,
        )
        sys.exit(1)
    from fastnn.cli.app import app

    app()
