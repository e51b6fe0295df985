"""What a run will take, before it begins: memory by part, time and cost, from the recipe and shapes alone.

    memory_forecast(recipe, config, micro_rows, device) -> MemoryForecast
    run_forecast(recipe, config, micro_rows, device, …) -> RunForecast       with time and cost

The run's own code is executed on paper (paper_run.py). What that does not see is added here: the process itself,
batches that wait, and what the allocator cannot give back. Time is the work that was counted, at the rates of this
machine (training/calibration.py); evaluations, samples and checkpoints are not in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tilth.core.allocator import is_glibc, thread_caches
from tilth.core.environment import Precision
from tilth.core.words import duration
from tilth.jobs.forecasting.paper_run import PaperRun, figures, waiting_bytes
from tilth.jobs.recipe import Recipe
from tilth.model.wrapped import AnyConfig
from tilth.training.calibration import calibrated
from tilth.training.footprint import Desk, When
from tilth.training.known import Figures
from tilth.training.meter import Peak

HOLES = 0.16
"""Of what comes and goes in blocks below 48 MiB, the share that glibc holds besides, in holes that nothing fits into:
measured (benchmarks/forecast.py). With activation checkpointing blocks are mapped by themselves, and leave none."""
CACHES_HOLES, CACHES_IDLE = 0.35, 1.2
"""The same where glibc has its caches of small blocks (core/allocator.py), as in a notebook: different by a third from
one run to the next; and of such blocks that no tensor is in any more when most is taken, what glibc holds."""
COMPILED_HOLES = 0.06
"""As HOLES, where layers are compiled: their graphs use their own blocks again, and take few that come and go."""
EVALUATION_IDLE = 1.3
"""In an evaluation, of such blocks that no tensor is in any more when most is taken, what glibc holds: blocks of 48 MiB
and more that come then are mapped apart. Measured on nine shapes: 1.1 to 1.5, and nothing where there are none."""
PROCESS = 347 << 20
"""A process with torch and tilth loaded and a step done, without model and data (Linux, torch 2.13)."""
COMPILER = 73 << 20
"""torch's compiler, in a process that made its forecast anew (training/known.py)."""
COMPILING = 128 << 20
"""The same in one that has compiled its layers, with what that leaves."""
WORKSPACE, SMALL_WORKSPACE = 32 << 20, 8320 << 10
"""What cuBLAS takes of a GPU's memory for each thread that calls it (on the way forward one, back another), from Hopper
on and before (https://docs.nvidia.com/cuda/cublas, cublasSetWorkspace): measured 64 MiB in three runs on an H200."""
LOADED = 42 << 20
"""What a process loads in its first step: kernels, mostly."""


@dataclass(frozen=True, slots=True)
class MemoryForecast:
    """The most that a run holds.

    Attributes:
        total: bytes: of the process on a CPU, of the device's memory elsewhere.
        parts: the same by what they are: `weights`, `gradients`, `optimizer`, `activations`, `loss`, `working`,
            `batches`, `process`, `allocator`.
        when: `step` or `evaluation`, whichever takes more.
    """

    total: int
    parts: dict[str, int]
    when: When


@dataclass(frozen=True, slots=True)
class RunForecast:
    """What a run should take.

    Attributes:
        memory: at the most.
        step_seconds: of one update.
        seconds: of all steps that are to be done; None where it is not known how many there are.
        cost: at the recipe's price; None where there is none, or no time.
        calibrated: the day on which this machine was measured.
        micro_batch: rows that go through the model at once.
        micro_batch_open: the run will measure, and may choose fewer, which take less.
        activation_checkpointing: layers that are computed again, as the recipe names them or `auto` came to.
        goes_on: it has steps behind it.
        own_pace: a step's time is that of those steps, and not by the rates of the machine.
    """

    memory: MemoryForecast
    step_seconds: float
    seconds: float | None
    cost: float | None
    calibrated: str
    micro_batch: int
    micro_batch_open: bool
    activation_checkpointing: str | int
    goes_on: bool
    own_pace: bool

    def words(self) -> str:
        """In a line, for the record of a run."""
        pace = " at the run's own speed" if self.own_pace else ""
        time = "" if self.seconds is None else f", {duration(self.seconds)} {'left' if self.goes_on else 'in all'}"
        cost = "" if self.cost is None else f", at a cost of {self.cost:.2f}"
        memory = f"{self.memory.total / 1e9:.3g} GB of memory"
        return f"forecast: {memory}, {self.step_seconds:.3g} s a step{pace}{time}{cost}"

    def plain(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "memory": self.memory.total,
            "parts": self.memory.parts,
            "when": self.memory.when,
            "step_seconds": float(f"{self.step_seconds:.4g}"),
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "cost": None if self.cost is None else round(self.cost, 2),
            "calibrated": self.calibrated,
            "micro_batch": self.micro_batch,
            "micro_batch_open": self.micro_batch_open,
            "activation_checkpointing": self.activation_checkpointing,
        }


def memory_forecast(
    recipe: Recipe,
    config: AnyConfig,
    micro_rows: int,
    device: torch.device,
    *,
    precision: Precision | None = None,
    rows: int | None = None,
    held_out: int | None = None,
    desk: Desk | None = None,
) -> MemoryForecast:
    """The peak of a run with so many rows at once.

    NoForecastError where the class, one of transformers', cannot be run on paper.

    Args:
        recipe: with the shape filled in.
        config: with the vocabulary known.
        precision: what `auto` came to; left out: the recipe's, and fp32 for `auto`.
        rows: of a process's share of the batch; left out: by train.batch_tokens.
        held_out: tokens of the validation split; left out: as many as a batch of an evaluation takes.
        desk: at which forecasts are made that differ in their rows alone.
    """
    rows = rows or _rows(recipe, micro_rows)
    if held_out is None:
        held_out = recipe.evaluate.batch_tokens if recipe.data.split.validation else 0  # a whole batch of it
    run = PaperRun(recipe, config, micro_rows, rows, held_out, device, precision or _precision(recipe))
    return _memory(run, figures(run, desk))


def run_forecast(
    recipe: Recipe,
    config: AnyConfig,
    micro_rows: int,
    device: torch.device,
    *,
    precision: Precision,
    rows: int,
    steps: int | None,
    held_out: int,
    held: Callable[[], int] | None = None,
    spent: float = 0.0,
    pace: float | None = None,
    told: float = 0.0,
) -> RunForecast:
    """Memory, time and cost; arguments as of `memory_forecast`.

    Args:
        steps: that the run has yet to do; None where only the clock or a metric ends it.
        held_out: tokens of the validation split; an evaluation takes no more rows at once than it has.
        held: asked when all else is done: what this process, whose own the run is, holds without its model; left out
            where it is another, which may find fewer rows to be faster.
        spent: seconds that the run has trained for.
        pace: seconds of its steps until now, where they were done as those to come will be.
        told: seconds in which the processes of a run tell each other the gradients of a step.
    """
    run = PaperRun(recipe, config, micro_rows, rows, held_out, device, precision)
    found, rates = figures(run), calibrated(device)
    reckoned = -(-rows // min(micro_rows, rows)) * rates.seconds(found.micro) + rates.seconds(found.update)
    step = pace or reckoned + told
    seconds = None if steps is None else steps * step
    if recipe.train.hours is not None:
        seconds = min(math.inf if seconds is None else seconds, max(0.0, 3600 * recipe.train.hours - spent))
    price = recipe.train.price_per_hour
    cost = None if price is None or seconds is None else price * seconds / 3600
    memory = _memory(run, found, held() if held else 0)
    return RunForecast(
        memory=memory,
        step_seconds=step,
        seconds=seconds,
        cost=cost,
        calibrated=rates.made,
        micro_batch=min(micro_rows, rows),
        micro_batch_open=held is None and recipe.train.micro_batch == "auto",
        activation_checkpointing=recipe.train.activation_checkpointing,
        goes_on=spent > 0,
        own_pace=bool(pace),
    )


def _memory(run: PaperRun, found: Figures, held: int = 0) -> MemoryForecast:
    """What a footprint comes to in a process.

    Args:
        held: what this process, in which it will run, holds without its model; 0 where it is another.
    """
    train, on_cpu = run.recipe.train, run.device.type == "cpu"
    caches = thread_caches() if held else not is_glibc()  # the command `tilth train` will drop them
    more: dict[str, int] = {}
    if on_cpu:
        more["batches"] = waiting_bytes(run.recipe, run.rows)
        compiler = COMPILING if run.compiles else COMPILER if held and found.fresh else 0
        loaded = 0 if run.compiled else LOADED  # a pass has been made with each of its graphs
        more["process"] = max(PROCESS + compiler, held + loaded)
    elif run.device.type == "cuda":
        hopper = torch.cuda.get_device_capability(run.device)[0] >= 9
        more["process"] = 2 * (WORKSPACE if hopper else SMALL_WORKSPACE)

    def forecast(when: When, peak: Peak) -> MemoryForecast:
        parts = Counter({name: size for name, size in peak.parts.items() if size})
        parts.update(more)
        if on_cpu and not train.recomputes:
            parts["allocator"] = _holes(when, peak, caches, compiled=run.compiled)
        return MemoryForecast(sum(parts.values()), dict(parts), when)

    return max((forecast(when, peak) for when, peak in found.peaks.items()), key=lambda one: one.total)


def _holes(when: When, peak: Peak, caches: bool, *, compiled: bool) -> int:
    """What glibc holds besides, of blocks below 48 MiB.

    Args:
        caches: small blocks are kept in a way that leaves holes (core/allocator.py).
    """
    if when == "evaluation":
        return int(EVALUATION_IDLE * peak.idle)
    holes, idle = (CACHES_HOLES, CACHES_IDLE) if caches else (COMPILED_HOLES if compiled else HOLES, 1.0)
    return int(holes * peak.small + idle * peak.idle)


def _precision(recipe: Recipe) -> Precision:
    return "fp32" if recipe.train.precision == "auto" else recipe.train.precision


def _rows(recipe: Recipe, micro_rows: int) -> int:
    batch = recipe.train.batch_tokens
    return micro_rows if batch == "all" else max(1, batch // recipe.model.context_length)
