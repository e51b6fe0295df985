"""What a run says of itself before its first step: where it goes on, with what, and what may be promised of it."""

from __future__ import annotations

from collections.abc import Callable

from tilth.checkpoint.store import Checkpoint
from tilth.core.rundir import Event, Message
from tilth.core.words import plural
from tilth.jobs.mixing import say_mixture
from tilth.training.trainer import Trainer

Emit = Callable[[Event], None]


def say_before(
    trainer: Trainer, record: Emit, warnings: list[str], changes: list[str], again: int, settled: list[str]
) -> None:
    step, total = trainer.progress.step, trainer.stopping.total_steps
    for warning in warnings:
        record(Message(step, "warning", warning))
    for change in changes:
        record(Message(step, "info", f"the recipe changed: {change}"))
    if again > 0:
        came = f"{plural(again, 'recorded step')} came after the last checkpoint"
        record(Message(step, "info", f"{came}: {'it is' if again == 1 else 'they are'} done again"))
    for said in filter(None, settled):
        record(Message(step, "info", said))
    warmup = trainer.config.schedule.warmup(total)
    if total is not None and warmup >= total:
        longer = "longer than" if warmup > total else "as long as"
        text = f"the warm-up of {warmup} steps is {longer} the run of {total}: the rate never reaches its peak"
        record(Message(step, "warning", f"{text}; train.schedule.warmup_steps sets it"))


def say_where(checkpoint: Checkpoint | None, trainer: Trainer, record: Emit) -> None:
    parts, step = trainer.parts, trainer.progress.step
    if trainer.unevaluated:
        text = f"the evaluation of step {step} was broken off: the run goes on with that"
        record(Message(step, "info", text))
    if (over := trainer.stopping.reason(trainer.progress)) and not trainer.unevaluated:
        limit = trainer.stopping.limits.get(over, step)
        where = f"ended at step {step} (train.{over})"
        if step > limit:
            where = f"is at step {step} already, past train.{over} (step {limit})"
        record(Message(step, "info", f"done: the run {where}; a longer one would go on"))
        return
    text = f"{parts.precision} on {parts.runtime.device}, {parts.micro_rows} rows at once"
    epochs = parts.loader.batch_rows / parts.loader.samples_per_epoch
    if epochs > 1:
        text += f"; one batch holds the training text {epochs:.1f} times: train.batch_tokens is larger than the text"
    steps = trainer.stopping.total_steps
    if mixture := say_mixture(parts.loader.sampler, steps and steps * parts.loader.batch_rows):
        record(Message(step, "info", mixture))
    if checkpoint is None:
        record(Message(0, "info", f"starting: {text}"))
        return
    record(Message(step, "info", f"going on after step {step}: {text}; {_tier(trainer)}"))


def _tier(trainer: Trainer) -> str:
    """What can be promised of a run that goes on (docs/architecture.md, Determinism)."""
    changed = trainer.parts.identity["changed"]
    if trainer.stopping.by_the_clock:
        return "the clock ends this run, so no two are equal"
    if "limits" in changed:
        return (
            "its limits changed on the way, and the schedule is planned by them: no run from the start is equal to it"
        )
    if not changed and trainer.parts.runtime.device.type != "cpu":  # more has not been shown there
        return "it sees the same samples; the same bits are promised on a CPU alone"
    if changed:
        return (
            "the machine, versions, threads, processes, micro-batch, device or precision are not what they were: "
            "it sees the same samples, and rounds otherwise"
        )
    return "it will give the same bits as a run that was not stopped: same kind of machine, versions and threads"
