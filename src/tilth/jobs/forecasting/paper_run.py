"""A run on paper: what its recipe makes of it is executed without numbers or memory, and what that takes is counted.

    figures(run) -> Figures        memory and work of a step and of an evaluation (training/footprint.py)
    waiting_bytes(recipe, rows)    of the batches that a loader holds

A footprint is kept by all that it follows from (training/known.py): what decides one and lies elsewhere must be in the
facts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch

from tilth.core.environment import Precision
from tilth.data.batches.batch import Batch
from tilth.data.batches.feed import Feed
from tilth.evaluation.evaluator import piece_rows, piece_sums
from tilth.jobs.around import put_around
from tilth.jobs.batches import prefetch_of
from tilth.jobs.blocks import stays_plain
from tilth.jobs.recipe import Recipe
from tilth.model.adapters import matrices
from tilth.model.compiled import layers_on_paper
from tilth.model.config import ModelConfig
from tilth.model.transformer import Transformer
from tilth.model.unread import build_unread
from tilth.model.wrapped import AnyConfig, AnyModel, empty_model
from tilth.model.wrapped_config import WrappedConfig
from tilth.training.footprint import Desk, Plan
from tilth.training.known import Figures, known

_OF_NO_SHAPE = {"steps", "tokens", "epochs", "hours", "seed", "schedule", "checkpoint", "price_per_hour", "memory"}


class NoForecastError(Exception):
    """A class of transformers' that cannot be run on paper: some go by the numbers that they compute with. A run of it
    begins without."""


@dataclass(frozen=True, slots=True)
class PaperRun:
    """A run as it was chosen: `rows` of a process's share, `micro_rows` of them at once, tokens that are held out."""

    recipe: Recipe
    config: AnyConfig
    micro_rows: int
    rows: int
    held_out: int
    device: torch.device
    precision: Precision

    @property
    def compiles(self) -> bool | Literal["auto"]:
        """`train.compile`, or False where the layers stay plain whatever it says."""
        asked = self.recipe.train.compile
        return asked if asked and stays_plain(self.recipe, self.config, self.device) is None else False

    @property
    def compiled(self) -> bool:
        """Whether its layers run compiled on paper, as they will; what `auto` will come to is not known."""
        return self.compiles is True


def figures(run: PaperRun, desk: Desk | None = None) -> Figures:
    """Of the run's footprint, by all that it follows from."""
    recipe, config, device = run.recipe, run.config, run.device
    micro_rows = min(run.micro_rows, run.rows)
    evaluated = max(1, min(recipe.evaluate.batch_tokens, run.held_out) // config.context_length)
    plan = Plan(
        partial(_model, run),
        lambda: Feed.of(_batch(recipe, micro_rows), device),
        recipe.train,
        run.precision,
        device,
        run.rows > micro_rows,
        (lambda model: _evaluate(model, Feed.of(_batch(recipe, evaluated), device), run.precision))
        if run.held_out
        else None,
    )
    facts: dict[str, Any] = {
        "model": config.model_dump(mode="json"),
        "adapter": None if recipe.adapter is None else recipe.adapter.model_dump(mode="json"),
        "train": recipe.train.model_dump(mode="json", exclude=_OF_NO_SHAPE),
        "batch": [micro_rows, recipe.model.context_length, recipe.keeps_documents_apart, plan.accumulates],
        "evaluated": evaluated if run.held_out else 0,
        "in": [run.precision, device.type],
        "compiled": run.compiled,
    }
    if not isinstance(config, WrappedConfig) and device.type == "cpu":
        return known(facts, lambda: (desk or Desk()).footprint(plan))
    facts["of"] = version("transformers")
    logger = logging.getLogger("torch._subclasses.fake_tensor")  # it tells of each failure, with its traceback
    logger.disabled, before = True, logger.disabled
    try:
        return known(facts, lambda: (desk or Desk()).footprint(plan))
    except Exception as error:  # whatever their code does with numbers that are not there
        what = f"{config.architecture} of transformers'" if isinstance(config, WrappedConfig) else "the model"
        raise NoForecastError(
            f"{what} cannot be run without numbers on {device.type}, so there is no forecast"
        ) from error
    finally:
        logger.disabled = before


def _model(run: PaperRun) -> AnyModel:
    recipe = run.recipe
    if recipe.adapter is not None and isinstance(run.config, ModelConfig):  # as jobs/start.py loads it
        model: AnyModel = build_unread(run.config, run.device, matrices, lambda name, target: None)
    else:
        model = empty_model(run.config, run.device)
    put_around(model, recipe, run.precision)
    if run.compiled:
        assert isinstance(model, Transformer)
        layers_on_paper(model)
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
    apart = recipe.keeps_documents_apart
    doc_ids = np.ones((rows, length), np.int32) if apart else None
    positions = np.zeros((rows, length), np.int64) if apart else None
    return Batch(ids, ids, ids[:, 0], doc_ids, positions, not recipe.train.traits.looks_both_ways)


def waiting_bytes(recipe: Recipe, rows: int) -> int:
    """Bytes of the batches that the loader holds ready, the one at work and the one in the making."""
    batches, token = prefetch_of(recipe) + 2, 8 + 8 + (12 if recipe.keeps_documents_apart else 0)
    return batches * rows * recipe.model.context_length * token
