"""The rows that training reads and the steps that it takes.

row_facts(recipe, sampler, …) -> RowFacts  how full rows are, what of them is trained, what was left out
run_facts(recipe, sampler, …) -> RunFacts  steps, tokens, epochs, warm-up
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tilth.data.batches.masking import MaskingConfig
from tilth.data.batches.order import Sampler
from tilth.data.batches.packed import PackedSampler
from tilth.data.batches.packing import NO_STEP, TOO_LONG, UNTRAINED, LeftOut, Packing
from tilth.data.shards import TokenStream
from tilth.distributed.runtime import pick_device
from tilth.jobs.preflight.tokens import Bool
from tilth.jobs.recipe import Recipe
from tilth.model.precision import slowdown
from tilth.training.stopping import Stopping

_PRODUCT_ROWS = 512  # of the product that is timed: enough to tell, and soon done where it is slow


@dataclass(frozen=True, slots=True)
class RowFacts:
    """The rows of an epoch.

    Attributes:
        rows: how many.
        positions: of all of them, padding among them.
        filled: the share of them that is no padding.
        trained: the share that bears loss (masked_lm: on average).
        packed: whether they are whole documents; else windows, and the numbers below are 0.
        truncated, split, dropped: documents that are too long, by what became of them.
        untrained: documents of which no token in a row bears loss.
        nothing: documents with no token to predict.
        ends_cut: truncated documents of which trained tokens were cut off: the end of an answer with them.
        whole_cut: those of them that had all their ends before.
    """

    rows: int
    positions: int
    filled: float
    trained: float
    packed: bool
    truncated: int = 0
    split: int = 0
    dropped: int = 0
    untrained: int = 0
    nothing: int = 0
    ends_cut: int = 0
    whole_cut: int = 0


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The shape of a run.

    Attributes:
        steps, tokens, epochs: in all; None where only the clock or a metric ends it.
        rows_per_step: of the global batch.
        warmup_steps: of the schedule.
        slower: how many times as long as in fp32 a product takes in the half precision that the recipe names; None
            where it names none, or on an accelerator.
    """

    steps: int | None
    tokens: int | None
    epochs: float | None
    rows_per_step: int
    warmup_steps: int
    slower: float | None = None

    @property
    def warmup_share(self) -> float | None:
        """The share of the run that warms up."""
        return self.warmup_steps / self.steps if self.steps else None


def row_facts(recipe: Recipe, sampler: Sampler, split: TokenStream, endless: Bool) -> RowFacts:
    """What the rows of a sampler are made of; of a mixture those of all its rings.

    Args:
        split: what the sampler draws from, of a mixture all of it.
        endless: which of its first documents lack an end, bool [n].
    """
    packings = [ring.packing for ring in sampler.rings if isinstance(ring, PackedSampler)]
    rows = sum(packing.rows for packing in packings) or sum(ring.samples_per_epoch for ring in sampler.rings)
    positions = rows * recipe.model.context_length
    hidden = (recipe.train.masking or MaskingConfig()).mlm_probability if sampler.ahead == 0 else 1.0
    if not packings:
        # Windows are of text, all of which is trained: conversations are always packed.
        return RowFacts(rows, positions, 1.0, hidden, False)
    filled, trained = (sum(getattr(p, name) for p in packings) / positions for name in ("steps", "trained"))
    found = [(packing, one) for packing in packings for one in packing.left_out]
    cut = [(p, one) for p, one in found if one.rule == TOO_LONG and p.config.too_long == "truncate"]
    ends = [(p.stream, one.documents[_loses_trained(p, one)]) for p, one in cut]
    return RowFacts(
        rows,
        positions,
        filled,
        trained * hidden,
        True,
        truncated=sum(len(one.documents) for _, one in cut),
        split=_count(one for p, one in found if one.rule == TOO_LONG and p.config.too_long == "split"),
        dropped=_count(one for _, one in found if one.rule == TOO_LONG and one.verdict == "dropped"),
        untrained=_count(one for _, one in found if one.rule == UNTRAINED and one.verdict == "dropped"),
        nothing=_count(one for _, one in found if one.rule == NO_STEP),
        ends_cut=sum(len(numbers) for _, numbers in ends),
        whole_cut=sum(int((~_of_stream(stream, split, endless)[numbers]).sum()) for stream, numbers in ends),
    )


def _count(left_out: Iterator[LeftOut]) -> int:
    return sum(len(one.documents) for one in left_out)


def _loses_trained(packing: Packing, one: LeftOut) -> Bool:
    """Which of the truncated documents lost tokens that are trained."""
    stream = packing.stream
    stops = np.append(stream.document_starts(), stream.tokens)[one.documents + 1]
    return np.asarray(stream.count_trained(stops - one.steps, stops) > 0)


def _of_stream(stream: TokenStream, split: TokenStream, which: Bool) -> Bool:
    """What is known of a split's first documents, by the numbers that they have in a stream of some of its shards;
    False of those that nothing is known of.
    """
    known = np.append(which, np.zeros(split.documents - len(which), np.bool_))
    borders = np.cumsum([shard.documents for shard in split.shards])[:-1]
    of_shard = dict(zip((shard.folder for shard in split.shards), np.split(known, borders), strict=True))
    return np.concatenate([of_shard[shard.folder] for shard in stream.shards])


def run_facts(recipe: Recipe, rows_per_step: int, epoch_tokens: int) -> RunFacts:
    """The shape of a run.

    Args:
        epoch_tokens: positions of the rows of one epoch.
    """
    batch_tokens = rows_per_step * recipe.model.context_length
    steps = Stopping(recipe.train, batch_tokens, epoch_tokens).total_steps
    return RunFacts(
        steps,
        None if steps is None else steps * batch_tokens,
        None if steps is None else steps * batch_tokens / epoch_tokens,
        rows_per_step,
        recipe.train.schedule.warmup(steps),
        _slower(recipe, rows_per_step),
    )


def _slower(recipe: Recipe, rows_per_step: int) -> float | None:
    train, model = recipe.train, recipe.model
    rows = min(_PRODUCT_ROWS, rows_per_step * model.context_length)
    return slowdown(train.precision, pick_device(train.device), rows, model.hidden_size, model.mlp_size)
