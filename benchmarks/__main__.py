"""`python -m benchmarks`: runs the suite, or a part of it, and writes results.json and RESULTS.md.

Benchmarks are written down one by one, so that a run that ends early loses one at most; `--missing` goes on from there.
Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.bench import Bench
from benchmarks.harness import ROOT, Outcome, run
from benchmarks.suite import Settings, suite
from tilth.core.environment import usable_cpus
from tilth.core.errors import TilthError

TEXT = ROOT / "data" / "tinyshakespeare.txt"


def parser() -> argparse.ArgumentParser:
    """What can be asked."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--list", action="store_true", help="names, and about how many minutes each takes on two cores")
    add("--only", nargs="+", default=[], metavar="NAME", help="these alone")
    add("--missing", action="store_true", help="those that the results have not of this machine and source")
    add("--repeats", type=int, help="turns of each system (default: 5, or 3 of what takes an hour)")
    add("--threads", type=int, default=usable_cpus(), help="of each system (default: one for each processor)")
    add("--quick", action="store_true", help="tiny work, 2 turns: shows that all runs; its figures say nothing")
    add("--nanogpt", metavar="PATH", help="a checkout of nanoGPT; without, its model and loop are written anew")
    add("--peer-python", default=sys.executable, metavar="PATH", help="a Python with datatrove[processing] and orjson")
    add("--text", metavar="FILE", default=str(TEXT) if TEXT.exists() else None, help="tiny Shakespeare")
    add("--recipe", metavar="FILE", help="tilth's, for training to a loss (default: that of each such benchmark)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets", help="for tilth's recipes of training")
    add(
        "--out",
        type=Path,
        default=ROOT / "benchmarks",
        metavar="FOLDER",
        help="of results.json and RESULTS.md (default: benchmarks)",
    )
    return found


def settings_of(given: argparse.Namespace) -> Settings:
    """With paths that hold in any folder."""
    paths = {name: value and str(Path(value).absolute()) for name, value in vars(given).items() if name in _PATHS}
    return Settings(quick=given.quick, sets=tuple(given.sets), **paths)


_PATHS = ("nanogpt", "peer_python", "text", "recipe")


def chosen(benches: Sequence[Bench], given: argparse.Namespace, about: dict[str, Any]) -> list[Bench]:
    """Which are to be run."""
    names = [bench.name for bench in benches]
    if unknown := [name for name in given.only if name not in names]:
        raise SystemExit(f"there is no benchmark {unknown[0]!r}; there are {', '.join(names)}")
    have = results.measured(results.read(given.out / "results.json"), about) if given.missing else set()
    wanted = given.only or [bench.name for bench in benches if not bench.long]
    return [bench for bench in benches if bench.name in wanted and bench.name not in have]


def measure(bench: Bench, given: argparse.Namespace, repeats: int) -> Outcome:
    """One benchmark, in a folder that is gone afterwards."""
    if bench.blocked is not None:
        return Outcome(left_out={system.name: bench.blocked for system in bench.systems})
    with tempfile.TemporaryDirectory(prefix="tilth-bench-") as folder:
        return run(bench, repeats, Path(folder), given.threads, lambda line: print(line, flush=True))


def main(words: Sequence[str] | None = None) -> int:
    """Returns 1 when a system failed; one that is not here is no failure."""
    found = parser()
    given = found.parse_args(words)
    if given.quick and given.out == ROOT / "benchmarks":
        found.error("--quick needs --out FOLDER: its figures must not take the place of real ones")
    benches = suite(settings_of(given))
    if given.list:
        for bench in benches:
            only = "; only when it is named" if bench.long else ""
            print(f"{bench.name:22} {bench.minutes:4g} min  {', '.join(s.name for s in bench.systems)}{only}")
        return 0
    about = results.about_run(given.threads, given.quick, given.sets)
    todo, failed = chosen(benches, given, about), False
    print(f"{about['machine']['processor']}, {given.threads} threads, source {about['source']}")
    print(f"{len(todo)} benchmarks, about {sum(bench.minutes for bench in todo):g} minutes")
    given.out.mkdir(parents=True, exist_ok=True)
    for number, bench in enumerate(todo, 1):
        print(f"{bench.name} ({number} of {len(todo)}, about {bench.minutes:g} min)", flush=True)
        started = time.perf_counter()
        outcome = measure(bench, given, given.repeats or (2 if given.quick else bench.repeats))
        failed = failed or outcome.failed
        lines = results.merge(given.out / "results.json", bench.name, results.entries(bench, outcome, about))
        results.write_report(given.out / "RESULTS.md", lines, benches)
        for name, reason in outcome.left_out.items():
            print(f"  without {name}: {reason}")
        print(f"  {(time.perf_counter() - started) / 60:.1f} min")
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TilthError as error:
        sys.exit(f"{error.message}\n{error.remedy}")
