"""The one training loop. It knows batches, steps, intervals and signals; what is done at an interval comes in as a
callable.

    trainer = Trainer(config, parts)          nothing is allocated here: the parts exist already
    trainer.restore(checkpoint)               goes on after a checkpoint, to the same bits
    trainer.run() -> stopped_by

Order within a step, the same on every process: update, record, evaluate, sample, checkpoint. A checkpoint therefore
holds all that the step changed, and a run resumed from it does what the other would have done. Where the evaluation is
broken off, by a signal or for want of memory, the checkpoint says so, and a run resumed from it begins with that, and
notes it there.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tilth.checkpoint.store import Checkpoint, CheckpointStore
from tilth.checkpoint.tensors import load_model, unique_state
from tilth.checkpoint.trainable import load_trainable, trainable_state
from tilth.core.environment import Precision
from tilth.core.errors import Aborted, DivergedError, Stopped, first_line
from tilth.core.rundir import CheckpointRecord, EvaluationRecord, Event, Message, StepRecord
from tilth.data.batches.batch import Batch
from tilth.data.batches.loader import Loader
from tilth.distributed.refused import OutOfMemory
from tilth.distributed.replicas import differing, take_from_main
from tilth.distributed.runtime import Runtime
from tilth.model.adapters import adapter_names
from tilth.model.wrapped import AnyModel
from tilth.training.captured import CapturedPasses, can_capture
from tilth.training.config import TrainConfig
from tilth.training.optim import load_state_tensors, set_learning_rate, state_tensors
from tilth.training.out_of_memory import no_room, no_room_to_evaluate
from tilth.training.schedule import learning_rate_share
from tilth.training.signals import SignalFlag
from tilth.training.step import StepResult, accumulate, update
from tilth.training.stopping import Progress, Stopping

_FAR_APART = 0.01  # of a tensor's largest number: rounding stays far below, other numbers are about 1
_MOST_SKIPS = 50  # fp16: a scale that is halved so often and still overflows will not come right


Tell = Callable[[str], None]
Spare = Callable[[], bool]
Evaluate = Callable[[AnyModel, Callable[[], None], Tell, Spare], dict[str, float]]


@dataclass
class Parts:
    """What a trainer works with, put together by the job.

    `micro_rows` go through the model at once, from a step that stands in `fewer_rows` on so many; `keep_rows` makes
    durable that it will be so from this step on. `evaluate` gives validation metrics for the model as it is, and calls
    what it is given first between batches: that may raise, to end the pass; what it is given second is told, by all
    processes, what the user should know; third, it asks where memory is refused: that lets go of what can be had again,
    if there is anything. OutOfMemory where it cannot be made. `sample` makes whatever should be seen of
    the model; `emit` receives every event, in process 0; `before_save` makes durable what a checkpoint refers to.
    """

    model: AnyModel
    optimizer: torch.optim.Optimizer
    loader: Loader
    runtime: Runtime
    store: CheckpointStore
    precision: Precision
    scaler: torch.amp.GradScaler
    micro_rows: int
    emit: Callable[[Event], None]
    compiled: bool = False
    """Whether the model's layers are (model/compiled.py): kept with every checkpoint."""
    fewer_rows: Mapping[int, int] = field(default_factory=dict)
    keep_rows: Callable[[int, int], None] = lambda step, rows: None
    before_save: Callable[[], None] = lambda: None
    evaluate: Evaluate | None = None
    evaluate_every: int | None = None
    sample: Callable[[AnyModel, int], list[Event]] | None = None
    sample_every: int | None = None
    flops_per_step: float | None = None
    """Of the model; None where they are not known."""
    peak_flops: float | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    """Fingerprints of recipe and environment: saved with every checkpoint, compared by the job."""


class Trainer:
    """Trains until a limit is reached, a signal comes or the loss is no number."""

    def __init__(self, config: TrainConfig, parts: Parts) -> None:
        self.config, self.parts = config, parts
        loader = parts.loader
        self.batch_tokens = loader.batch_rows * loader.sampler.context_length
        self.stopping = Stopping(config, self.batch_tokens, loader.samples_per_epoch * loader.sampler.context_length)
        self.progress = Progress()
        self._saved_step, self._saved_unevaluated, self._told_apart = -1, False, False
        self._signal = SignalFlag()
        self._passes: CapturedPasses | None = None
        if can_capture(parts.model, parts.runtime.device, parts.scaler):
            self._passes = CapturedPasses(parts.model, parts.runtime.device, parts.precision, self._tell)
        self.unevaluated = False
        """Whether the evaluation of this step was broken off, and is still to be made."""
        self._saved_at = self._ticked_at = self._ended_at = time.perf_counter()

    def run(self) -> str:
        """Trains to the end; returns what ended it. Stopped and DivergedError come with all saved that can be; Aborted
        with nothing saved since the last checkpoint.
        """
        parts = self.parts
        self._ticked_at = self._ended_at = time.perf_counter()
        self._signal = SignalFlag()
        try:
            with self._signal:
                # A restored run may be over already.
                reason = self._intervals() if self.unevaluated else self._reason()
                while reason is None:
                    reason = self._step()
                    if reason is None:
                        self._stop_if_asked()
        except KeyboardInterrupt:
            raise self._aborted() from None
        except (Stopped, DivergedError) as error:
            error.told = not parts.runtime.is_main  # all processes raise it after the same step, and one tells of it
            raise
        finally:
            parts.loader.close()
        return reason

    def _stop_if_asked(self) -> None:
        """Saves and raises Stopped where a signal came to any process."""
        if self.parts.runtime.any(self._signal.received is not None):
            self._save()
            raise self._stopped()

    def _tick(self) -> float:
        """The run's seconds until now; the clock is read once a step, so that a step has one answer."""
        now = time.perf_counter()
        seconds = self.progress.seconds + now - self._ticked_at
        self._ticked_at = now
        return seconds

    def _step_seconds(self) -> float:
        """Since the step before ended, so that none of the time between them is lost: what records, shows and agrees
        with the other processes about a step comes to the one after it.
        """
        before, self._ended_at = self._ended_at, time.perf_counter()
        return self._ended_at - before

    @contextlib.contextmanager
    def _between_steps(self) -> Iterator[None]:
        """What is done within is no part of a step's time: it has a record, and a time, of its own."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._ended_at += time.perf_counter() - started

    def _reason(self) -> str | None:
        return self.stopping.reason(self.progress)

    def _step(self) -> str | None:
        started = time.perf_counter()
        parts, progress, config = self.parts, self.progress, self.config
        done, total = self.stopping.share_done(progress), self.stopping.total_steps
        share = learning_rate_share(config.schedule, progress.step, done, total)
        set_learning_rate(parts.optimizer, config.optimizer.lr * share)
        first_sample = parts.loader.samples
        batch = parts.loader.next()
        waited = time.perf_counter() - started
        result = self._update(batch, first_sample)
        progress.step += 1
        progress.tokens += self.batch_tokens
        progress.skipped += result.skipped
        progress.skipped_in_a_row = progress.skipped_in_a_row + 1 if result.skipped else 0
        self.stopping.note_loss(progress, result.loss)
        seconds = self._step_seconds()

        def record() -> float:
            self._record(result, first_sample, config.optimizer.lr * share, seconds, waited)
            return self._tick()

        progress.seconds = parts.runtime.from_main(record)  # clocks differ, and all must stop at the same step
        return self._intervals()

    def _update(self, batch: Batch, first_sample: int) -> StepResult:
        parts = self.parts
        parts.model.train()
        loss = self._gradient(batch)
        result = update(parts.model, parts.optimizer, parts.scaler, loss, self.config.grad_clip)
        stuck = result.skipped and self.progress.skipped_in_a_row >= _MOST_SKIPS
        if stuck or not (result.updated or result.skipped):
            raise self._diverged(result, first_sample)
        return result

    def _gradient(self, batch: Batch) -> float:
        """The gradient of the global batch, and its mean loss. Where memory is refused it is made again, of the same
        samples and with the same normalisation, with half as many rows at once.
        """
        parts, step = self.parts, self.progress.step
        parts.micro_rows = min(parts.micro_rows, parts.fewer_rows.get(step, parts.micro_rows))
        where, seed = (parts.runtime, parts.precision, parts.scaler), self.config.seed
        passes = self._passes if step else None  # a graph takes what is left once the optimizer has its state
        while True:
            rows = parts.micro_rows
            try:
                return accumulate(parts.model, batch, rows, *where, seed=seed, step=step, passes=passes)
            except OutOfMemory as error:
                reason = error.reason
            if self._passes is not None:
                self._passes.forget()
            self._halve(reason)  # outside: no failed try is held while the next is made

    def _halve(self, reason: str) -> None:
        """Fewer rows at once from this step on, in all processes; RecipeError where it was one row."""
        parts, step = self.parts, self.progress.step
        most = min(parts.micro_rows, parts.loader.share_rows)
        if most == 1:
            error = no_room(1, reason, layers_kept=self.config.activation_checkpointing != "full")
            error.told = not parts.runtime.is_main  # all processes raise it, and one tells of it
            raise error
        parts.micro_rows = -(-most // 2)
        text = (
            f"out of memory with {most} rows at once ({reason}): step {step + 1} is done again with "
            f"{parts.micro_rows}, on the same samples; so are those after it"
        )

        def keep() -> None:
            parts.keep_rows(step, parts.micro_rows)  # before the step: killed later on, the run does the same again
            parts.emit(Message(step + 1, "warning", text))

        parts.runtime.from_main(keep)

    def _tell(self, text: str) -> None:
        """A warning about this process; those of others are like it."""
        if self.parts.runtime.is_main:
            self.parts.emit(Message(self.progress.step + 1, "warning", text))

    def _diverged(self, result: StepResult, first_sample: int) -> DivergedError:
        last = first_sample + self.parts.loader.batch_rows - 1
        return self._lost(
            f"loss {result.loss}, gradient norm {result.grad_norm}, on samples {first_sample} to {last}; "
            "the update was not done",
            self.progress.step + 1,
        )

    def _lost(self, what: str, step: int | None = None) -> DivergedError:
        return DivergedError(
            f"step {self.progress.step if step is None else step}: {what} (last checkpoint: {self._last_saved()})",
            "lower train.optimizer.lr or lengthen train.schedule.warmup_steps; with precision bf16 or fp16 try fp32; "
            "then start another run with --run NEW_FOLDER",
        )

    def _record(self, result: StepResult, first_sample: int, lr: float, seconds: float, waited: float) -> None:
        parts, progress = self.parts, self.progress
        peak, work = parts.peak_flops, parts.flops_per_step
        self.parts.emit(
            StepRecord(
                step=progress.step,
                tokens=progress.tokens,
                loss=result.loss,
                grad_norm=result.grad_norm if result.updated else None,
                lr=lr,
                seconds=round(seconds, 6),
                data_wait_seconds=round(waited, 6),
                tokens_per_second=round(self.batch_tokens / seconds, 1),
                mfu=None if peak is None or work is None else work / seconds / (peak * parts.runtime.world_size),
                memory_bytes=parts.runtime.peak_memory_bytes(),
                skipped=progress.skipped,
                first_sample=first_sample,
                last_sample=first_sample + parts.loader.batch_rows - 1,
            )
        )

    def _intervals(self) -> str | None:
        """Does what is due after a step, all of it when the run ends here; returns what ends it."""
        step, parts, reason = self.progress.step, self.parts, self._reason()
        best = False
        if reason or self.unevaluated or _due(step, parts.evaluate_every):
            best = self._evaluate()
            reason = reason or self._reason()
        if parts.sample and (reason or _due(step, parts.sample_every)):
            with self._between_steps():
                parts.runtime.from_main(self._sample)
        if reason or (best and self.config.checkpoint.best) or self._checkpoint_due() or self._saved_unevaluated:
            self._save()
        return reason

    def _sample(self) -> None:
        """Tells what the model writes. No run is lost for a sample that cannot be: what it failed of is told."""
        parts, step = self.parts, self.progress.step
        assert parts.sample
        try:
            events = parts.sample(parts.model, step)
        except Exception as error:  # whatever it is, the checkpoint of this step is still to be saved
            reason = f"{type(error).__name__}: {first_line(error)}"
            events = [Message(step, "warning", f"no samples could be written: {reason}")]
        for event in events:
            parts.emit(event)

    def _checkpoint_due(self) -> bool:
        plan = self.config.checkpoint
        if _due(self.progress.step, plan.every_steps):
            return True
        late = plan.every_minutes is not None and time.perf_counter() - self._saved_at > plan.every_minutes * 60
        return self.parts.runtime.any(late)

    def _evaluate(self) -> bool:
        if self.parts.evaluate is None:
            self.unevaluated = False
            return False
        with self._between_steps():
            return self._evaluate_by(self.parts.evaluate)

    def _evaluate_by(self, evaluate: Evaluate) -> bool:
        started = time.perf_counter()
        self.unevaluated = True  # a pass may take longer than whoever sends a signal waits
        try:
            metrics = evaluate(self.parts.model, self._stop_if_asked, self._tell_of_step, self._spare)
        except OutOfMemory as error:
            self._save()  # what was trained; a run that goes on from it begins with this evaluation
            refusal = no_room_to_evaluate(error.reason)
            refusal.told = not self.parts.runtime.is_main  # all processes raise it, and one tells of it
            raise refusal from None
        self.unevaluated = False
        if not math.isfinite(metrics["loss"]):
            raise self._lost(f"the validation loss is {metrics['loss']}")
        best = self.stopping.note_validation(self.progress, metrics)
        seconds = round(time.perf_counter() - started, 3)
        record = EvaluationRecord(self.progress.step, metrics, seconds, best)
        self.parts.runtime.from_main(lambda: self.parts.emit(record))
        return best

    def _spare(self) -> bool:
        """Graphs hold memory and are recorded anew; whether there were any in this process."""
        return self._passes is not None and self._passes.forget()

    def _tell_of_step(self, text: str) -> None:
        """A warning that all processes have alike, of what comes after a step."""
        parts, step = self.parts, self.progress.step
        parts.runtime.from_main(lambda: parts.emit(Message(step, "warning", text)))

    def _save(self) -> None:
        if self.progress.step != self._saved_step:
            with self._between_steps():
                self._bring_together()
                self.parts.runtime.from_main(self._write)
            self._saved_step, self._saved_at = self.progress.step, time.perf_counter()
        elif self._saved_unevaluated and not self.unevaluated:
            self.parts.runtime.from_main(self._note_evaluation)
        else:
            return
        self._saved_unevaluated = self.unevaluated

    def _write(self) -> None:
        started, step, parts = time.perf_counter(), self.progress.step, self.parts
        parts.before_save()
        tensors = {"model": saved_weights(parts.model), "optimizer": state_tensors(parts.optimizer)}
        # An update can break the weights though its gradient was finite; what is saved must be worth going on from.
        if broken := [name for name, tensor in tensors["model"].items() if not bool(torch.isfinite(tensor).all())]:
            raise self._lost(f"{broken[0]} holds numbers that are none")
        path = parts.store.save(step, tensors, self.state_dict())
        self._mark_best()
        parts.store.prune(self.config.checkpoint.keep)
        parts.emit(CheckpointRecord(step, str(path), round(time.perf_counter() - started, 3)))

    def _note_evaluation(self) -> None:
        """Lets the checkpoint of this step know of its evaluation, which was made since: it is not made once more."""
        self.parts.before_save()  # its record first
        self.parts.store.note_evaluation(self.progress.step, self.progress.state_dict())
        self._mark_best()

    def _bring_together(self) -> None:
        """Processors of other kinds round an update otherwise. What is saved, and gone on from, is what process 0 has:
        the others take it too, so that a run that goes on equals one that was not stopped. DivergedError where they
        are further apart than rounding brings them.
        """
        parts = self.parts
        tensors = {**saved_weights(parts.model), **state_tensors(parts.optimizer)}
        names = differing(parts.runtime, tensors)
        if not names:
            return
        far = take_from_main(parts.runtime, {name: tensors[name] for name in names})
        what = f"{len(names)} of {len(tensors)} tensors of model and optimizer, {names[0]} for one"
        if not far < _FAR_APART:
            raise DivergedError(
                f"step {self.progress.step}: the processes of this run no longer hold the same numbers ({what}; last "
                f"checkpoint: {self._last_saved()})",
                "look after memory and versions of the machines; then type the same command to go on after the last "
                "checkpoint",
            )
        if not self._told_apart:
            text = (
                f"the processes round otherwise, by {far:.1g} until now ({what}): at each checkpoint all take what "
                "process 0 has; on machines of one kind nothing would differ"
            )
            parts.runtime.from_main(lambda: parts.emit(Message(self.progress.step, "warning", text)))
        self._told_apart = True

    def _mark_best(self) -> None:
        """Says which checkpoint is the best, from what the run knows; nothing where bests are not kept."""
        progress = self.progress
        if self.config.checkpoint.best and progress.best_value is not None:
            self.parts.store.mark_best(progress.best_step, progress.best_metric, progress.best_value)

    def _stopped(self) -> Stopped:
        name = self._signal.received or "a signal to another process"
        within = " (the evaluation of this step is made when it goes on)" if self.unevaluated else ""
        return Stopped(
            f"{name} at step {self.progress.step}: everything is saved{within}",
            "type the same command to go on" + ("" if self.stopping.by_the_clock else " to the same result"),
        )

    def _aborted(self) -> Aborted:
        return Aborted(
            f"a second Ctrl-C at step {self.progress.step}: stopped at once (last checkpoint: {self._last_saved()})",
            "type the same command to go on after the last checkpoint; a single Ctrl-C finishes the step and saves it",
        )

    def _last_saved(self) -> str:
        return f"step {self._saved_step}" if self._saved_step >= 0 else "none"

    def state_dict(self) -> dict[str, Any]:
        """All that decides what comes next, beside weights and optimizer tensors."""
        return {
            "progress": self.progress.state_dict(),
            "unevaluated": self.unevaluated,
            "loader": self.parts.loader.state_dict(),
            "scaler": self.parts.scaler.state_dict(),
            "precision": self.parts.precision,
            "micro_rows": self.parts.micro_rows,
            "compile": self.parts.compiled,
            "identity": self.parts.identity,
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on after a checkpoint; CheckpointError when it does not fit model, optimizer or data."""
        parts, state = self.parts, checkpoint.state()
        parts.loader.load_state_dict(state["loader"])
        put_back = load_trainable if adapter_names(parts.model) else load_model
        put_back(parts.model, checkpoint.tensors("model"), checkpoint.path)
        load_state_tensors(parts.optimizer, checkpoint.tensors("optimizer"))
        if parts.scaler.is_enabled() and state["scaler"]:  # empty where another precision was used until now
            parts.scaler.load_state_dict(state["scaler"])
        self.progress.load_state_dict(state["progress"])
        self.unevaluated = state.get("unevaluated", False)
        self._saved_step, self._saved_unevaluated = self.progress.step, self.unevaluated
        if not self.unevaluated:  # what is marked may be this step, by an evaluation that was not noted
            parts.runtime.from_main(self._mark_best)


def saved_weights(model: AnyModel) -> dict[str, Tensor]:
    """What a checkpoint holds: all weights; beside an adapter what trains, for the base is where it was."""
    return trainable_state(model) if adapter_names(model) else unique_state(model)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
