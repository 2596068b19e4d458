"""Open pages in a headless Chromium: every chart is drawn, nothing is fetched, nothing complains.

    python tools/check_pages.py runs/digits/report.html compare.html

A copy of each page gets a script that measures its charts and reports in the title; the page itself
has no scripts. Without a browser nothing is checked, which is said.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROBE = """<script>
const complaints = [];
addEventListener("error", event => complaints.push(String(event.message)));
addEventListener("load", () => {
  const charts = [...document.querySelectorAll("svg")].map(svg => {
    const box = svg.getBoundingClientRect(), drawn = svg.querySelectorAll("path, use, image, text");
    return {name: svg.getAttribute("aria-label"), width: box.width, height: box.height,
            parts: drawn.length};
  });
  const fetched = performance.getEntriesByType("resource").map(entry => entry.name);
  document.title = JSON.stringify({charts, complaints, fetched, width: document.body.scrollWidth});
});
</script>"""
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1120,1200", "--enable-logging=stderr", "--dump-dom",
]  # fmt: skip


def problems(browser: str, page: Path, folder: Path) -> list[str]:
    """What is wrong with a page."""
    copy = folder / page.name
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("</head>", PROBE + "</head>", 1), encoding="utf-8")
    command = [browser, *OPTIONS, f"--user-data-dir={folder / 'profile'}", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout, re.DOTALL)
    if title is None:
        return [f"the browser said nothing, exit code {done.returncode}"]
    seen = json.loads(title[1].replace("&quot;", '"').replace("&amp;", "&"))
    found = [f"console: {line}" for line in done.stderr.splitlines() if "CONSOLE" in line]
    found += [f"error: {complaint}" for complaint in seen["complaints"]]
    found += [f"fetched {name}" for name in seen["fetched"]]
    if not seen["charts"]:
        found.append("no charts")
    for chart in seen["charts"]:
        if chart["width"] < 100 or chart["height"] < 50 or chart["parts"] < 5:
            found.append(f"chart not drawn: {chart}")
    if seen["width"] > 1120:
        found.append(f"wider than the window: {seen['width']} pixels")
    if not found:
        print(f"{page.name}: {len(seen['charts'])} charts drawn, nothing fetched, no complaint")
    return found


def main(pages: list[str]) -> int:
    """0 if all is well, or there is no browser."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium here: pages not checked")
        return 0
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for page in map(Path, pages):
            for problem in problems(browser, page, Path(folder)):
                print(f"{page}: {problem}")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
