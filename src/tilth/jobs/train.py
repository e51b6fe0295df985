"""The last part of `tilth train`: a recipe and a dataset to a run folder with a model in it. What comes before it, and
calls it, is whole_run.py: prepare_and_train.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tilth.checkpoint.store import Checkpoint, CheckpointStore
from tilth.core.allocator import give_back_freed_blocks
from tilth.core.config import fingerprint
from tilth.core.environment import fingerprint_environment, peak_flops
from tilth.core.errors import CheckpointError
from tilth.core.rundir import Event, RunFolder
from tilth.data.batches.loader import Loader
from tilth.data.dataset import Dataset
from tilth.distributed.runtime import Runtime, start
from tilth.jobs.base import Base, with_base
from tilth.jobs.batches import make_loader
from tilth.jobs.blocks import settle_blocks
from tilth.jobs.chats import format_of, settings_of, stop_ids_of
from tilth.jobs.decisions import Decisions, asked_of, changed
from tilth.jobs.ending import end_run
from tilth.jobs.final import write_identity
from tilth.jobs.forecasting.micro_rows import check_one_row, choose_micro_rows, choose_precision
from tilth.jobs.forecasting.outlook import Outlook
from tilth.jobs.forecasting.recomputed import recomputing, settle_recomputed
from tilth.jobs.forecasting.room import check_room, memory_errors
from tilth.jobs.forecasting.watch import Watch
from tilth.jobs.parts import complete_model, device_name, evaluation_of, flops_of
from tilth.jobs.places import seal_identity, unseal_identity
from tilth.jobs.recipe import Recipe
from tilth.jobs.runs import dataset_facts, stored_recipe
from tilth.jobs.samples import samples_of
from tilth.jobs.saying import Emit, say_before, say_where
from tilth.jobs.start import (
    check_files,
    loaded_base,
    reads_masks,
    same_base,
    start_alike,
    starting_model,
    write_base,
)
from tilth.model.attention import avoid_broken_kernels
from tilth.model.compiled import compiler_version
from tilth.model.precision import make_scaler
from tilth.model.wrapped import AnyConfig, AnyModel, WrappedModel
from tilth.training.optim import make_optimizer
from tilth.training.trainer import Parts, Trainer


def train_model(
    recipe: Recipe, dataset: Dataset, base: Base | None, run: Path, emit: Emit | None, notes: Sequence[str]
) -> dict[str, Any]:
    """Trains, resuming where `run` left off, and returns the result that `tilth train --json` prints.

    Args:
        base: the checkpoint of `model.from`, in all processes the same revision.
        run: the run folder; made by the same recipe and data, or new.
        emit: receives every event besides the run folder.
        notes: what should stand in the run's records of how its data was had.
    """
    check_files(base)
    runtime = start(recipe.train.device)
    with contextlib.ExitStack() as stack:
        stack.callback(runtime.stop)
        stack.callback(give_back_freed_blocks)
        sitting = _sit_down(recipe, base, dataset, RunFolder(run), runtime, emit)
        return _train(sitting, _open(sitting, stack), notes)


def _open(sitting: _Sitting, stack: contextlib.ExitStack) -> AnyModel | None:
    """Holds the run folder; returns the model of `model.from`, if any. A folder is made only for a model that is of
    use; where one is there, another process may be at it, which is told before much memory is taken.
    """
    folder, runtime = sitting.folder, sitting.runtime

    def load() -> AnyModel | None:
        return loaded_base(sitting.recipe, sitting.base, runtime.device)

    new = runtime.from_main(lambda: not folder.path.exists())
    loaded = load() if new else None
    runtime.from_main(lambda: _hold(folder, sitting.dataset, stack))
    return loaded if new else load()


def _hold(folder: RunFolder, dataset: Dataset, stack: contextlib.ExitStack) -> None:
    folder.check()
    stack.enter_context(folder.lock())
    stack.enter_context(dataset.held())
    folder.remove_leftovers()


def _record(folder: RunFolder, show: Emit | None, event: Event) -> None:
    folder.record(event)
    if show:
        show(event)


@dataclass(frozen=True)
class _Sitting:
    """One call of `tilth train`: what all of its phases have in hand.

    Attributes:
        asked: the recipe as it is written; `recipe`: with what the model of `model.from` says filled in.
        record: takes every event.
    """

    asked: Recipe
    recipe: Recipe
    base: Base | None
    config: AnyConfig
    dataset: Dataset
    folder: RunFolder
    runtime: Runtime
    record: Watch


def _sit_down(
    asked: Recipe, base: Base | None, dataset: Dataset, folder: RunFolder, runtime: Runtime, emit: Emit | None
) -> _Sitting:
    """RecipeError where the model is too large for the memory that there is."""
    recipe, watch = with_base(asked, base), Watch(functools.partial(_record, folder, emit))
    config = complete_model(base.config if base else recipe.model, dataset.tokenizer, grows=base is not None)
    check_room(recipe, config, runtime.device)
    return _Sitting(asked, recipe, base, config, dataset, folder, runtime, watch)


def _train(sitting: _Sitting, loaded: AnyModel | None, notes: Sequence[str]) -> dict[str, Any]:
    """All processes come here. What process 0 alone does goes through `from_main`, so that none waits in vain.

    Args:
        loaded: the model of `model.from`.
    """
    asked, recipe, config, dataset = sitting.asked, sitting.recipe, sitting.config, sitting.dataset
    folder, runtime, watch = sitting.folder, sitting.runtime, sitting.record
    loader = make_loader(recipe, dataset, runtime)
    store = CheckpointStore(folder.checkpoints)
    checkpoint, damaged = _latest(store, runtime)  # before anything is written: there may be none that verifies
    changes = runtime.from_main(lambda: _claim(folder, asked, sitting.base, dataset, config))
    trainer, unread, settled = _assemble(sitting, loaded, loader, store, checkpoint)
    said = [*notes, *damaged, *unread]
    runtime.from_main(lambda: _begin(sitting, trainer, checkpoint, said, changes, settled))
    give_back_freed_blocks()  # what the data, or the measuring of rows, has left
    outlook = Outlook(recipe, config, dataset, folder, checkpoint, trainer)
    outlook.say(changes, watch)
    idle, begun = trainer.stopping.reason(trainer.progress) is not None, trainer.progress.step
    runtime.forget_peak_memory()
    with memory_errors(lambda: trainer.parts.micro_rows):
        stopped_by = trainer.run()
    taken = outlook.against(watch)
    end = functools.partial(end_run, folder, asked, trainer, stopped_by, idle, config, dataset.tokenizer, taken)
    result = runtime.from_main(end)
    return {**result, "new_steps": trainer.progress.step - begun} if runtime.is_main else {}


def _assemble(
    sitting: _Sitting,
    loaded: AnyModel | None,
    loader: Loader,
    store: CheckpointStore,
    checkpoint: Checkpoint | None,
) -> tuple[Trainer, list[str], list[str]]:
    """The trainer where the checkpoint left it; what could not be read on the way; what was settled for it, told.

    Args:
        loaded: the model of `model.from`.
    """
    runtime, folder, config = sitting.runtime, sitting.folder, sitting.config
    recipe, device, share_rows = sitting.recipe, runtime.device, loader.share_rows
    if device.type == "cuda" and reads_masks(recipe, config):
        avoid_broken_kernels(config.context_length)
    decisions = Decisions(recipe, folder, runtime, device_name(runtime), checkpoint)
    precision = decisions.take("precision", lambda: choose_precision(recipe, config, share_rows, device))
    known = decisions.known("micro_rows")
    settle = functools.partial(settle_recomputed, recipe, config, share_rows, device, precision, known)
    again, of_layers = runtime.from_main(settle)
    recipe = recomputing(recipe, again)
    check_one_row(recipe, config, device, precision)
    model, made = starting_model(recipe, loaded, config, device, precision)
    beside = runtime.from_main(lambda: made)  # of the base that all will have
    choose = functools.partial(choose_micro_rows, recipe, config, model, loader, device, precision)
    rows = decisions.take("micro_rows", choose)
    compiled, of_blocks = settle_blocks(decisions, recipe, model, loader, device, precision, rows)
    fewer_rows, unread = decisions.fewer_rows()
    if recipe.adapter is not None:  # so that its checkpoints can be used before it ends
        runtime.from_main(lambda: write_base(folder.path, sitting.asked, beside["base"]))
    identity = {**_identity(sitting.asked, recipe, runtime, model, compiled), **beside}
    parts = Parts(
        model=model,
        optimizer=make_optimizer(recipe.train.optimizer, model),
        loader=loader,
        runtime=runtime,
        store=store,
        precision=precision,
        scaler=make_scaler(precision, device),
        micro_rows=rows,
        emit=sitting.record,
        compiled=compiled,
        fewer_rows=fewer_rows,
        keep_rows=decisions.keep_rows,
        before_save=folder.sync,
        evaluate=evaluation_of(recipe, config, sitting.dataset, runtime, precision),
        evaluate_every=recipe.evaluate.every,
        sample=samples_of(sitting.asked, sitting.base, sitting.dataset.tokenizer),
        sample_every=recipe.sample.every,
        flops_per_step=flops_of(model, loader.batch_rows),
        peak_flops=peak_flops(device_name(runtime), precision),
        identity={**identity, "changed": changed(identity, checkpoint)},
    )
    trainer = Trainer(recipe.train, parts)
    if checkpoint is not None:
        same_base(checkpoint, beside)
        trainer.restore(checkpoint)
    return trainer, [*unread, *start_alike(runtime, model, checkpoint)], [of_layers, of_blocks]


def _begin(
    sitting: _Sitting,
    trainer: Trainer,
    checkpoint: Checkpoint | None,
    said: list[str],
    changes: list[str],
    settled: list[str],
) -> None:
    """Leaves the records at the step that the run goes on from, and says so."""
    folder, step = sitting.folder, trainer.progress.step
    seal_identity(folder.path)
    again = folder.last_step() - step
    say_before(
        trainer,
        sitting.record,
        [*said, *folder.rewind(step, evaluated=not trainer.unevaluated)],
        changes,
        again,
        settled,
    )
    say_where(checkpoint, trainer, sitting.record)


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
    unseal_identity(folder.path)  # a kill until it is sealed again must not make good files look altered
    chat, stop_ids = format_of(recipe, base), stop_ids_of(recipe, base, tokenizer)
    write_identity(folder, config, tokenizer, chat, stop_ids, settings_of(base))
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

    def look() -> tuple[tuple[int, str] | None, list[str]]:
        checkpoint, messages = store.latest()
        found.append(checkpoint)
        return (checkpoint.step, checkpoint.manifest) if checkpoint else None, messages

    told, messages = runtime.from_main(look)
    return found[0] if found else None if told is None else store.same(*told), messages
