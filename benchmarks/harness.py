"""Runs a benchmark: one process for each system, all ready before the first turn, then A B A B … until all had theirs.

    run(bench, repeats, ...) -> Outcome

A machine's speed drifts within minutes. Turns next to each other see the same machine, so the ratio of two systems is
the median of the ratios of their turns, not the ratio of their medians.
A system that cannot be run, or fails, is left out, with the reason; the others go on.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, System, figure

ROOT = Path(__file__).parents[1]
PATIENCE = 3600.0  # seconds for one turn, or for getting ready: whatever takes longer hangs

Say = Callable[[str], None]


class SystemFailedError(Exception):
    """Why a system has no figures."""


@dataclass
class Outcome:
    """What a benchmark gave.

    Attributes:
        turns: figures of each turn, by system; those with fewer turns than asked are in `left_out` instead.
        ready: facts that each system told before its first turn, `warm_up_seconds` among them.
        versions: of packages, by system.
        left_out: reasons, by system.
        failed: whether one of them could have been run here.
    """

    turns: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ready: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: bool = False

    def fail(self, system: str, reason: str) -> None:
        """Leaves out a system that should have had figures."""
        self.left_out[system], self.failed = reason, True
        self.turns.pop(system, None)


class Worker:
    """The process of a system, to be closed."""

    def __init__(self, system: System, options: Mapping[str, Any], folder: Path, threads: int) -> None:
        self._log = folder / "stderr.txt"
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "benchmarks.worker", system.function, json.dumps(dict(options))]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=_environment(threads),
            )

    def answer(self) -> dict[str, Any]:
        """The next line of the worker. SystemFailedError when it died, or none comes."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            raise SystemFailedError(f"no answer within {PATIENCE:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise SystemFailedError(f"ended with {self._process.wait()}: {_last_line(self._log.read_bytes())}")
        found: dict[str, Any] = json.loads(line)
        return found

    def turn(self) -> dict[str, Any]:
        """One repeat."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # why it died is found by `answer`
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """Ends the process, which has ten seconds for it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _last_line(said: bytes) -> str:
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was said"


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        **os.environ,
        "PYTHONPATH": path,
        **dict.fromkeys(names, str(threads)),
        "CI": "1",  # no live displays
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }


def run(bench: Bench, repeats: int, folder: Path, threads: int, say: Say) -> Outcome:
    """Runs a benchmark in `folder`, which is empty."""
    outcome = Outcome()
    systems = [system for system in bench.systems if _can_run(system, outcome)]
    if bench.ours is not None and len(systems) < 2:
        for system in systems:
            outcome.left_out[system.name] = "there is no peer to compare with"
        return outcome
    if bench.prepare is not None:
        say("  preparing")
        if fault := _prepare(bench, folder, threads):
            for system in systems:
                outcome.fail(system.name, fault)
            return outcome
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for system in systems:
            with _left_out(system.name, outcome, workers, say):
                options = {**bench.options, **system.options, "folder": str(folder), "threads": threads}
                worker = Worker(system, options, folder / f"system-{len(workers)}-{len(outcome.left_out)}", threads)
                stack.callback(worker.close)
                workers[system.name] = worker
                outcome.ready[system.name] = worker.answer()  # one gets ready after the other: each alone
                outcome.versions[system.name] = {name: _version(name) for name in system.packages}
                say(f"  {system.name}: ready after {outcome.ready[system.name]['warm_up_seconds']:.1f} s")
        _take_turns(bench, workers, repeats, outcome, say)
    _check_agreement(bench, outcome)
    return outcome


def _can_run(system: System, outcome: Outcome) -> bool:
    missing = [name for name in system.needs if importlib.util.find_spec(name) is None]
    if missing:
        outcome.left_out[system.name] = f"{', '.join(missing)} is not installed: {system.remedy}"
    return not missing


def _prepare(bench: Bench, folder: Path, threads: int) -> str:
    """In a process of its own: what it loads must not stay in this one. Returns what went wrong."""
    code = (
        "import json, sys; from benchmarks.worker import find; find(sys.argv[1])(sys.argv[2], json.loads(sys.argv[3]))"
    )
    assert bench.prepare is not None
    command = [sys.executable, "-c", code, bench.prepare, str(folder), json.dumps(dict(bench.options))]
    done = subprocess.run(command, env=_environment(threads), cwd=folder, capture_output=True)
    return f"preparing ended with {done.returncode}: {_last_line(done.stderr)}" if done.returncode else ""


def _take_turns(bench: Bench, workers: dict[str, Worker], repeats: int, outcome: Outcome, say: Say) -> None:
    first = next(iter(bench.metrics))
    for number in range(repeats):
        for name, worker in list(workers.items()):
            with _left_out(name, outcome, workers, say):
                figures = worker.turn()
                outcome.turns.setdefault(name, []).append(figures)
                say(f"  {number + 1}/{repeats} {name}: {figure(figures[first])} {bench.metrics[first].unit}")


@contextlib.contextmanager
def _left_out(name: str, outcome: Outcome, workers: dict[str, Worker], say: Say) -> Iterator[None]:
    try:
        yield
    except SystemFailedError as error:
        say(f"  {name} is left out: {error}")
        outcome.fail(name, str(error))
        workers.pop(name, None)


def _check_agreement(bench: Bench, outcome: Outcome) -> None:
    if bench.agree is None or bench.ours not in outcome.turns:
        return
    ours = {figures[bench.agree] for figures in outcome.turns[bench.ours]}
    for name in [name for name in outcome.turns if name != bench.ours]:
        if {figures[bench.agree] for figures in outcome.turns[name]} != ours:
            outcome.fail(name, f"its {bench.agree} is not that of {bench.ours}: this is not the same work")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
