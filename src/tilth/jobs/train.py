"""The job behind `tilth train`: a recipe and a dataset to a run folder with a model in it."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tilth.checkpoint.store import Checkpoint, CheckpointStore
from tilth.core.config import fingerprint
from tilth.core.environment import (
    fingerprint_environment,
    forget_peak_memory,
    give_back_freed_blocks,
    held_memory_bytes,
)
from tilth.core.errors import CheckpointError, IntegrityError
from tilth.core.files import read_json
from tilth.core.rundir import Event, Message, RunFolder
from tilth.data.dataset import Dataset
from tilth.distributed.runtime import Runtime, start
from tilth.jobs.base import Base, find_base, with_base
from tilth.jobs.batches import make_loader
from tilth.jobs.blocks import settle_blocks
from tilth.jobs.chats import format_of, stop_ids_of
from tilth.jobs.decisions import Decisions, asked_of, changed
from tilth.jobs.ending import end_run
from tilth.jobs.final import write_identity
from tilth.jobs.forecast_run import RunForecast, Watch, misjudged, own_pace, run_forecast
from tilth.jobs.micro_rows import choose_micro_rows, choose_precision
from tilth.jobs.parts import build_parts, complete_model, device_name
from tilth.jobs.recipe import Recipe
from tilth.jobs.room import check_room, memory_errors
from tilth.jobs.runs import dataset_facts, stored_recipe
from tilth.jobs.samples import samples_of
from tilth.jobs.saying import Emit, say_before, say_where
from tilth.jobs.start import check_files, same_base, starting_model, write_base
from tilth.model.compiled import compiler_version
from tilth.model.config import ModelConfig
from tilth.model.wrapped import AnyConfig, AnyModel, WrappedModel
from tilth.train.calibration import calibrated, doubt, is_kept, measure
from tilth.train.optim import state_tensors
from tilth.train.trainer import Trainer


def train_model(
    recipe: Recipe, dataset: Dataset, run: Path, emit: Emit | None = None, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Trains, resuming where `run` left off, and returns the result that `tilth train --json` prints.

    Args:
        run: the run folder; made by the same recipe and data, or new.
        emit: receives every event besides the run folder.
        notes: what should stand in the run's records of how its data was had.
    """
    base = find_base(recipe)
    check_files(base)
    runtime = start(recipe.train.device)
    folder = RunFolder(run)
    with contextlib.ExitStack() as stack:
        stack.callback(runtime.stop)
        stack.callback(give_back_freed_blocks)
        runtime.from_main(lambda: _hold(folder, dataset, stack))
        return _train(recipe, base, dataset, folder, runtime, functools.partial(_record, folder, emit), notes)


def _hold(folder: RunFolder, dataset: Dataset, stack: contextlib.ExitStack) -> None:
    folder.check()
    stack.enter_context(folder.lock())
    stack.enter_context(dataset.held())
    folder.remove_leftovers()


def _record(folder: RunFolder, show: Emit | None, event: Event) -> None:
    folder.record(event)
    if show:
        show(event)


def _train(
    asked: Recipe,
    base: Base | None,
    dataset: Dataset,
    folder: RunFolder,
    runtime: Runtime,
    record: Emit,
    notes: Sequence[str],
) -> dict[str, Any]:
    """All processes come here. What process 0 alone does goes through `from_main`, so that none waits in vain."""
    recipe, record = with_base(asked, base), (watch := Watch(record))
    model_config = complete_model(base.config if base else recipe.model, dataset.tokenizer, grows=base is not None)
    check_room(recipe, model_config, runtime.device)
    loader = make_loader(recipe, dataset, runtime)
    changes = runtime.from_main(lambda: _claim(folder, asked, base, dataset, model_config))
    store = CheckpointStore(folder.checkpoints)
    checkpoint, warnings = _latest(store, runtime)
    decisions = Decisions(recipe, folder, runtime, device_name(runtime), checkpoint)
    precision = decisions.take(
        "precision", lambda: choose_precision(recipe, model_config, loader.share_rows, runtime.device)
    )
    model, beside = starting_model(recipe, base, model_config, runtime.device, precision)
    choose = functools.partial(choose_micro_rows, recipe, model_config, model, loader, runtime.device, precision)
    rows = decisions.take("micro_rows", choose)
    compiled, of_blocks = settle_blocks(decisions, recipe, model, loader, runtime.device, precision, rows)
    parts = build_parts(recipe, model_config, model, dataset, loader, runtime, store, precision, rows, record)
    parts.compiled = compiled
    parts.fewer_rows, unread = decisions.fewer_rows()
    parts.keep_rows, parts.before_save = decisions.keep_rows, folder.sync
    parts.sample = samples_of(asked, base, dataset.tokenizer)
    if recipe.adapter is not None:  # so that its checkpoints can be used before it ends
        runtime.from_main(lambda: write_base(folder.path, asked, beside["base"]))
    parts.identity = {**_identity(asked, recipe, runtime, model, compiled), **beside}
    parts.identity["changed"] = changed(parts.identity, checkpoint)
    trainer = Trainer(recipe.train, parts)
    if checkpoint is not None:
        same_base(checkpoint, beside)
        trainer.restore(checkpoint)

    def begin() -> None:
        again = folder.last_step() - trainer.progress.step
        said = [*notes, *warnings, *unread, *folder.rewind(trainer.progress.step)]
        say_before(trainer, record, said, changes, again, of_blocks)
        say_where(checkpoint, trainer, record)

    runtime.from_main(begin)
    give_back_freed_blocks()  # what the data, or the measuring of rows, has left
    pace = _own_pace(folder, checkpoint, parts.identity, changes)
    foretold = runtime.from_main(lambda: _is_foretold(trainer, model_config))
    if foretold and runtime.any(runtime.is_main and not is_kept(runtime.device)):
        # All at once, for in training they share the cores.
        calibrated(runtime.device) if runtime.is_main else measure(runtime.device, "")
    told = _message_seconds(trainer) if foretold else 0.0
    forecast = _forecast(recipe, model_config, dataset, trainer, record, pace, told) if runtime.is_main else None
    idle, begun = trainer.stopping.reason(trainer.progress) is not None, trainer.progress.step
    earlier = _earlier_peak(folder, checkpoint, parts.identity) if forecast else 0
    forget_peak_memory()
    with memory_errors(lambda: parts.micro_rows):
        stopped_by = trainer.run()
    peak = max(runtime.peak_memory_bytes(), earlier)  # writing what comes now is no part of it
    taken = None if forecast is None else watch.against(forecast, peak, recipe.train.price_per_hour)
    if taken is not None and forecast is not None and not forecast.own_pace and misjudged(taken):
        doubt(runtime.device)
    end = functools.partial(end_run, folder, asked, trainer, stopped_by, idle, model_config, dataset.tokenizer, taken)
    result = runtime.from_main(end)
    return {**result, "new_steps": trainer.progress.step - begun} if runtime.is_main else {}


def _is_foretold(trainer: Trainer, config: AnyConfig) -> bool:
    return trainer.stopping.reason(trainer.progress) is None and isinstance(config, ModelConfig)


def _forecast(
    recipe: Recipe,
    config: AnyConfig,
    dataset: Dataset,
    trainer: Trainer,
    record: Emit,
    pace: float | None,
    told: float,
) -> RunForecast | None:
    """What the steps that are left should take, said; None where there are none, or the class is transformers'."""
    parts, step, total = trainer.parts, trainer.progress.step, trainer.stopping.total_steps
    if not _is_foretold(trainer, config):
        return None
    assert isinstance(config, ModelConfig)
    steps, device = None if total is None else total - step, parts.runtime.device
    kinds: dict[str, Any] = {"precision": parts.precision, "rows": parts.loader.share_rows, "steps": steps}
    kinds |= {"spent": trainer.progress.seconds, "pace": pace, "told": told}
    held_out = dataset.stream("validation").tokens
    found = run_forecast(
        recipe, config, parts.micro_rows, device, held_out=held_out, held=functools.partial(_held, trainer), **kinds
    )
    record(Message(step, "info", found.words()))
    return found


_OTHER_SPEED = (
    "train.micro_batch",
    "train.device",
    "train.precision",
    "train.compile",
    "train.activation_checkpointing",
)


def _own_pace(
    folder: RunFolder, checkpoint: Checkpoint | None, identity: dict[str, Any], changes: Sequence[str]
) -> float | None:
    """Seconds of the run's steps until now; None where they were done in another way, or elsewhere."""
    if checkpoint is None or any(change.startswith(_OTHER_SPEED) for change in changes):
        return None
    before = checkpoint.state()["identity"]
    if any(before.get(key) != identity[key] for key in ("environment", "world_size")):
        return None
    return own_pace(folder.steps())


def _held(trainer: Trainer) -> int:
    """What this process holds besides the model and what its optimizer has by now; 0 where the system does not say."""
    parts = trainer.parts
    tensors = [*parts.model.parameters(), *parts.model.buffers(), *state_tensors(parts.optimizer).values()]
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu"]
    own = {storage.data_ptr(): storage.nbytes() for storage in storages}  # tied ones count once
    return max(0, (held_memory_bytes() or 0) - sum(own.values()))


def _message_seconds(trainer: Trainer) -> float:
    """What the gradients of a step take from process to process: the second message of their size, timed."""
    runtime = trainer.parts.runtime
    if runtime.world_size == 1:
        return 0.0
    numbers = sum(parameter.numel() for parameter in trainer.parts.model.parameters() if parameter.requires_grad)
    message = torch.zeros(numbers, device=runtime.device)
    runtime.sum(message)[0].item()  # the first also finds the way
    started = time.perf_counter()
    runtime.sum(message)[0].item()  # on a GPU it is over when its number is here
    return time.perf_counter() - started


def _earlier_peak(folder: RunFolder, checkpoint: Checkpoint | None, identity: dict[str, Any]) -> int:
    """The most memory that earlier sittings of this run recorded; 0 where they held that of another device."""
    before = checkpoint.state()["identity"].get("environment", {}) if checkpoint else {}
    if before.get("device") != identity["environment"]["device"]:
        return 0
    recorded = [step.memory_bytes for step in folder.steps()]
    with contextlib.suppress(IntegrityError, LookupError, TypeError):  # none yet, or of a class without a forecast
        recorded.append(int(read_json(folder.path / "result.json")["forecast"]["actual"]["memory"]))
    return max(recorded, default=0)


def _identity(asked: Recipe, recipe: Recipe, runtime: Runtime, model: AnyModel, compiled: bool) -> dict[str, Any]:
    """What every checkpoint says of the run that it belongs to."""
    also = ["transformers"] if isinstance(model, WrappedModel) else []  # it computes here
    environment = fingerprint_environment(torch.get_num_threads(), device_name(runtime), also)
    return {
        "recipe": fingerprint(asked.plain()),
        "environment": {**environment, "compiler": compiler_version()} if compiled else environment,
        "world_size": runtime.world_size,
        "asked": asked_of(recipe),
    }


def _claim(folder: RunFolder, recipe: Recipe, base: Base | None, dataset: Dataset, config: AnyConfig) -> list[str]:
    """Makes the folder this run's; returns what changed in its recipe since it began."""
    facts = dataset_facts(dataset, folder.path)
    changes = folder.claim(recipe.plain(), facts, lambda _: stored_recipe(folder).plain())
    _nothing_is_lost(folder)
    tokenizer = dataset.tokenizer
    write_identity(folder, config, tokenizer, format_of(recipe, base), stop_ids_of(recipe, base, tokenizer))
    return changes


def _nothing_is_lost(folder: RunFolder) -> None:
    """A finished run without one checkpoint would be trained anew, and its model replaced: not unasked."""
    if folder.final.exists() and not any(folder.checkpoints.glob("step-*")):
        raise CheckpointError(
            f"the run in {folder.path} has a final model, and its checkpoints are gone: there is nothing to go on from",
            f"use {folder.final} as it is; to train anew, name another folder with --run, or remove this one",
        )


def _latest(store: CheckpointStore, runtime: Runtime) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint to go on from, and a line on each damaged one. Process 0, which holds the folder, looks for it and
    sets damaged ones aside; the others take the one that it found.
    """

    found: list[Checkpoint | None] = []  # verified once: it may be large

    def look() -> tuple[int | None, list[str]]:
        checkpoint, messages = store.latest()
        found.append(checkpoint)
        return checkpoint.step if checkpoint else None, messages

    step, messages = runtime.from_main(look)
    return found[0] if found else None if step is None else store.at(step), messages
