"""Results on disk: results.json, a list with a line for each figure, and RESULTS.md, which is written from it.

    entries(bench, outcome, about)       an outcome as lines
    merge(path, bench, lines)            in place of what was there of this benchmark; all others stay
    render(lines, benches)               RESULTS.md

A line: bench, system, metric, median, min, max, unit, repeats; the value of every turn; how many times better ours was
(median, min, max over turns), and how many times it is meant to be; warm-up; date, machine, threads, versions and
source. Where systems were left out, each line of their benchmark says which, and why (`without`).
"""

from __future__ import annotations

import datetime
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Metric, figure
from benchmarks.harness import ROOT, Outcome
from tilth.core.config import fingerprint
from tilth.core.environment import processor_features, processor_name, total_memory_bytes, usable_cpus
from tilth.core.files import read_json, write_file, write_json

Line = dict[str, Any]
HEAD = """# Benchmarks: what was measured

Written by `make bench`, which runs tilth and its peers on the same work in turns; nothing here is typed by hand.
Each figure is the median of its turns, with the least and the most. *tilth is* says how many times better tilth (or the
first way of a table) was: the median over turns that stood next to each other, with the least and the most; *goal* is
what it is meant to be. Warm-up (loading, compiling, the first steps) is not in the figures. All is in
[results.json](results.json).
"""


def machine() -> dict[str, Any]:
    """What this machine is, with a fingerprint of all of it."""
    facts = {
        "processor": processor_name(),
        "features": processor_features(),
        "cpus": usable_cpus(),
        "memory_bytes": total_memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    return {**facts, "fingerprint": fingerprint(facts)[:12]}


def source() -> str:
    """The commit of this tree, with a + where something in it is not committed; `unknown` outside of git."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks/*.py")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def about_run(threads: int, quick: bool, settings: Sequence[str]) -> dict[str, Any]:
    """What stands beside every figure; `settings` are those of tilth's recipes."""
    asked = {"quick": quick, "settings": list(settings)}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"date": now, "machine": machine(), "threads": threads, "source": source(), **asked}


def entries(bench: Bench, outcome: Outcome, about: dict[str, Any]) -> list[Line]:
    """An outcome as lines, in the order of the benchmark's systems."""
    lines: list[Line] = []
    without = {"without": dict(outcome.left_out)} if outcome.left_out else {}
    for system in (system for system in bench.systems if system.name not in outcome.left_out):
        head = {"bench": bench.name, "system": system.name}
        turns, ready = outcome.turns[system.name], dict(outcome.ready[system.name])
        warm = round(ready.pop("warm_up_seconds"), 3)
        ready.pop("ready")
        for name, metric in bench.metrics.items():
            if name not in turns[0]:
                continue
            first = name == next(iter(bench.metrics))
            line: Line = {**head, "metric": name, **_spread([turn[name] for turn in turns]), "unit": metric.unit}
            line |= {"repeats": len(turns), "values": [turn[name] for turn in turns]}
            ours = outcome.turns.get(bench.ours or "")
            if metric.compared and ours is not None and system.name != bench.ours:
                line["ratio"] = _spread(ratios([t[name] for t in ours], line["values"], metric))
                line["target"] = system.target if first else system.targets.get(name)
                line["reached"] = line["ratio"]["median"] >= line["target"] if line["target"] else None
            lines.append({**line, "warm_up_seconds": warm, "facts": ready, **about})
            lines[-1] |= {"versions": outcome.versions[system.name], **without}
    return lines


def ratios(ours: Sequence[float], theirs: Sequence[float], metric: Metric) -> list[float]:
    """How many times better ours was, turn by turn; turns next to each other saw the same machine."""
    pairs = zip(ours, theirs, strict=True) if metric.higher_is_better else zip(theirs, ours, strict=True)
    return [better / worse if worse else float("inf") for better, worse in pairs]


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def read(path: Path) -> list[Line]:
    """The lines of an earlier run; none where there was none."""
    lines: list[Line] = read_json(path) if path.exists() else []
    return lines


def merge(path: Path, bench: str, lines: list[Line]) -> list[Line]:
    """Puts the lines of a benchmark in the place of its older ones."""
    kept = [line for line in read(path) if line["bench"] != bench]
    write_json(path, [*kept, *lines])
    return [*kept, *lines]


def measured(lines: Iterable[Line], about: dict[str, Any]) -> set[str]:
    """The benchmarks that were measured on this machine, from this source."""
    same = ("source", "threads", "quick", "settings")
    return {
        line["bench"]
        for line in lines
        if line["machine"]["fingerprint"] == about["machine"]["fingerprint"]
        and all(line[key] == about[key] for key in same)
    }


def write_report(path: Path, lines: list[Line], benches: Sequence[Bench]) -> None:
    """RESULTS.md."""
    write_file(path, render(lines, benches).encode())


def render(lines: list[Line], benches: Sequence[Bench]) -> str:
    """All that was measured, one table a benchmark, in the order of the suite."""
    parts = [HEAD]
    for bench in benches:
        own = [line for line in lines if line["bench"] == bench.name]
        if own:
            parts.append(_section(bench, own))
    return "\n".join(parts)


def _section(bench: Bench, lines: list[Line]) -> str:
    text = f"## {bench.name}\n\n{bench.about}\n\n"
    if lines[0]["quick"]:
        text += "**Made with `--quick`: these figures say nothing.**\n\n"
    text += "| system | metric | median | least to most | tilth is | goal | warm-up |\n|---|---|--:|--:|--:|--:|--:|\n"
    text += "".join(_row(line) for line in lines)
    for system, reason in lines[0].get("without", {}).items():
        text += f"\n{system} is left out: {reason}.\n"
    return text + f"\n{_footnote(lines)}\n"


def _row(line: Line) -> str:
    ratio, goal = "", ""
    if "ratio" in line:
        spread = line["ratio"]
        ratio = f"**{spread['median']:.2f}** ({spread['min']:.2f} to {spread['max']:.2f})"
    if line.get("target"):
        goal = f"{line['target']:g}, {'reached' if line['reached'] else '**not reached**'}"
    return (
        f"| {line['system']} | {line['metric']} ({line['unit']}) | {figure(line['median'])} "
        f"| {figure(line['min'])} to {figure(line['max'])} | {ratio} | {goal} | {line['warm_up_seconds']:.1f} s |\n"
    )


def _footnote(lines: list[Line]) -> str:
    """When, where and with what; every line of a benchmark comes from one run."""
    first, place = lines[0], lines[0]["machine"]
    versions = {name: version for line in lines for name, version in line.get("versions", {}).items()}
    facts = [f"{line['system']}: {key} {value}" for line in lines for key, value in line.get("facts", {}).items()]
    memory = place["memory_bytes"]
    words = [
        first["date"][:16].replace("T", " ") + " UTC",
        f"{place['processor']}, {place['cpus']} CPUs, {', '.join(place['features']) or 'features unknown'}"
        + (f", {memory / 2**30:.0f} GiB" if memory else ""),
        f"{first['threads']} threads",
        f"machine {place['fingerprint']}",
        f"source {first['source']}",
        f"Python {place['python']}",
        *(f"{name} {version}" for name, version in sorted(versions.items())),
        *dict.fromkeys(facts),
        *(f"with {value}" for value in first["settings"]),
    ]
    repeats = max(line["repeats"] for line in lines)
    return f"<sub>{repeats} turns each. {' · '.join(words)}</sub>"
