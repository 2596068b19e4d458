"""The benchmark driver: fastnn and its peers on the same inputs, interleaved, each in its process.

    python bench/run.py                            # everything, 1 and 2 threads
    python bench/run.py --goal C20 C25 --threads 1
    python bench/run.py --op gelu softmax --baseline torch --quick
    python bench/run.py --json out.jsonl --markdown bench/results/bench_cpu.md

Only ratios within one run are claims; see README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import itself
import report
from cases import Case, all_cases, inputs
from imports import import_records
from processes import HERE, Native, Peer, Process, known_peers

# (process, setting) to (median, minimum) of each round, in us.
Times = dict[tuple[str, str], list[tuple[float, float]]]
FASTNN = Peer("fastnn", "fastnn", "fastnn_.py")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--op", nargs="+", default=[], help="only these ops or workloads")
    parser.add_argument("--goal", nargs="+", default=[], help="only these goals, such as C20")
    parser.add_argument("--baseline", default="numpy,torch,jax,sklearn", help="peers, by comma")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 7; quick: 3)")
    parser.add_argument("--seconds", type=float, default=0.05, help="per peer and round")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no large shapes")
    parser.add_argument("--compile", action="store_true", help="torch.compile too (slow to start)")
    parser.add_argument("--json", type=Path, help="append records to this file")
    parser.add_argument("--markdown", type=Path, help="write the report to this file")
    parser.add_argument("--from-json", type=Path, help="measure nothing: report on these records")
    parser.add_argument("--wheel", type=Path, help="a built wheel, for its size (C26)")
    return parser.parse_args()


def main() -> int:
    options = parse()
    if options.from_json:
        lines = report.latest(json.loads(t) for t in options.from_json.read_text().splitlines())
        if options.markdown:
            options.markdown.write_text(report.markdown(lines))
        report.table(lines, sys.stdout)
        return 0
    cases = [
        c
        for c in all_cases(options.quick)
        if (not options.op or c.op in options.op) and (not options.goal or c.goal in options.goal)
    ]
    if not cases:
        print("no such case", file=sys.stderr)
        return 2
    peers, absent = _find_peers(options.baseline.split(","))
    lines: list[dict[str, Any]] = []

    def emit(record: dict[str, Any]) -> None:
        lines.append(record)
        if options.json:
            with options.json.open("a") as file:
                file.write(json.dumps(record) + "\n")
        report.print_record(record, sys.stdout)

    emit({"machine": _machine(absent)})
    for threads in options.threads:
        if threads > len(os.sched_getaffinity(0)):
            print(f"{threads} threads: not that many processors", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(options, peers, threads, Path(folder))
            try:
                for case in cases:
                    for record in bench.measure(case):
                        emit(record)
            finally:
                emit({"limits": bench.native.limits(), "threads": threads, "load": _load()})
                bench.close()
    if options.markdown:
        options.markdown.write_text(report.markdown(lines))
    return 0


def _find_peers(names: list[str]) -> tuple[list[Peer], list[str]]:
    known = known_peers()
    unknown = set(names) - known.keys() - {""}
    if unknown:
        sys.exit(f"--baseline: expected some of {', '.join(known)}, got {', '.join(unknown)}")
    names = [n for n in names if n]
    present = [n for n in names if importlib.util.find_spec(known[n][0].library) is not None]
    absent = [n for n in names if n not in present]
    for name in absent:
        print(f"{name}: absent", file=sys.stderr)
    return [peer for name in present for peer in known[name]], absent


class Bench:
    """All processes for one number of threads."""

    def __init__(
        self, options: argparse.Namespace, peers: list[Peer], threads: int, folder: Path
    ) -> None:
        self.options, self.threads, self.folder = options, threads, folder
        self.rounds = options.rounds or (3 if options.quick else 7)
        # A hypervisor may wake two virtual processors on one core, and part them later.
        self.settle = 0.2 if threads > 1 else 0.0
        more = {"BENCH_COMPILE": "1" if options.compile else "0"}
        log = folder / "log.txt"
        self.native = Native(threads)
        self.fastnn = Process(FASTNN, threads, log, more)
        self.peers = [Process(peer, threads, log, more) for peer in peers]
        self.facts = self.fastnn.ask(cmd="describe")
        if "error" in self.facts:
            sys.exit(f"fastnn: {self.facts['error']}\n{log.read_text()}")
        self.commit = _commit()
        self.dropped: set[str] = set()  # settings that were told to be

    def measure(self, case: Case) -> list[dict[str, Any]]:
        """Records of one case; a failure is printed and gives none."""
        if case.kind == "import":
            if self.threads != 1:
                return []
            return import_records(case, self.options, [p.peer.library for p in self.peers])
        if case.kind in itself.KINDS:
            return self._against_itself(case)
        path = self.folder / "inputs.npz"
        np.savez(path, **inputs(case))
        entries: list[tuple[Process, str]] = []
        errors, dropped = {}, {}
        for process in [self.fastnn, *self.peers]:
            answer = process.ask(cmd="load", case=case.__dict__, inputs=str(path))
            if "error" in answer:
                errors[process.peer.name] = answer["error"]
            entries += [(process, v) for v in answer.get("variants", [])]
            for setting, why in answer.get("dropped", {}).items():
                dropped[f"{process.peer.name} [{setting}]"] = why
        for name, error in errors.items():
            print(f"{case.title}: {name}: {error}", file=sys.stderr)
        for setting, why in dropped.items():
            if setting not in self.dropped:
                print(f"from {case.title} on, {setting} is dropped: {why}", file=sys.stderr)
        self.dropped |= dropped.keys()
        if "fastnn" in errors:
            return []
        times = self._rounds(case, entries)
        check = self.fastnn.ask(cmd="check")
        if "error" in check and isinstance(check["error"], str):
            print(f"{case.title}: check: {check['error']}", file=sys.stderr)
            check = {}
        return [self._record(case, times, check) | {"dropped": dropped}]

    def _against_itself(self, case: Case) -> list[dict[str, Any]]:
        if case.kind == "contended" and self.threads != 2:
            return []
        path = self.folder / "inputs.npz"
        np.savez(path, **inputs(case))
        answer = self.fastnn.ask(cmd="load", case=case.__dict__, inputs=str(path))
        if "error" in answer:
            print(f"{case.title}: {answer['error']}", file=sys.stderr)
            return []
        self._wait_for_rest()
        found = itself.records(case, self.fastnn, answer["variants"], self.rounds, self.settle)
        return [self._facts(case) | found] if found else []

    def _rounds(self, case: Case, entries: list[tuple[Process, str]]) -> Times:
        """Medians and minima per round, A B C C B A ..., so that a busy minute hits everybody."""
        times: Times = {}
        for turn in range(self.rounds):
            self.native.refresh(case.footprint or case.bytes)
            if case.goal == "C20":
                answer: dict[str, Any] = self.native.ask(f"step {self.options.seconds}")
                if "us" in answer:
                    key = ("by hand", "C++ for these sizes, one thread")
                    times.setdefault(key, []).append((answer["us"], answer["min"]))
            still = [e for e in entries if not _is_hopeless(e[0].peer, e[1], times, turn)]
            for process, variant in still if turn % 2 == 0 else still[::-1]:
                self._wait_for_rest()
                answer = process.ask(
                    cmd="time", variant=variant, settle=self.settle, seconds=self.options.seconds
                )
                if "us" in answer:
                    key = (process.peer.name, variant)
                    times.setdefault(key, []).append((answer["us"], answer["min"]))
                elif turn == 0:
                    print(f"{case.title}: {variant}: {answer.get('error')}", file=sys.stderr)
        return times

    def _wait_for_rest(self) -> None:
        """Pools of threads go on spinning for work, up to a tenth of a second: let them end."""
        before = -1.0
        for _ in range(100):
            time.sleep(0.012)
            now = sum(p.busy_seconds() for p in (self.fastnn, *self.peers))
            if now - before < 0.0002:
                break
            before = now

    def _record(self, case: Case, times: Times, check: dict[str, Any]) -> dict[str, Any]:
        medians = {key: statistics.median(m for m, _ in rounds) for key, rounds in times.items()}
        own = {key: us for key, us in medians.items() if key[0] == "fastnn"}
        best = min(own, key=lambda key: own[key])
        peers = _best_of_libraries(medians, times, best)
        if case.kind == "fit":  # a fit that does not learn is no peer
            for process in self.peers:
                wrong = process.ask(cmd="check").get("error")
                if process.peer.library in peers:
                    peers[process.peer.library]["error"] = wrong
        return self._facts(case) | {
            "fastnn_us": own[best],
            "fastnn_setting": best[1],
            "fastnn_min_us": min(m for key in own for _, m in times[key]),
            "fastnn_noise": _noise(times[best]),
            "fastnn_settings": {key[1]: us for key, us in own.items()},
            "peers": peers,
            "limit_us": self.native.limit_us(case.flops, case.bytes, case.footprint or case.bytes),
            "error": check.get("error"),
            "bitwise": check.get("bitwise"),
        }

    def _facts(self, case: Case) -> dict[str, Any]:
        """What a record says of every case."""
        return {
            "goal": case.goal,
            "op": case.op,
            "kind": case.kind,
            "title": case.title,
            "shape": case.shape,
            "params": case.params,
            "dtype": case.dtype,
            "layout": case.params.get("layout", "contiguous"),
            "device": "cpu",
            "isa": self.facts["isa"],
            "threads": self.threads,
            "bytes": case.bytes,
            "flops": case.flops,
            "load": _load(),
            "commit": self.commit,
        }

    def close(self) -> None:
        for process in [self.fastnn, *self.peers]:
            process.close()
        self.native.close()


def _is_hopeless(peer: Peer, variant: str, times: Times, turn: int) -> bool:
    """Whether a setting is so much slower than its library's best that it need not go on."""
    medians = {
        key: statistics.median(m for m, _ in rounds)
        for key, rounds in times.items()
        if key[0].startswith(peer.library)
    }
    us = medians.get((peer.name, variant), 0.0)
    return turn >= (1 if us > 5e5 else 3) and us > 2 * min(medians.values(), default=us)


def _best_of_libraries(
    medians: dict[tuple[str, str], float], times: Times, own: tuple[str, str]
) -> dict[str, Any]:
    """For each library its best setting, and the one it has out of the box (the first)."""
    found: dict[str, Any] = {}
    for (name, setting), us in medians.items():
        if name == "fastnn":
            continue
        library, _, _ = name.partition(" tuned")
        full = f"{setting}, tuned" if name.endswith(" tuned") else setting
        # jax: a fit with compilation is another question than a warm one
        key = "jax with compilation" if setting == "with compilation" else library
        pairs = zip(times[name, setting], times[own], strict=False)  # round by round
        ratios = [theirs / ours for (theirs, _), (ours, _) in pairs]
        fastest = min(m for _, m in times[name, setting])
        entry = {
            "us": us,
            "setting": full,
            "noise": _noise(times[name, setting]),
            "ratio": statistics.median(ratios),
        }
        if key not in found:
            found[key] = {**entry, "default_us": us, "default_setting": full, "min_us": fastest}
            found[key]["settings"] = {}
        elif us < found[key]["us"]:
            found[key].update(entry)
        found[key]["min_us"] = min(found[key]["min_us"], fastest)
        found[key]["settings"][full] = us
    return found


def _noise(rounds: list[tuple[float, float]]) -> float:
    """Half the distance of the quartiles of the rounds, as a part of their median."""
    values = [median for median, _ in rounds]
    if len(values) < 3:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / middle


def _commit() -> str:
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
        )
        return run.stdout.strip()
    except OSError:
        return ""


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def _machine(absent: list[str]) -> dict[str, Any]:
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    load = _load()
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": load,
        "busy": load > 0.5 * len(os.sched_getaffinity(0)),
        "date": date.today().isoformat(),
        "absent": absent,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in ("numpy", "torch", "jax", "optax", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
