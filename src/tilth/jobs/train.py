"""The job behind `tilth train`: a recipe and a dataset to a run folder with a model in it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tilth.checkpoint.store import Checkpoint, CheckpointStore
from tilth.core.config import fingerprint
from tilth.core.environment import Precision, fingerprint_environment, peak_bf16_flops
from tilth.core.errors import RecipeError
from tilth.core.files import remove_leftovers, write_json
from tilth.core.rundir import Event, Message, RunFolder, SampleRecord
from tilth.data.dataset import Dataset
from tilth.data.loader import Loader, evaluation_batches
from tilth.data.mixture import Mixture
from tilth.data.shards import TokenStream
from tilth.distributed.runtime import Runtime, start
from tilth.evaluate.evaluator import evaluate
from tilth.generate.text import TextOptions, generate_texts
from tilth.jobs.final import write_final, write_identity
from tilth.jobs.mixing import say_mixture, seen, tokens_of, training_tokens
from tilth.jobs.recipe import Recipe
from tilth.jobs.report import write_report
from tilth.model.config import ModelConfig, flops_per_token
from tilth.model.precision import make_scaler, resolve_precision
from tilth.model.transformer import Transformer, build
from tilth.tokenizer import Tokenizer
from tilth.train.optim import make_optimizer
from tilth.train.stopping import Stopping
from tilth.train.trainer import Parts, Trainer

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
    runtime = start(recipe.train.device)
    folder = RunFolder(run)
    try:
        if not runtime.is_main:
            return _train(recipe, dataset, folder, runtime, _ignore, ())
        with folder.lock(), dataset.held():
            remove_leftovers(folder.path)
            return _train(recipe, dataset, folder, runtime, emit or _ignore, notes)
    finally:
        runtime.stop()


def _ignore(event: Event) -> None:
    """Events of a run that nobody watches, or of a process that does not speak."""
    del event


def _train(
    recipe: Recipe, dataset: Dataset, folder: RunFolder, runtime: Runtime, show: Emit, notes: Sequence[str]
) -> dict[str, Any]:
    model_config = complete_model(recipe.model, dataset.tokenizer)
    loader = _make_loader(recipe, dataset, runtime)
    record = functools.partial(_record, folder, show) if runtime.is_main else _ignore
    store = CheckpointStore(folder.checkpoints)
    if runtime.is_main:
        changes = folder.claim(recipe.plain(), {"folder": str(dataset.folder), "fingerprint": dataset.fingerprint})
        write_identity(folder, model_config, dataset.tokenizer)
    checkpoint, warnings = _latest(store, runtime)
    environment = fingerprint_environment(torch.get_num_threads(), _device_name(runtime))
    decisions = _decisions(recipe, model_config, folder, loader, runtime, checkpoint)
    parts = _build(recipe, model_config, dataset, loader, runtime, store, decisions, record)
    parts.before_save = folder.sync
    if checkpoint is None:
        parts.model.initialise(recipe.train.seed)
    parts.identity = {
        "recipe": fingerprint(recipe.plain()),
        "environment": environment,
        "world_size": runtime.world_size,
    }
    trainer = Trainer(recipe.train, parts)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    if runtime.is_main:
        folder.rewind(trainer.progress.step)
        for warning in (*notes, *warnings):
            record(Message(trainer.progress.step, "warning", warning))
        for change in changes:
            record(Message(trainer.progress.step, "info", f"the recipe changed: {change}"))
        _say_where(checkpoint, trainer, record)
    stopped_by = trainer.run()
    if not runtime.is_main:
        return {}
    write_final(folder, recipe, model_config, dataset.tokenizer, parts.model, store)
    result = _finish(folder, trainer, stopped_by)
    write_report(folder.path)
    return result


def complete_model(config: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The model's configuration with the vocabulary known; RecipeError when it is too small for the tokenizer."""
    if config.vocab_size is None:
        return config.model_copy(update={"vocab_size": tokenizer.vocab_size})
    if config.vocab_size < tokenizer.vocab_size:
        raise RecipeError(
            f"model.vocab_size is {config.vocab_size}, and the tokenizer has {tokenizer.vocab_size} ids",
            "leave model.vocab_size out: it is then the tokenizer's",
        )
    return config


def _latest(store: CheckpointStore, runtime: Runtime) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint to go on from, and a line on each damaged one; process 0 sets these aside before others look."""
    found = store.latest() if runtime.is_main else None
    runtime.barrier()
    return found or store.latest()


def _record(folder: RunFolder, show: Emit, event: Event) -> None:
    folder.record(event)
    show(event)


def _make_loader(recipe: Recipe, dataset: Dataset, runtime: Runtime) -> Loader:
    """The loader; an error when text, context and batch do not fit comes here, before the run folder is claimed."""
    stream, context = training_tokens(recipe, dataset), recipe.model.context_length
    rows, full = batch_rows(recipe, stream), recipe.train.batch_tokens == "all"
    if rows % runtime.world_size:
        raise RecipeError(
            f"train.batch_tokens gives {rows} rows, which {runtime.world_size} processes cannot share",
            f"make train.batch_tokens a multiple of {runtime.world_size * context}",
        )
    return Loader(
        stream,
        context,
        rows,
        recipe.train.seed,
        rank=runtime.rank,
        world_size=runtime.world_size,
        isolate=not recipe.data.cross_document_attention,
        fingerprint=dataset.fingerprint,
        same_windows=full,
        prefetch=1 if full else 4,
    )


def _build(
    recipe: Recipe,
    config: ModelConfig,
    dataset: Dataset,
    loader: Loader,
    runtime: Runtime,
    store: CheckpointStore,
    decisions: dict[str, Any],
    record: Emit,
) -> Parts:
    train, rows = recipe.train, loader.batch_rows
    precision: Precision = decisions["precision"]
    model = build(config, None, runtime.device)
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
        sample=functools.partial(_samples, recipe, dataset.tokenizer),
        sample_every=recipe.sample.every,
        flops_per_step=flops_per_token(config) * rows * config.context_length,
        peak_flops=_peak(runtime),
    )


def batch_rows(recipe: Recipe, stream: TokenStream | Mixture) -> int:
    """Rows of the global batch."""
    context, batch = recipe.model.context_length, recipe.train.batch_tokens
    return max(1, tokens_of(stream) // context) if batch == "all" else batch // context


def planned_steps(recipe: Recipe, dataset: Dataset) -> int | None:
    """How many steps the run takes at most, or None when only the clock or a metric ends it."""
    stream, context = training_tokens(recipe, dataset), recipe.model.context_length
    epoch_tokens = max(1, tokens_of(stream) // context) * context
    return Stopping(recipe.train, batch_rows(recipe, stream) * context, epoch_tokens).total_steps


def _decisions(
    recipe: Recipe,
    config: ModelConfig,
    folder: RunFolder,
    loader: Loader,
    runtime: Runtime,
    checkpoint: Checkpoint | None,
) -> dict[str, Any]:
    """Micro-batch and precision: measured once, by process 0, and written down before the first step.

    A run that is killed and begins anew must not measure, and perhaps decide, otherwise.
    """
    if checkpoint is not None:
        state = checkpoint.state()
        return {key: state[key] for key in ("micro_rows", "precision")}

    def make() -> dict[str, Any]:
        rows = choose_micro_rows(recipe, config, loader.batch_rows // runtime.world_size, runtime.device)
        shape = (rows * config.context_length, config.hidden_size, config.mlp_size)
        return {"micro_rows": rows, "precision": resolve_precision(recipe.train.precision, runtime.device, *shape)}

    key = fingerprint([recipe.plain(), runtime.world_size, _device_name(runtime)])
    if runtime.is_main:
        folder.decide(key, make)
    runtime.barrier()
    return folder.decide(key, make)


def choose_micro_rows(recipe: Recipe, config: ModelConfig, share: int, device: torch.device) -> int:
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


def _peak(runtime: Runtime) -> float | None:
    if runtime.device.type != "cuda":
        return None
    return peak_bf16_flops(torch.cuda.get_device_name(runtime.device))


def _evaluation(
    recipe: Recipe, config: ModelConfig, dataset: Dataset, runtime: Runtime, precision: Precision
) -> Callable[[Transformer], dict[str, float]] | None:
    stream = dataset.stream("validation")
    if not stream.tokens:
        return None
    rows = max(1, recipe.evaluate.batch_tokens // config.context_length)
    end, isolate = dataset.tokenizer.end_of_text, not recipe.data.cross_document_attention

    def run(model: Transformer) -> dict[str, float]:
        batches = evaluation_batches(stream, config.context_length, rows, end, isolate)
        return asdict(evaluate(model, batches, stream.text_bytes, runtime, precision))

    return run


def _samples(recipe: Recipe, tokenizer: Tokenizer, model: Transformer, step: int) -> list[Event]:
    options = TextOptions(max_new_tokens=recipe.sample.max_new_tokens, sampling=recipe.sample)
    events: list[Event] = []
    for prompt in recipe.sample.prompts:
        text = generate_texts(model, tokenizer, prompt, options)[0]
        events.append(SampleRecord(step, prompt, text))
    return events


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
    before, now = checkpoint.state()["identity"], parts.identity
    same = before["environment"] == now["environment"] and before["world_size"] == now["world_size"]
    same = same and parts.runtime.device.type == "cpu"  # elsewhere it has not been shown
    tier = "same machine kind, versions and threads: to the bits of a run that was not stopped"
    if not same:
        tier = "other machine, versions, threads or processes: same samples, other rounding"
    if trainer.stopping.by_the_clock:
        tier = "the clock ends this run, so no two are equal"
    record(Message(step, "info", f"going on after step {step}: {text}; {tier}"))


def _finish(folder: RunFolder, trainer: Trainer, stopped_by: str) -> dict[str, Any]:
    progress = trainer.progress
    # What is told is told of the weights that became RUN/final.
    best = trainer.config.final == "best"
    validation = progress.best_validation if best else progress.last_validation
    result = {
        "run": str(folder.path),
        "step": progress.step,
        "tokens": progress.tokens,
        "train_loss": progress.last_loss,
        "validation_loss": validation["loss"] if validation else None,
        "seconds": round(progress.seconds, 3),
        "stopped_by": stopped_by,
        "checkpoint": str(folder.checkpoints / f"step-{progress.step:08d}"),
    }
    if mixture := seen(trainer.parts.loader.sampler, trainer.parts.loader.samples):
        result["mixture"] = mixture
    write_json(folder.path / "result.json", {**result, "validation": validation, "process": os.getpid()})
    return result
