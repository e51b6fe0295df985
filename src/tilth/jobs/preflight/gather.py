"""All facts of a recipe and its dataset, in one pass over the tokens; every part of the run is tried on the way.

    gather_facts(recipe, dataset, base) -> (Facts, Sampler | None)

What a part refuses is a fact like any other (`Refusal`), so that all that is wrong is told at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tilth.core.errors import TilthError
from tilth.data.batches.order import Sampler
from tilth.data.dataset import Dataset
from tilth.data.leaks.exam_files import in_dataset
from tilth.data.naming import with_numbers
from tilth.distributed.runtime import pick_device
from tilth.jobs.base import Base, with_base
from tilth.jobs.batches import batch_rows
from tilth.jobs.forecasting.room import check_room, parameters_of
from tilth.jobs.mixing import training_tokens
from tilth.jobs.objectives import (
    Reading,
    epoch_tokens,
    held_out_pass,
    masker_of,
    packing_of,
    reads_the_border,
    training_sampler,
)
from tilth.jobs.parts import complete_model
from tilth.jobs.preflight.facts import Facts, Refusal
from tilth.jobs.preflight.held_out import leak_facts
from tilth.jobs.preflight.memory import ModelFacts, model_facts
from tilth.jobs.preflight.named import named_rows
from tilth.jobs.preflight.run import RowFacts, RunFacts, row_facts, run_facts
from tilth.jobs.preflight.spelled import spelled_facts
from tilth.jobs.preflight.tokens import SplitFacts, read_split
from tilth.jobs.preflight.vocabulary import ends_of, vocabulary_facts
from tilth.jobs.recipe import Recipe
from tilth.jobs.runs import reading_habits
from tilth.tokenizer import Tokenizer

ResultT = TypeVar("ResultT")

_MOST, _MOST_LAYERS = 10**12, 10**4
"""Parameters and layers of a model that is counted although it does not fit: laying out more takes for ever, and torch
has no numbers for their bytes.
"""


class _Trial:
    """Tries parts and notes what they refuse; what stands after a refusal is tried all the same where it can be."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []

    def __call__(self, rule: str | Callable[[], str], part: Callable[[], ResultT]) -> ResultT | None:
        try:
            return part()
        except TilthError as error:
            self.refusals.append(Refusal(rule if isinstance(rule, str) else rule(), error))
            return None


def gather_facts(
    asked: Recipe, dataset: Dataset, base: Base | None, *, thorough: bool = True
) -> tuple[Facts, Sampler | None]:
    """The facts, and the order of training where there is one.

    Args:
        asked: as it was written.
        thorough: look for leaks where preparing did not.
    """
    recipe, tokenizer, trial = with_base(asked, base), dataset.tokenizer, _Trial()
    ends, whole = ends_of(recipe, base, tokenizer), bool(recipe.data.chat and recipe.data.chat.train_on == "all")
    frame = 1 + len(tokenizer.document_opening)
    train, validation = (
        read_split(dataset.stream(split), tokenizer.vocab_size, ends, whole=whole, frame=frame)
        for split in ("train", "validation")
    )
    too_long = _too_long(recipe, train, dataset.tokenizer)
    model, rows = _model(trial, recipe, dataset, base)
    sampler = trial(lambda: _why(recipe, train, too_long), lambda: training_sampler(recipe, dataset))
    trial("mask_token", lambda: masker_of(recipe, dataset))
    maskless = any(refusal.rule == "mask_token" for refusal in trial.refusals)  # which would be told again
    if validation.tokens and not maskless:
        stream = dataset.stream("validation")
        reading = Reading.of(reading_habits(recipe), recipe.model.context_length)
        trial("validation", lambda: next(held_out_pass(reading, stream, tokenizer, 1), None))
    found = None if sampler is None else _run(recipe, dataset, sampler, train)
    unusable, lost = _unusable(dataset), _lost(dataset)
    largest = max(train.largest_id, validation.largest_id)
    facts = Facts(
        recipe,
        train,
        validation,
        too_long,
        unusable,
        lost,
        with_numbers(dataset.facts.get("passed_over", {}), dataset.facts["rules"]["dropped"]),
        in_dataset(dataset.facts),
        dataset.facts["splits"]["train"]["unknown_characters"],
        spelled_facts(dataset, tokenizer),
        leak_facts(recipe, dataset, train, validation, thorough=thorough),
        vocabulary_facts(recipe, base, tokenizer, train.used, largest, rows),
        found[0] if found else None,
        found[1] if found else None,
        model,
        tuple(trial.refusals),
        named_rows(dataset, train, sampler, unusable, lost),
    )
    return facts, sampler


def _model(trial: _Trial, recipe: Recipe, dataset: Dataset, base: Base | None) -> tuple[ModelFacts | None, int | None]:
    """The model in numbers, and the rows of its embeddings."""
    shape = base.config if base else recipe.model
    config = trial("vocabulary", lambda: complete_model(shape, dataset.tokenizer, grows=base is not None))
    if config is None:  # refused
        return None, None
    trial("memory", lambda: check_room(recipe, config, pick_device(recipe.train.device)))
    if trial.refusals and (parameters_of(config) > _MOST or config.num_hidden_layers > _MOST_LAYERS):
        return None, config.vocabulary
    return trial("model", lambda: model_facts(recipe, config)), config.vocabulary


def _run(recipe: Recipe, dataset: Dataset, sampler: Sampler, train: SplitFacts) -> tuple[RowFacts, RunFacts]:
    rows = row_facts(recipe, sampler, dataset.stream("train"), train.endless)
    packed = packing_of(recipe) is not None
    epoch = sampler.samples_per_epoch * recipe.model.context_length if packed else epoch_tokens(recipe, dataset)
    return rows, run_facts(recipe, batch_rows(recipe, training_tokens(recipe, dataset)), epoch)


def _too_long(recipe: Recipe, train: SplitFacts, tokenizer: Tokenizer) -> int:
    """Training documents that no row can hold, by the arithmetic of data/batches/packing.py."""
    if packing_of(recipe) is None:
        return 0
    traits = recipe.train.traits
    opening = reads_the_border(traits, tokenizer)
    return int((train.lengths - traits.ahead + opening > recipe.model.context_length).sum())


def _why(recipe: Recipe, train: SplitFacts, too_long: int) -> str:
    """What to call it that there are no rows."""
    packing = packing_of(recipe)
    if recipe.data.mixture is not None:
        return "mixture"
    if packing is None:
        return "rows"
    gone = too_long if packing.too_long == "error" else packing.too_long == "drop" and too_long == len(train.lengths)
    return "too_long" if gone and len(train.lengths) else "masked"


def _unusable(dataset: Dataset) -> dict[str, int]:
    """Rows that could not be read or encoded, by stage and rule."""
    dropped = dataset.facts["rules"]["dropped"]
    return {rule: n for rule, n in dropped.items() if rule.startswith(("read/", "encode/"))}


def _lost(dataset: Dataset) -> dict[str, int]:
    """Rows that were encoded without something of theirs, by stage and rule."""
    changed = dataset.facts["rules"]["changed"]
    return {rule: n for rule, n in changed.items() if rule.startswith("encode/")}
