"""The batches of a run: how many rows, in how many steps, and the loader that makes them.

make_loader(recipe, dataset, runtime)     or what is wrong with text, context and batch
batch_rows(recipe, stream)                rows of the global batch
planned_steps(recipe, dataset)            steps at most
prefetch_of(recipe)                       batches that are ready ahead of time
"""

from __future__ import annotations

from tilth.core.errors import RecipeError
from tilth.data.batches.loader import PREFETCH, Loader
from tilth.data.batches.mixture import Mixture
from tilth.data.dataset import Dataset
from tilth.data.shards import TokenStream
from tilth.distributed.runtime import Runtime
from tilth.jobs.mixing import tokens_of, training_tokens
from tilth.jobs.objectives import epoch_tokens, masker_of, training_sampler
from tilth.jobs.recipe import Recipe
from tilth.training.stopping import Stopping


def make_loader(recipe: Recipe, dataset: Dataset, runtime: Runtime) -> Loader:
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
        prefetch=prefetch_of(recipe),
    )


def prefetch_of(recipe: Recipe) -> int:
    """Batches that the loader holds ready; of all text, one has to do."""
    return 1 if recipe.train.batch_tokens == "all" else PREFETCH


def batch_rows(recipe: Recipe, stream: TokenStream | Mixture) -> int:
    """Rows of the global batch."""
    context, batch = recipe.model.context_length, recipe.train.batch_tokens
    return max(1, tokens_of(stream) // context) if batch == "all" else batch // context


def planned_steps(recipe: Recipe, dataset: Dataset) -> int | None:
    """How many steps the run takes at most, or None when only the clock or a metric ends it."""
    rows = batch_rows(recipe, training_tokens(recipe, dataset))
    return Stopping(recipe.train, rows * recipe.model.context_length, epoch_tokens(recipe, dataset)).total_steps
