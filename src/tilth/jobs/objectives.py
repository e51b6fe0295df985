"""What a recipe's objective reads: the rows of training, and a full pass over held-out text.

    training_sampler(recipe, dataset)     which tokens each sample is
    masker_of(recipe, dataset)            hides tokens, for masked_lm; None for others
    Reading                               how an objective reads held-out text
    held_out_pass(reading, stream, …)     batches in which each label that bears loss stands once
    counted_bytes(reading, stream)        the bytes that such a pass predicts; 0 where that is no whole text
    epoch_tokens(recipe, dataset)         positions of one epoch

`causal_lm` reads windows over all text, or packed documents; `sft` packed conversations, of which the answers bear
loss; `masked_lm` either, with tokens hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tilth.core.config import parse
from tilth.data.batches.batch import Batch
from tilth.data.batches.loader import evaluation_batches
from tilth.data.batches.masking import Masker, MaskingConfig, make_masker, masked_pass
from tilth.data.batches.order import Sampler
from tilth.data.batches.packed import packed_pass
from tilth.data.batches.packing import PackingConfig, pack
from tilth.data.batches.sampling import make_sampler
from tilth.data.dataset import Dataset
from tilth.data.shards import TokenStream
from tilth.jobs.mixing import tokens_of, training_tokens
from tilth.jobs.recipe import Recipe
from tilth.jobs.runs import traits_of
from tilth.tokenizer import Tokenizer
from tilth.training.config import ObjectiveTraits


def packing_of(recipe: Recipe) -> PackingConfig | None:
    """How documents are packed; None where rows are windows."""
    return (recipe.data.packing or PackingConfig()) if recipe.packs else None


def training_sampler(recipe: Recipe, dataset: Dataset) -> Sampler:
    """The order in which training goes through its text; DataError when a row cannot be filled."""
    return make_sampler(
        training_tokens(recipe, dataset),
        recipe.model.context_length,
        recipe.train.seed,
        same_windows=recipe.train.batch_tokens == "all",
        isolate=not recipe.data.cross_document_attention,
        ahead=recipe.train.traits.ahead,
        packing=packing_of(recipe),
        opening=reads_the_border(recipe.train.traits, dataset.tokenizer),
        longest=recipe.model.max_position_embeddings,
    )


def reads_the_border(traits: ObjectiveTraits, tokenizer: Tokenizer) -> bool:
    """Whether a packed document first reads the end-of-text before it: plain text that has no beginning of its own."""
    return traits.every_token and not tokenizer.document_opening


def masker_of(recipe: Recipe, dataset: Dataset) -> Masker | None:
    """Hides tokens, for masked_lm. RecipeError when the tokenizer has no mask token."""
    if not recipe.train.traits.hides_tokens:
        return None
    return make_masker(recipe.train.masking or MaskingConfig(), dataset.tokenizer, recipe.train.seed)


@dataclass(frozen=True)
class Reading:
    """How held-out text is read: all that decides the rows of a pass over it, but the tokens and the tokenizer.

    Attributes:
        isolate: documents of a window do not see each other; those of a packed row never do.
        masking: for masked_lm.
    """

    traits: ObjectiveTraits
    context_length: int
    isolate: bool
    packed: bool
    masking: MaskingConfig | None

    @classmethod
    def of(cls, habits: Mapping[str, Any], context_length: int) -> Reading:
        """By what a run or a model says of itself (`reading_habits`)."""
        masking = habits.get("masking")
        return cls(
            traits_of(habits),
            context_length,
            not habits["cross_document_attention"],
            habits.get("packed", False),
            None if masking is None else parse(MaskingConfig, masking, "masking"),
        )

    def masker(self, tokenizer: Tokenizer) -> Masker | None:
        """Hides the same tokens in every pass; None but for masked_lm."""
        return None if self.masking is None else make_masker(self.masking, tokenizer, seed=0)


def held_out_pass(reading: Reading, stream: TokenStream, tokenizer: Tokenizer, rows: int) -> Iterator[Batch]:
    """All of a stream, `rows` rows at a time, as the objective reads it.

    A masked model is asked about the same hidden tokens in every pass. Documents that are too long are split, whatever
    the recipe says of training: all that is held out is measured.
    """
    context, masker = reading.context_length, reading.masker(tokenizer)
    if masker is not None:
        return masked_pass(stream, context, rows, masker, reading.isolate or reading.packed)
    if not reading.packed:
        unasked = tokenizer.document_opening if reading.traits.every_token else []
        return evaluation_batches(stream, context, rows, tokenizer.end_of_text, reading.isolate, unasked)
    opening = reads_the_border(reading.traits, tokenizer)
    return packed_pass(pack(stream, context, PackingConfig(too_long="split"), opening=opening), rows)


def counted_bytes(reading: Reading, stream: TokenStream) -> int:
    """Bytes of text that a pass predicts: all of it, or 0 where only some of its tokens bear loss."""
    return stream.text_bytes if reading.traits.every_token else 0


def epoch_tokens(recipe: Recipe, dataset: Dataset) -> int:
    """Positions of the rows of one epoch."""
    stream, context = training_tokens(recipe, dataset), recipe.model.context_length
    if packing_of(recipe) is not None:
        return training_sampler(recipe, dataset).samples_per_epoch * context
    return max(1, tokens_of(stream) // context) * context  # without the sampler, which refuses a text that is too short
