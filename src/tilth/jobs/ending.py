"""The end of a run: its final model, its result and its report."""

from __future__ import annotations

import os
from typing import Any

from tilth.core.errors import IntegrityError
from tilth.core.files import read_json, write_json
from tilth.core.rundir import Message, RunFolder
from tilth.core.words import plural
from tilth.jobs.final import Adapted, choose_weights, standing_final, write_final
from tilth.jobs.mixing import seen
from tilth.jobs.pages.report import write_report
from tilth.jobs.recipe import Recipe
from tilth.jobs.start import write_base
from tilth.model.wrapped import AnyConfig, WrappedModel
from tilth.tokenizer import Tokenizer
from tilth.training.schedule import ScheduleConfig
from tilth.training.trainer import Parts, Trainer, saved_weights


def end_run(
    folder: RunFolder,
    recipe: Recipe,
    trainer: Trainer,
    stopped_by: str,
    idle: bool,
    config: AnyConfig,
    tokenizer: Tokenizer,
    forecast: dict[str, Any] | None,
) -> dict[str, Any]:
    """Writes final model, result and report; a run that was over already (`idle`) keeps those that are still true."""
    parts, progress, asked = trainer.parts, trainer.progress, recipe.train.final
    facts = standing_final(folder, asked, progress.step) if idle else None
    stands = facts is not None
    if stands:
        forecast = _earlier(folder).get("forecast")  # of the steps that were done, not of none
    if facts is None:
        theirs = parts.model if isinstance(parts.model, WrappedModel) else None
        weights = choose_weights(asked, progress, saved_weights(parts.model), parts.store)
        if weights.warning:
            parts.emit(Message(progress.step, "warning", weights.warning))
        facts = write_final(folder, recipe, progress.step, weights, config, tokenizer, _adapted(recipe, parts), theirs)
    # What is told is told of the weights that became RUN/final.
    validation = progress.best_validation if facts["weights"] == "best" else progress.last_validation
    result = {
        "run": str(folder.path),
        "step": progress.step,
        "tokens": progress.tokens,
        "train_loss": progress.last_loss,
        "validation_loss": validation["loss"] if validation else None,
        "seconds": round(progress.seconds, 3),
        "stopped_by": stopped_by,
        "checkpoint": str(folder.checkpoints / f"step-{progress.step:08d}"),
        "forecast": forecast,
    }
    if not idle and (said := _within_the_warm_up(trainer)):
        parts.emit(Message(progress.step, "warning", said))
    if mixture := seen(parts.loader.sampler, parts.loader.samples):
        result["mixture"] = mixture
    kept = {**result, "validation": validation, "weights": {"kind": facts["weights"], "step": facts["step"]}}
    if not (stands and _is_kept(folder, kept)):
        write_json(folder.path / "result.json", {**kept, "process": os.getpid()})
        write_report(folder.path)
    return result


def _within_the_warm_up(trainer: Trainer) -> str | None:
    """What to say of a run that ended before its learning rate was what the recipe asks for."""
    step, schedule, total = trainer.progress.step, trainer.config.schedule, trainer.stopping.total_steps
    warmup, by_itself = schedule.warmup(total), ScheduleConfig().warmup(total)
    if not 0 < step <= warmup:
        return None
    aside = f" (left out, it is {by_itself})" if schedule.warmup_steps is None or by_itself < warmup else ""
    return (
        f"the run ended within its warm-up, at step {step} of {plural(warmup, 'step')}: the learning rate came to "
        f"{step / (warmup + 1):.0%} of train.optimizer.lr, and little was learned; give fewer "
        f"train.schedule.warmup_steps{aside}, a longer run, or a smaller train.batch_tokens"
    )


def _adapted(recipe: Recipe, parts: Parts) -> Adapted | None:
    """What the final model is beside, where it is an adapter."""
    if recipe.adapter is None:
        return None
    fingerprint = str(parts.identity["base"])
    return Adapted(parts.model, fingerprint, lambda folder: write_base(folder, recipe, fingerprint))


def _is_kept(folder: RunFolder, result: dict[str, Any]) -> bool:
    """Whether result and report of an earlier end say the same."""
    own = {"process": None}  # who wrote it
    return {**_earlier(folder), **own} == {**result, **own} and (folder.path / "report.html").exists()


def _earlier(folder: RunFolder) -> dict[str, Any]:
    """The result of an earlier end; empty where there is none that can be read."""
    try:
        before = read_json(folder.path / "result.json")
    except IntegrityError:
        return {}
    return before if isinstance(before, dict) else {}
