"""Compiled blocks: whether the layers of a run are compiled (model/compiled.py), and all graphs ready before its first
step.

    settle_blocks(decisions, recipe, …) -> (whether, a line that says so)
    stays_plain(recipe, config, device)     why they cannot be compiled; None where it can

`auto` is decided once, by process 0: where the steps should take long enough to pay for it, some passes of the run's
first rows are timed, plain and compiled in turns. What it comes to is kept like precision and rows (decisions.py).
"""

from __future__ import annotations

import math
import time

import torch

from tilth.core.environment import Precision, cache_folder
from tilth.core.errors import RecipeError
from tilth.data.batches.loader import Loader
from tilth.distributed.refused import OutOfMemory
from tilth.jobs.decisions import Decisions
from tilth.jobs.recipe import Recipe
from tilth.model.chunks import CHUNK
from tilth.model.compiled import compile_layers, plain_layers, unsuited
from tilth.model.transformer import Transformer
from tilth.model.wrapped import AnyConfig, AnyModel
from tilth.training.probe import Trial
from tilth.training.stopping import Stopping

LONG = 300.0
"""Seconds of steps below which `auto` does not try: to compile takes some twenty, and gains a tenth or two."""
PASSES = 100
"""Passes below which it does not try: the trial takes seven."""
FASTER = 1.05
"""So many times faster compiled passes have to be: a difference below is noise."""


def settle_blocks(
    decisions: Decisions,
    recipe: Recipe,
    model: AnyModel,
    loader: Loader,
    device: torch.device,
    precision: Precision,
    rows: int,
) -> tuple[bool, str]:
    """Compiles the layers of `model` where the recipe, or what is found here, says so; tells whether, and what is to be
    said of it (nothing where nobody asked).

    RecipeError where it shall be done, or was done until now, and cannot.

    Args:
        model: as it will train. rows: that go through it at once.
    """
    asked, found = recipe.train.compile, ""
    if not asked:
        return False, ""
    trial = Trial(model, device, precision, loader.peek)

    def measure() -> bool:
        nonlocal found
        pays, found = _pays(recipe, model, loader, trial, rows)
        return pays

    compiled = decisions.take("compile", measure) if asked == "auto" else True
    said = f"compiled blocks: {'yes' if compiled else 'no'}"
    if asked == "auto":
        said += f", {found or 'as it was decided when the run began'}"
    return compiled, said + (_ready(recipe, model, loader, trial, rows) if compiled else "")


def stays_plain(recipe: Recipe, config: AnyConfig, device: torch.device) -> str | None:
    """Why the layers of this run stay as they are; None where they can be compiled.

    Args:
        recipe: with the shape filled in.
    """
    if device.type not in ("cpu", "cuda"):
        return f"not on {device.type}"
    if recipe.keeps_documents_apart and device.type == "cpu" and recipe.model.context_length > 2 * CHUNK:
        return f"attention goes by the values of document masks in rows of more than {2 * CHUNK} tokens"
    return unsuited(config, recipe.adapter)


def _ready(recipe: Recipe, model: AnyModel, loader: Loader, trial: Trial, rows: int) -> str:
    """Makes the graphs of a step; tells how long it took."""
    if reason := stays_plain(recipe, model.config, trial.device):
        raise RecipeError(f"train.compile {recipe.train.compile}: {reason}", "set train.compile: false")
    assert isinstance(model, Transformer)
    started = time.perf_counter()
    compile_layers(model, cache_folder() / "compiled")
    share = loader.share_rows
    try:
        for shape in {min(rows, share), share % rows} - {0}:
            trial.seconds(shape)
    except OutOfMemory:
        pass  # the step will be done with fewer
    return f" (ready in {time.perf_counter() - started:.1f} s)"


def _pays(recipe: Recipe, model: AnyModel, loader: Loader, trial: Trial, rows: int) -> tuple[bool, str]:
    """Whether the run is shorter with its layers compiled; and the figures, or the reason. Layers are left plain."""
    if reason := stays_plain(recipe, model.config, trial.device):
        return False, reason
    assert isinstance(model, Transformer)
    try:
        if reason := _too_short(recipe, loader, rows, min(trial.seconds(rows) for _ in range(2))):
            return False, reason
        plain, compiled = _in_turns(model, trial, rows)
    except RecipeError as error:
        return False, error.message
    except OutOfMemory:
        return False, "there is no memory for a trial"
    finally:
        plain_layers(model)
    return plain >= FASTER * compiled, f"{compiled:.3g} s a pass, and {plain:.3g} s without"


def _in_turns(model: Transformer, trial: Trial, rows: int) -> tuple[float, float]:
    """Seconds of a pass, plain and compiled: the better of two, so that what else the machine does decides less."""
    compile_layers(model, cache_folder() / "compiled")
    trial.seconds(rows)
    plain, compiled = math.inf, math.inf
    for _ in range(2):
        compiled = min(compiled, trial.seconds(rows))
        plain_layers(model)
        plain = min(plain, trial.seconds(rows))
        compile_layers(model, cache_folder() / "compiled")
    return plain, compiled


def _too_short(recipe: Recipe, loader: Loader, rows: int, seconds: float) -> str | None:
    """Why the run is too short for a trial, in words, when one pass takes so many seconds; None where it is not."""
    length = loader.sampler.context_length
    steps = Stopping(recipe.train, loader.batch_rows * length, loader.samples_per_epoch * length).total_steps
    hours, pieces = recipe.train.hours, math.ceil(loader.share_rows / rows)
    if steps is None and hours is None:
        return "it is not known how long the run takes"
    limits = [steps * pieces * seconds if steps else math.inf, 3600 * hours if hours else math.inf]
    if min(limits) < LONG:
        return f"the steps take some {min(limits):.0f} s in all"
    return f"a pass takes {seconds:.3g} s, and there are few of them" if min(limits) < PASSES * seconds else None
