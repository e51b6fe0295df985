"""The job behind `tilth train`: a recipe and a dataset to a run folder with a model in it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tilth.checkpoint.store import Checkpoint, CheckpointStore
from tilth.core.config import fingerprint
from tilth.core.environment import Precision, fingerprint_environment, peak_flops
from tilth.core.errors import CheckpointError, IntegrityError, RecipeError
from tilth.core.files import read_json, write_json
from tilth.core.rundir import Event, Message, RunFolder
from tilth.data.dataset import Dataset
from tilth.data.loader import Loader
from tilth.data.mixture import Mixture
from tilth.data.shards import TokenStream
from tilth.distributed.runtime import Runtime, start
from tilth.evaluate.evaluator import evaluate
from tilth.jobs.base import Base, find_base, with_base
from tilth.jobs.chats import format_of, stop_ids_of
from tilth.jobs.final import Adapted, choose_weights, standing_final, write_final, write_identity
from tilth.jobs.forecast_run import RunForecast, Watch, run_forecast
from tilth.jobs.mixing import say_mixture, seen, tokens_of, training_tokens
from tilth.jobs.objectives import Reading, counted_bytes, epoch_tokens, held_out_pass, masker_of, training_sampler
from tilth.jobs.recipe import Recipe
from tilth.jobs.report import write_report
from tilth.jobs.room import check_room, memory_errors
from tilth.jobs.runs import dataset_facts, reading_habits, stored_recipe
from tilth.jobs.samples import samples_of
from tilth.jobs.start import check_files, same_base, starting_model, write_base
from tilth.model.config import ModelConfig, flops_per_token
from tilth.model.precision import make_scaler, resolve_precision
from tilth.model.wrapped import AnyConfig, AnyModel, WrappedModel
from tilth.tokenizer import Tokenizer
from tilth.train.optim import make_optimizer
from tilth.train.stopping import Stopping
from tilth.train.trainer import Parts, Trainer, saved_weights

Emit = Callable[[Event], None]


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
    loader = _make_loader(recipe, dataset, runtime)
    changes = runtime.from_main(lambda: _claim(folder, asked, base, dataset, model_config))
    store = CheckpointStore(folder.checkpoints)
    checkpoint, warnings = _latest(store, runtime)
    decisions = _decisions(recipe, model_config, folder, loader, runtime, checkpoint)
    model, beside = starting_model(recipe, base, model_config, runtime.device, decisions["precision"])
    parts = _build(recipe, model_config, model, dataset, loader, runtime, store, decisions, record)
    parts.before_save, parts.sample = folder.sync, samples_of(asked, base, dataset.tokenizer)
    if recipe.adapter is not None:  # so that its checkpoints can be used before it ends
        runtime.from_main(lambda: write_base(folder.path, asked, beside["base"]))
    also = ["transformers"] if isinstance(model, WrappedModel) else []  # it computes here
    parts.identity = {
        "recipe": fingerprint(asked.plain()),
        "environment": fingerprint_environment(torch.get_num_threads(), _device_name(runtime), also),
        "world_size": runtime.world_size,
        "asked": _asked(recipe),
        **beside,
    }
    parts.identity["changed"] = _changed(parts.identity, checkpoint)
    trainer = Trainer(recipe.train, parts)
    if checkpoint is not None:
        same_base(checkpoint, beside)
        trainer.restore(checkpoint)

    def begin() -> None:
        again = folder.last_step() - trainer.progress.step
        said = [*notes, *warnings, *folder.rewind(trainer.progress.step)]
        _say_before(trainer, record, said, changes, again)
        _say_where(checkpoint, trainer, record)

    runtime.from_main(begin)
    forecast = _forecast(recipe, model_config, trainer, record) if runtime.is_main else None
    idle = trainer.stopping.reason(trainer.progress) is not None
    with memory_errors(parts.micro_rows):
        stopped_by = trainer.run()
    price, peak = recipe.train.price_per_hour, runtime.peak_memory_bytes()  # writing what comes now is no part of it
    taken = None if forecast is None else watch.against(forecast, peak, price)
    result = runtime.from_main(
        lambda: _end(folder, asked, trainer, stopped_by, idle, model_config, dataset.tokenizer, taken)
    )
    return result if runtime.is_main else {}


def _forecast(recipe: Recipe, config: AnyConfig, trainer: Trainer, record: Emit) -> RunForecast | None:
    """What the steps that are left should take, said; None where there are none, or the class is transformers'."""
    parts, step, total = trainer.parts, trainer.progress.step, trainer.stopping.total_steps
    if trainer.stopping.reason(trainer.progress) or not isinstance(config, ModelConfig):
        return None
    rows = -(-parts.loader.batch_rows // parts.runtime.world_size)
    found = run_forecast(
        recipe,
        config,
        parts.micro_rows,
        parts.runtime.device,
        precision=parts.precision,
        rows=rows,
        steps=None if total is None else total - step,
    )
    record(Message(step, "info", found.words()))
    return found


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


def complete_model(config: AnyConfig, tokenizer: Tokenizer, *, grows: bool = False) -> AnyConfig:
    """The model's configuration with the vocabulary known; RecipeError when it is too small for the tokenizer, unless
    it grows with it (a checkpoint's, to whose tokenizer the recipe adds tokens).
    """
    if config.vocab_size is None or (grows and config.vocab_size < tokenizer.vocab_size):
        return config.model_copy(update={"vocab_size": tokenizer.vocab_size})
    if config.vocab_size < tokenizer.vocab_size:
        raise RecipeError(
            f"model.vocab_size is {config.vocab_size}, and the tokenizer has {tokenizer.vocab_size} ids",
            "leave model.vocab_size out: it is then the tokenizer's",
        )
    return config


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


def _make_loader(recipe: Recipe, dataset: Dataset, runtime: Runtime) -> Loader:
    """The loader; an error when text, context and batch do not fit comes here, before the run folder is claimed."""
    stream, context = training_tokens(recipe, dataset), recipe.model.context_length
    rows, full = batch_rows(recipe, stream), recipe.train.batch_tokens == "all"
    if rows < runtime.world_size:
        longer = "give more text" if full else f"set train.batch_tokens to {runtime.world_size * context} or more"
        raise RecipeError(
            f"train.batch_tokens {recipe.train.batch_tokens} gives {rows} row{'s' if rows > 1 else ''} of "
            f"{context} tokens, fewer than the {runtime.world_size} processes that share them",
            f"start {rows} process{'es' if rows > 1 else ''} at most, or {longer}",
        )
    return Loader(
        training_sampler(recipe, dataset),
        rows,
        rank=runtime.rank,
        world_size=runtime.world_size,
        fingerprint=dataset.fingerprint,
        masker=masker_of(recipe, dataset),
        prefetch=1 if full else 4,
    )


def _build(
    recipe: Recipe,
    config: AnyConfig,
    model: AnyModel,
    dataset: Dataset,
    loader: Loader,
    runtime: Runtime,
    store: CheckpointStore,
    decisions: dict[str, Any],
    record: Emit,
) -> Parts:
    train, rows = recipe.train, loader.batch_rows
    precision: Precision = decisions["precision"]
    return Parts(
        model=model,
        optimizer=make_optimizer(train.optimizer, model),
        loader=loader,
        runtime=runtime,
        store=store,
        precision=precision,
        scaler=make_scaler(precision, runtime.device),
        micro_rows=decisions["micro_rows"],
        emit=record,
        evaluate=_evaluation(recipe, config, dataset, runtime, precision),
        evaluate_every=recipe.evaluate.every,
        sample_every=recipe.sample.every,
        flops_per_step=_flops(config, rows),
        peak_flops=peak_flops(_device_name(runtime), precision),
    )


def _flops(config: AnyConfig, rows: int) -> float | None:
    """Of a step; None for a class of transformers', of which it is not known what it computes."""
    return flops_per_token(config) * rows * config.context_length if isinstance(config, ModelConfig) else None


def batch_rows(recipe: Recipe, stream: TokenStream | Mixture) -> int:
    """Rows of the global batch."""
    context, batch = recipe.model.context_length, recipe.train.batch_tokens
    return max(1, tokens_of(stream) // context) if batch == "all" else batch // context


def planned_steps(recipe: Recipe, dataset: Dataset) -> int | None:
    """How many steps the run takes at most, or None when only the clock or a metric ends it."""
    rows = batch_rows(recipe, training_tokens(recipe, dataset))
    return Stopping(recipe.train, rows * recipe.model.context_length, epoch_tokens(recipe, dataset)).total_steps


def _decisions(
    recipe: Recipe,
    config: AnyConfig,
    folder: RunFolder,
    loader: Loader,
    runtime: Runtime,
    checkpoint: Checkpoint | None,
) -> dict[str, Any]:
    """Micro-batch and precision: measured once, by process 0, and written down before the first step.

    A run that is killed and begins anew must not measure, and perhaps decide, otherwise.
    """
    kept = _kept_decisions(recipe, checkpoint)
    if kept.keys() == _ASKED_BY.keys():
        return kept

    def make() -> dict[str, Any]:
        rows = kept.get("micro_rows")
        if rows is None:
            rows = choose_micro_rows(recipe, config, -(-loader.batch_rows // runtime.world_size), runtime.device)
        precision, shape = kept.get("precision"), (rows * config.context_length, config.hidden_size, config.mlp_size)
        if precision is None:
            precision = resolve_precision(recipe.train.precision, runtime.device, *shape)
        return {"micro_rows": rows, "precision": precision}

    key = fingerprint([recipe.plain(), runtime.world_size, _device_name(runtime), kept])
    return runtime.from_main(lambda: folder.decide(key, make))


_ASKED_BY = {"micro_rows": "micro_batch", "precision": "precision"}
"""What is decided at the start, and the key of the recipe that asks for it."""
_ROUNDING = ("device", "micro_batch", "precision")
_LIMITS = ("steps", "tokens", "epochs", "hours", "early_stopping", "convergence")


def _asked(recipe: Recipe) -> dict[str, Any]:
    """What may change while a run goes on, and does so to its weights: kept with every checkpoint."""
    plain = recipe.plain()
    asked = {key: plain["train"][key] for key in (*_ROUNDING, *_LIMITS)}
    if recipe.train.early_stopping:  # it counts evaluations
        asked["early_stopping"]["every"] = recipe.evaluate.every
    return asked


def _kept_decisions(recipe: Recipe, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """The decisions of a checkpoint that the recipe has not opened again: by asking for something else, or for `auto`
    on another device.
    """
    if checkpoint is None:
        return {}
    state, now = checkpoint.state(), _asked(recipe)
    before = state["identity"].get("asked", now)
    moved = before["device"] != now["device"]
    kept = {}
    for decision, key in _ASKED_BY.items():
        if before[key] == now[key] and not (moved and now[key] == "auto"):
            kept[decision] = state[decision]
    return kept


def choose_micro_rows(recipe: Recipe, config: AnyConfig, share: int, device: torch.device) -> int:
    """Rows that go through the model at once: the recipe's, or as many as keep activations within a bound.

    `auto` bounds them to 1 GiB (larger micro-batches gain nothing on a CPU), on CUDA to a quarter of its memory.
    The logits do not count: they are never held whole.
    """
    if isinstance(recipe.train.micro_batch, int):
        return min(recipe.train.micro_batch, share)
    bound = 1 << 30
    if device.type == "cuda":
        bound = torch.cuda.get_device_properties(device).total_memory // 4
    width = 14 * config.hidden_size + 3 * config.mlp_size
    row_bytes = config.context_length * config.num_hidden_layers * width * 4
    return max(1, min(share, bound // row_bytes))


def _device_name(runtime: Runtime) -> str:
    if runtime.device.type == "cuda":
        return torch.cuda.get_device_name(runtime.device)
    return runtime.device.type


def _evaluation(
    recipe: Recipe, config: AnyConfig, dataset: Dataset, runtime: Runtime, precision: Precision
) -> Callable[[AnyModel], dict[str, float]] | None:
    stream = dataset.stream("validation")
    if not stream.tokens:
        return None
    reading = Reading.of(reading_habits(recipe), config.context_length)
    rows, size = max(1, recipe.evaluate.batch_tokens // config.context_length), counted_bytes(reading, stream)

    def run(model: AnyModel) -> dict[str, float]:
        batches = held_out_pass(reading, stream, dataset.tokenizer, rows)
        return evaluate(model, batches, size, runtime, precision).plain()

    return run


def _changed(now: dict[str, Any], checkpoint: Checkpoint | None) -> list[str]:
    """What has changed since the run began, now or on an earlier going on: `rounding`, `limits`."""
    if checkpoint is None:
        return []
    before = checkpoint.state()["identity"]
    found, asked = set(before.get("changed", [])), before.get("asked", now["asked"])
    if before["environment"] != now["environment"] or before["world_size"] != now["world_size"]:
        found.add("rounding")
    for kind, keys in (("rounding", _ROUNDING), ("limits", _LIMITS)):
        if any(asked[key] != now["asked"][key] for key in keys):
            found.add(kind)
    return sorted(found)


def _tier(trainer: Trainer) -> str:
    """What can be promised of a run that goes on (docs/architecture.md, Determinism)."""
    changed = trainer.parts.identity["changed"]
    if trainer.stopping.by_the_clock:
        return "the clock ends this run, so no two are equal"
    if "limits" in changed:
        return (
            "its limits changed on the way, and the schedule is planned by them: no run from the start is equal to it"
        )
    if changed or trainer.parts.runtime.device.type != "cpu":  # on other devices more has not been shown
        return (
            "tier T1 (other machine, versions, threads, processes, micro-batch, device or precision): "
            "same samples, other rounding"
        )
    return "tier T0 (same machine kind, versions and threads): to the bits of a run that was not stopped"


def _say_before(trainer: Trainer, record: Emit, warnings: list[str], changes: list[str], again: int) -> None:
    step, total = trainer.progress.step, trainer.stopping.total_steps
    for warning in warnings:
        record(Message(step, "warning", warning))
    for change in changes:
        record(Message(step, "info", f"the recipe changed: {change}"))
    if again > 0:
        record(Message(step, "info", f"{again} recorded steps came after the last checkpoint: they are done again"))
    warmup = trainer.config.schedule.warmup(total)
    if total is not None and warmup >= total:
        longer = "longer than" if warmup > total else "as long as"
        text = f"the warm-up of {warmup} steps is {longer} the run of {total}: the rate never reaches its peak"
        record(Message(step, "warning", f"{text}; train.schedule.warmup_steps sets it"))


def _say_where(checkpoint: Checkpoint | None, trainer: Trainer, record: Emit) -> None:
    parts, step = trainer.parts, trainer.progress.step
    if over := trainer.stopping.reason(trainer.progress):
        record(Message(step, "info", f"done: the run ended at step {step} (train.{over}); a longer one would go on"))
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


def _end(
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
    if facts is None:
        theirs = parts.model if isinstance(parts.model, WrappedModel) else None
        weights = choose_weights(asked, progress, saved_weights(parts.model), parts.store)
        if weights.warning:
            parts.emit(Message(progress.step, "warning", weights.warning))
        facts = write_final(folder, recipe, progress.step, weights, config, tokenizer, adapted(recipe, parts), theirs)
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
    if mixture := seen(parts.loader.sampler, parts.loader.samples):
        result["mixture"] = mixture
    kept = {**result, "validation": validation, "weights": {"kind": facts["weights"], "step": facts["step"]}}
    if not (stands and _is_kept(folder, kept)):
        write_json(folder.path / "result.json", {**kept, "process": os.getpid()})
        write_report(folder.path)
    return result


def adapted(recipe: Recipe, parts: Parts) -> Adapted | None:
    """What the final model is beside, where it is an adapter."""
    if recipe.adapter is None:
        return None
    fingerprint = str(parts.identity["base"])
    return Adapted(parts.model, fingerprint, lambda folder: write_base(folder, recipe, fingerprint))


def _is_kept(folder: RunFolder, result: dict[str, Any]) -> bool:
    """Whether result and report of an earlier end say the same."""
    try:
        before = read_json(folder.path / "result.json")
    except IntegrityError:
        return False
    own = {"process": None, "forecast": None}  # of who did the steps
    same = isinstance(before, dict) and {**before, **own} == {**result, **own}
    return same and (folder.path / "report.html").exists()
