"""What a recipe's objective reads: the rows of training, and a full pass over held-out text.

    training_sampler(recipe, dataset)     which tokens each sample is
    masker_of(recipe, dataset)            hides tokens, for masked_lm; None for others
    held_out_pass(recipe, dataset, …)     batches in which each label that bears loss stands once
    counted_bytes(recipe, stream)         the bytes that such a pass predicts; 0 where that is no whole text
    epoch_tokens(recipe, dataset)         positions of one epoch

`causal_lm` reads windows over all text, or packed documents; `sft` packed conversations, of which the answers bear
loss; `masked_lm` either, with tokens hidden.
"""

from __future__ import annotations

from collections.abc import Iterator

from tilth.data.batch import Batch
from tilth.data.dataset import Dataset
from tilth.data.loader import evaluation_batches
from tilth.data.masking import Masker, MaskingConfig, make_masker, masked_pass
from tilth.data.order import Sampler
from tilth.data.packed import packed_pass
from tilth.data.packing import PackingConfig, pack
from tilth.data.sampling import make_sampler
from tilth.data.shards import TokenStream
from tilth.jobs.mixing import tokens_of, training_tokens
from tilth.jobs.recipe import Recipe


def packing_of(recipe: Recipe) -> PackingConfig | None:
    """How documents are packed; None where rows are windows."""
    packs = recipe.data.packing is not None or recipe.train.objective == "sft"
    return (recipe.data.packing or PackingConfig()) if packs else None


def training_sampler(recipe: Recipe, dataset: Dataset) -> Sampler:
    """The order in which training goes through its text; DataError when a row cannot be filled."""
    return make_sampler(
        training_tokens(recipe, dataset),
        recipe.model.context_length,
        recipe.train.seed,
        same_windows=recipe.train.batch_tokens == "all",
        isolate=not recipe.data.cross_document_attention,
        ahead=0 if recipe.train.objective == "masked_lm" else 1,
        packing=packing_of(recipe),
        opening=recipe.train.objective == "causal_lm",
    )


def masker_of(recipe: Recipe, dataset: Dataset) -> Masker | None:
    """Hides tokens, for masked_lm. RecipeError when the tokenizer has no mask token."""
    if recipe.train.objective != "masked_lm":
        return None
    return make_masker(recipe.train.masking or MaskingConfig(), dataset.tokenizer, recipe.train.seed)


def held_out_pass(recipe: Recipe, dataset: Dataset, stream: TokenStream, rows: int) -> Iterator[Batch]:
    """All of a stream, `rows` rows at a time, as the objective of the recipe reads it.

    A masked model is asked about the same hidden tokens in every pass. Documents that are too long are split, whatever
    the recipe says of training: all that is held out is measured.
    """
    context, isolate = recipe.model.context_length, not recipe.data.cross_document_attention
    masker = masker_of(recipe, dataset)
    if masker is not None:
        return masked_pass(stream, context, rows, masker, isolate or packing_of(recipe) is not None)
    if packing_of(recipe) is None:
        return evaluation_batches(stream, context, rows, dataset.tokenizer.end_of_text, isolate)
    opening = recipe.train.objective == "causal_lm"
    return packed_pass(pack(stream, context, PackingConfig(too_long="split"), opening=opening), rows)


def counted_bytes(recipe: Recipe, stream: TokenStream) -> int:
    """Bytes of text that a pass predicts: all of it, or 0 where only some of its tokens bear loss."""
    return stream.text_bytes if recipe.train.objective == "causal_lm" else 0


def epoch_tokens(recipe: Recipe, dataset: Dataset) -> int:
    """Positions of the rows of one epoch."""
    stream, context = training_tokens(recipe, dataset), recipe.model.context_length
    if packing_of(recipe) is not None:
        return training_sampler(recipe, dataset).samples_per_epoch * context
    return max(1, tokens_of(stream) // context) * context  # without the sampler, which refuses a text that is too short
