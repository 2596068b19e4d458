"""fastnn info."""

from __future__ import annotations

import json
from typing import Any

from fastnn.system import info

__all__ = ["run"]


def run(as_json: bool) -> None:
    """Print what fastnn runs on, and who decided."""
    facts = info()
    print(json.dumps(facts) if as_json else describe(facts))


def describe(facts: dict[str, Any]) -> str:
    """The facts as a table for people."""
    cuda = f"yes: {facts['cuda_reason']}" if facts["cuda"] else f"no: {facts['cuda_reason']}"
    rows = [
        ("fastnn", f"{facts['fastnn']} (Python {facts['python']}, NumPy {facts['numpy']})"),
        ("platform", facts["platform"]),
        ("instructions", f"{facts['cpu']}: {facts['cpu_reason']}"),
        ("threads", f"{facts['threads']}: {facts['threads_reason']}"),
        ("CUDA", cuda),
    ]
    return "\n".join(f"{name:<13} {text}" for name, text in rows)
