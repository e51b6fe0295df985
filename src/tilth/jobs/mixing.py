"""What training draws from: the training split, or a mixture of its sources where the recipe has one."""

from __future__ import annotations

from typing import Any

from tilth.data.batches.mixture import Mixture, MixturePlan, Ring, plan_mixture, whole_shares
from tilth.data.batches.order import Sampler
from tilth.data.batches.sampling import MixtureSampler
from tilth.data.dataset import Dataset
from tilth.data.shards import TokenStream
from tilth.jobs.recipe import Recipe, run_tokens


def training_tokens(recipe: Recipe, dataset: Dataset) -> TokenStream | Mixture:
    """The tokens that training sees; DataError when the recipe's mixture cannot be had of them."""
    plan = planned_mixture(recipe, dataset)
    if plan is None:
        return dataset.stream("train")
    shares = whole_shares([component.share for component in plan.components])
    rings = [
        Ring(component.name, dataset.stream("train", component.sources), share)
        for component, share in zip(plan.components, shares, strict=True)
    ]
    return Mixture(tuple(rings), plan.epoch_tokens)


def planned_mixture(recipe: Recipe, dataset: Dataset) -> MixturePlan | None:
    """The shares of the recipe's mixture, or None where it has none."""
    train = recipe.train
    if recipe.data.mixture is None:
        return None
    assert isinstance(train.batch_tokens, int), "the recipe refuses the other"
    held = {source.source_name: 0 for source in recipe.data.sources}
    held |= {source["name"]: source["splits"]["train"]["tokens"] for source in dataset.facts["shards_by_source"]}
    return plan_mixture(
        recipe.data.mixture,
        held,
        recipe.model.context_length,
        run_tokens(train),
        train.epochs,
        slack=train.batch_tokens,
    )


def tokens_of(source: TokenStream | Mixture) -> int:
    """The tokens of one epoch."""
    return source.epoch_tokens if isinstance(source, Mixture) else source.tokens


def seen(sampler: Sampler, samples: int) -> list[dict[str, Any]] | None:
    """What a run has seen of each source after so many samples, or None without a mixture."""
    return sampler.seen(samples) if isinstance(sampler, MixtureSampler) else None


def say_mixture(sampler: Sampler, samples: int | None) -> str:
    """A mixture in words, empty where there is none: shares, and epochs of each source in a run of so many samples."""
    if not isinstance(sampler, MixtureSampler):
        return ""
    parts = []
    for one in sampler.seen(samples or sampler.samples_per_epoch):
        parts.append(f"{one['name']} {one['share']:.4g} ({one['epochs']:.2f} epochs of {one['held_tokens']:,} tokens)")
    span = "" if samples else " in one epoch of the mixture"
    return f"mixture{span}: {', '.join(parts)}"
