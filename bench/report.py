"""Records to text: a line each while they come, and the tables of bench/results."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any, TextIO

Record = dict[str, Any]
_GROUPS = (
    ("step", "Training steps"),
    ("contended", "Two threads against one, beside a process that spins on the second core"),
    ("population", "nn.Stacked against the same models one after the other"),
    ("fit", "A whole fit"),
    ("call", "Overhead of a call"),
    ("gemm", "Products of square matrices"),
    ("optimizer", "Optimizer steps"),
    ("fwd", "Ops, forward"),
    ("fwd+bwd", "Ops, forward and backward"),
)


def latest(lines: Iterable[Record]) -> list[Record]:
    """The last record (never the best) of each case and thread count, and all machine lines."""
    kept: dict[Any, Record] = {}
    for line in lines:
        if "machine" in line:
            kept["machine", len(kept)] = line
        elif "limits" in line:
            key = ("limits", line["threads"])
            best = kept.get(key, line)["limits"]
            rates = {k: max(v, best.get(k, 0.0)) for k, v in line["limits"].items()}
            kept[key] = {**line, "limits": {**best, **rates}}
        else:
            kept[line["title"], line["kind"], line["threads"]] = line
    return list(kept.values())


def best_peer(record: Record) -> tuple[str, Record] | None:
    """The fastest library, the hand-written step and compilation aside."""
    peers = [
        (name, peer)
        for name, peer in record["peers"].items()
        if name not in ("by hand", "jax with compilation")
    ]
    return min(peers, key=lambda item: item[1]["us"]) if peers else None


def ratio(record: Record) -> float | None:
    """How many times faster fastnn is than the fastest peer; median over rounds."""
    peer = best_peer(record)
    if peer is None or record["kind"] == "import":  # numpy is part of fastnn's own import
        return None
    return float(peer[1].get("ratio") or peer[1]["us"] / record["fastnn_us"])


def ratio_at_best(record: Record) -> float | None:
    """The same from everybody's fastest sample: what is left when other load is not there."""
    peer = best_peer(record)
    if peer is None or "fastnn_min_us" not in record:
        return None
    fastest = min(
        p["min_us"]
        for name, p in record["peers"].items()
        if name not in ("by hand", "jax with compilation")
    )
    return float(fastest / record["fastnn_min_us"])


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def time_of(us: float) -> str:
    if us < 10:
        return f"{us:.2f} us"
    if us < 1000:
        return f"{us:.0f} us"
    return f"{us / 1e3:.3g} ms" if us < 1e6 else f"{us / 1e6:.3g} s"


def print_record(record: Record, out: TextIO) -> None:
    """One line for a person."""
    if "machine" in record:
        m = record["machine"]
        state = "busy" if m["busy"] else "idle"
        print(f"{m['cpu']}, {m['cores']} cores, {state} (load {m['load']})", file=out)
        versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
        print(versions + (f"; absent: {', '.join(m['absent'])}" if m["absent"] else ""), file=out)
        head = f"{'':44}{'T':>2}{'fastnn':>10}{'ratio':>8}{'at best':>8}{'limit':>7}{'noise':>7}"
        print(f"{head}  peers", file=out)
    elif "limits" in record:
        limits = ", ".join(f"{k} {v:.0f}" for k, v in record["limits"].items())
        print(f"limits at {record['threads']} threads: {limits}; load {record['load']}", file=out)
    else:
        _print_case(record, out)
    out.flush()


def _share(record: Record) -> str:
    limit = record.get("limit_us")
    return f"{limit / record['fastnn_us']:.0%}" if limit else ""


def _print_case(record: Record, out: TextIO) -> None:
    peers = "  ".join(
        f"{name} {time_of(p['us'])} [{p['setting']}]" for name, p in record["peers"].items()
    )
    print(
        f"{record['goal']:4}{record['title']:40.40}{record['threads']:>2}"
        f"{time_of(record['fastnn_us']):>10}"
        f"{_times(ratio(record)):>8}{_times(ratio_at_best(record)):>8}"
        f"{_share(record):>7}"
        f"{record.get('fastnn_noise', 0):>7.0%}  {peers}",
        file=out,
    )


def table(lines: Iterable[Record], out: TextIO) -> None:
    for line in lines:
        print_record(line, out)


# ---- the README's summary ------------------------------------------------------------------------

_SUBJECTS = {
    "C1": "products of square matrices, 512 to 2048",
    "C2": "the same, 64 to 256",
    "C3": "products of a training step, 784-512-256, batch 32 and 128",
    "C4": "products of a head of 10, batch 128",
    "C5": "bfloat16 products, 256 to 2048",
    "C6": "linear with bias",
    "C7": "activations, up to a million elements",
    "C8": "relu",
    "C9": "activations, more than a cache holds",
    "C10": "softmax, log-softmax, logsumexp",
    "C11": "cross-entropy",
    "C12": "batch norm",
    "C13": "layer, RMS, group and instance norm",
    "C14": "dropout",
    "C15": "Adam",
    "C16": "SGD with momentum, RMSProp, Adagrad",
    "C17": "LSTM, GRU",
    "C18": "conv2d",
    "C19": "max pooling",
    "C20": "training step 64-64-64-10",
    "C21": "training step 784-512-256-10",
    "C22": "the same with batch norm and dropout",
    "C23": "training step of LeNet-5",
    "C24": "training step of a character LSTM",
    "C25": "a whole fit on digits",
    "C27": "a call of relu on 64 floats",
}


def summary(records: list[Record], threads: tuple[int, ...] = (1,)) -> list[str]:
    """A row per goal: how many times faster fastnn is than the fastest peer, at best."""
    names = {1: "one thread", 2: "two threads"}
    of = [f"{names[t]}: " if len(threads) > 1 else "" for t in threads]
    head = "".join(f" cases | {n}smallest | middle | largest |" for n in of)
    text = [f"| goal | what |{head}", "|-|-|" + "-|-|-|-|" * len(threads)]
    for goal, subject in _SUBJECTS.items():
        cells = [
            _range([r for r in records if (r.get("goal"), r.get("threads")) == (goal, t)])
            for t in threads
        ]
        if any(cells):
            text.append(f"| {goal} | {subject} | {' | '.join(c or ' |  |  | ' for c in cells)} |")
    return text


def _range(cases: list[Record]) -> str:
    found = sorted(x for x in map(ratio_at_best, cases) if x is not None)
    if not found:
        return ""
    numbers = (found[0], statistics.median(found), found[-1])
    return " | ".join([str(len(found)), *(f"{x:.2f}x" for x in numbers)])


# ---- Markdown ------------------------------------------------------------------------------------


def markdown(lines: list[Record]) -> str:
    """The report: machine, limits, one table per group, and where fastnn loses."""
    records = [r for r in lines if "fastnn_us" in r]
    text = ["# CPU benchmarks", "", *_preamble(lines), ""]
    for kind, title in _GROUPS:
        rows = [r for r in records if r["kind"] == kind]
        if rows:
            text += [f"## {title}", "", *_table(rows), ""]
    for record in records:
        if record["kind"] == "import":
            text += ["## Import", "", *_imports(record), ""]
    text += ["## Where fastnn is slower than the best peer", "", *_losses(records), ""]
    return "\n".join(text)


def _preamble(lines: list[Record]) -> list[str]:
    machine = next((r["machine"] for r in lines if "machine" in r), None)
    text = [
        "Written by `bench/run.py --markdown`; what the columns mean is in `bench/README.md`.",
        "Times are medians of interleaved rounds; only the ratios are claims.",
    ]
    if machine:
        state = "busy" if machine["busy"] else "idle"
        versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
        text += [
            "",
            f"{machine['cpu']}, {machine['cores']} cores, {state} at the start "
            f"(load {machine['load']}), {machine['date']}. {versions}.",
        ]
        if machine["absent"]:
            text.append(f"Absent: {', '.join(machine['absent'])}.")
    runs = [r["machine"]["load"] for r in lines if "machine" in r]
    if len(runs) > 1:
        text += [
            "",
            f"Put together from {len(runs)} runs, with loads of {', '.join(map(str, runs))} at "
            "their starts; a case that was measured in several is shown as the last of them found "
            "it. Rows of different runs must not be compared with each other.",
        ]
    commits = sorted({r["commit"] for r in lines if r.get("commit")})
    if commits:
        text.append(f"Working tree: {', '.join(commits)}.")
    dropped = {s: why for r in lines for s, why in r.get("dropped", {}).items()}
    text += [f"Dropped: {s}: {why}." for s, why in sorted(dropped.items())]
    for line in lines:
        if "limits" in line:
            rates = line["limits"]
            copies = ", ".join(
                f"{v:.0f} at {k[9:-1]} KiB" for k, v in rates.items() if k.startswith("copy_gbs_")
            )
            text.append(
                f"\nLimits, {line['threads']} thread(s): {rates.get('fma_gflops', 0):.0f} GFLOP/s "
                f"of FMA; copying, GB/s: {copies}. Load at the end: {line['load']}."
            )
    return text


def _table(rows: list[Record]) -> list[str]:
    libraries = list(dict.fromkeys(name for r in rows for name in r["peers"]))
    text = [
        "| goal | case | T | fastnn | "
        + " | ".join(libraries)
        + " | best peer / fastnn | at best | of limit | noise | error | bitwise |",
        "|-|-|-|-|" + "-|" * (len(libraries) + 6),
    ]
    for r in rows:
        cells = [_peer_cell(r["peers"].get(name)) for name in libraries]
        text.append(
            f"| {r['goal']} | {r['title']} | {r['threads']} | {time_of(r['fastnn_us'])} | "
            + " | ".join(cells)
            + f" | {_times(ratio(r))} | {_times(ratio_at_best(r))}"
            + f" | {_share(r)}"
            + f" | {_noise(r):.0%} | {_error(r)} | {_yes(r.get('bitwise'))} |"
        )
    settings = _settings(rows)
    return text + (["", *settings] if settings else [])


def _peer_cell(peer: Record | None) -> str:
    if peer is None:
        return ""
    text = time_of(peer["us"])
    default = peer.get("default_us", peer["us"])
    return text if default < 1.05 * peer["us"] else f"{text} ({time_of(default)})"


def _noise(record: Record) -> float:
    peer = best_peer(record)
    return max(record.get("fastnn_noise", 0.0), peer[1].get("noise", 0.0) if peer else 0.0)


def _error(record: Record) -> str:
    error = record.get("error")
    return "" if error is None else f"{error:.2g}"


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "NO"


def _settings(rows: list[Record]) -> list[str]:
    """Which settings won, counted."""
    wins: dict[str, dict[str, int]] = {}
    for r in rows:
        for name, peer in (("fastnn", {"setting": r.get("fastnn_setting")}), *r["peers"].items()):
            if peer["setting"]:
                counts = wins.setdefault(name, {})
                counts[peer["setting"]] = counts.get(peer["setting"], 0) + 1
    lines = []
    for name, counts in wins.items():
        order = sorted(counts, key=lambda s: -counts[s])
        lines.append(f"{name}: " + ", ".join(f"{s} ({counts[s]})" for s in order))
    return ["Best settings (how often): " + "; ".join(lines) + "."]


def _imports(record: Record) -> list[str]:
    us = {"fastnn": record["fastnn_us"], **{n: p["us"] for n, p in record["peers"].items()}}
    text = ["| | import | resident memory | installed |", "|-|-|-|-|"]
    for name, value in us.items():
        memory = record["memory"].get(name, 0) / 2**20
        size = record["installed_bytes"].get(name, 0) / 2**20
        text.append(f"| {name} | {value / 1e3:.0f} ms | {memory:.0f} MiB | {size:.0f} MiB |")
    wheel = record.get("wheel_bytes")
    text += ["", f"Threads started by `import fastnn`: {record['threads_started']:.0f}."]
    text.append("" if not wheel else f"Wheel: {wheel / 2**20:.2f} MiB.")
    return text


def _losses(records: list[Record]) -> list[str]:
    lost = []
    for r in records:
        times, peer = ratio(r), best_peer(r)
        if times is not None and peer is not None and times < 1 and r["kind"] != "import":
            lost.append((times, f"- {r['title']}, T{r['threads']}: {times:.2f}x of {peer[0]}"))
    return [text for _, text in sorted(lost)] or ["Nowhere in this run."]
