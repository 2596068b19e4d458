"""Check the newest run folder below a directory: its files, and the test accuracy it reports."""

import argparse
import json
import sys
from pathlib import Path

FILES = (
    "config.toml",
    "metrics.jsonl",
    "best.safetensors",
    "last.safetensors",
    "env.json",
    "loss.png",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--min-accuracy", type=float, required=True)
    options = parser.parse_args()
    run = max((p for p in options.runs.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    missing = [name for name in FILES if not (run / name).is_file()]
    if missing:
        print(f"{run}: expected {', '.join(FILES)}; missing {', '.join(missing)}", file=sys.stderr)
        return 1
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    accuracy = [r["accuracy"] for r in records if r["split"] == "test"][-1]
    print(f"{run}: test accuracy {accuracy:.4f}, expected at least {options.min_accuracy}")
    return 0 if accuracy >= options.min_accuracy else 1


if __name__ == "__main__":
    sys.exit(main())
