"""What a run will take, before it begins: memory by part, from the recipe and shapes alone.

    memory_forecast(recipe, config, micro_rows, device) -> MemoryForecast

The run's own code is executed on paper (train/meter.py). What that does not see is added here: the process itself,
batches that wait, and what the allocator cannot give back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from tilth.core.environment import Precision
from tilth.data.batch import Batch
from tilth.data.feed import Feed
from tilth.evaluate.evaluator import piece_rows, piece_sums
from tilth.jobs.objectives import packing_of
from tilth.jobs.recipe import Recipe
from tilth.model.adapters import apply_adapter
from tilth.model.config import ModelConfig
from tilth.model.freezing import freeze
from tilth.model.precision import DTYPES
from tilth.model.recompute import recompute_layers
from tilth.model.transformer import Transformer
from tilth.model.wrapped import AnyModel
from tilth.train.footprint import Footprint, Plan, footprint
from tilth.train.meter import Peak

PROCESS = 370 << 20
"""A process of Python with torch and tilth loaded and a step done, before it has a model (Linux, torch 2.13)."""


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
    when: str


def memory_forecast(
    recipe: Recipe,
    config: ModelConfig,
    micro_rows: int,
    device: torch.device,
    *,
    precision: Precision | None = None,
    rows: int | None = None,
) -> MemoryForecast:
    """The peak of a run with so many rows at once.

    Args:
        recipe: with the shape filled in.
        config: with the vocabulary known.
        precision: what `auto` came to; left out: the recipe's, and fp32 for `auto`.
        rows: of a process's share of the batch; left out: by train.batch_tokens.
    """
    rows = rows or _rows(recipe, micro_rows)
    found = run_footprint(recipe, config, min(micro_rows, rows), device, precision or _precision(recipe), rows)
    peaks = {"step": found.step, "evaluation": found.evaluation or Peak()}
    when = max(peaks, key=lambda name: peaks[name].total)
    parts = {name: size for name, size in peaks[when].parts.items() if size}
    parts["batches"] = parts.pop("batch", 0) + _waiting(recipe, rows)
    if device.type == "cpu":
        parts["process"] = PROCESS
    return MemoryForecast(sum(parts.values()), parts, when)


def _precision(recipe: Recipe) -> Precision:
    return "fp32" if recipe.train.precision == "auto" else recipe.train.precision


def _rows(recipe: Recipe, micro_rows: int) -> int:
    batch = recipe.train.batch_tokens
    return micro_rows if batch == "all" else max(1, batch // recipe.model.context_length)


def run_footprint(
    recipe: Recipe, config: ModelConfig, micro_rows: int, device: torch.device, precision: Precision, rows: int
) -> Footprint:
    """The footprint of a recipe's run; arguments as of `memory_forecast`, all known."""
    held_out = bool(recipe.data.split.validation)
    evaluated = max(1, recipe.evaluate.batch_tokens // config.context_length)
    return footprint(
        Plan(
            partial(_model, recipe, config, precision, device),
            lambda: Feed.of(_batch(recipe, micro_rows), device),
            recipe.train,
            precision,
            device,
            rows > micro_rows,
            (lambda model: _evaluate(model, Feed.of(_batch(recipe, evaluated), device), precision))
            if held_out
            else None,
        )
    )


def _model(recipe: Recipe, config: ModelConfig, precision: Precision, device: torch.device) -> AnyModel:
    with device:
        model = Transformer(config)
    if recipe.adapter is not None:
        apply_adapter(model, recipe.adapter, recipe.train.seed, dtype=DTYPES.get(precision))
    if recipe.train.freeze:
        freeze(model, recipe.train.freeze)
    if recipe.train.activation_checkpointing == "full":
        recompute_layers(model)
    return model


def _evaluate(model: AnyModel, feed: Feed, precision: Precision) -> None:
    """One batch of an evaluation, with one of its pieces of logits: all are alike."""
    hidden_RD, labels_R = feed.hidden(model, precision).flatten(0, 1), feed.labels.flatten()
    rows = piece_rows(model)
    piece_sums(model, hidden_RD[:rows], labels_R[:rows], precision)


def _batch(recipe: Recipe, rows: int) -> Batch:
    """Rows as this recipe's are, of nothing."""
    length = recipe.model.context_length
    ids = np.zeros((rows, length), np.int64)
    apart = packing_of(recipe) is not None or not recipe.data.cross_document_attention
    doc_ids = np.ones((rows, length), np.int32) if apart else None
    positions = np.zeros((rows, length), np.int64) if apart else None
    return Batch(ids, ids, ids[:, 0], doc_ids, positions, recipe.train.objective != "masked_lm")


def _waiting(recipe: Recipe, rows: int) -> int:
    """Bytes of the batches that the loader holds ready, the one at work and the one in the making."""
    apart = packing_of(recipe) is not None or not recipe.data.cross_document_attention
    ahead = 1 if recipe.train.batch_tokens == "all" else 4
    return (ahead + 2) * rows * recipe.model.context_length * (8 + 8 + (12 if apart else 0))
