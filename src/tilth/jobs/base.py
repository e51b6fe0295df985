"""The checkpoint that a run starts from: `model.from` of a recipe.

    find_base(recipe) -> Base | None      where it is, its configuration and tokenizer; no weights are read
    open_base(name, context_length, …)    the same by name
    with_base(recipe, base) -> Recipe     the recipe with the model's shape filled in

A checkpoint is a run or a model of tilth's, a Hugging Face folder, or a model of the hub. No torch here, but for an
architecture that only transformers knows: preparing data needs the tokenizer alone. The weights are start.py's.

A command looks for it once and hands it on: a branch of the hub may move before the hub is asked again, and data would
be of one revision and weights of another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tilth.core.errors import RecipeError
from tilth.jobs.hub_models import at_commit
from tilth.jobs.places import Place, locate, read_config
from tilth.jobs.recipe import Recipe
from tilth.model.config import ModelConfig
from tilth.model.families import read_hf_config
from tilth.tokenizer import Tokenizer, load_tokenizer
from tilth.tokenizer.chat_files import ChatFormat, read_chat
from tilth.training.config import objectives_of

if TYPE_CHECKING:
    from tilth.model.wrapped_config import WrappedConfig


@dataclass(frozen=True)
class Base:
    """A checkpoint to start from, found but not loaded.

    Attributes:
        name: as the recipe calls it.
        place: where weights and tokenizer lie.
        config: the model's, with what the recipe wants otherwise.
        special_tokens: what the recipe adds to the tokenizer.
    """

    name: str
    place: Place
    config: ModelConfig | WrappedConfig
    special_tokens: tuple[str, ...]

    @property
    def exact_name(self) -> str:
        """What leads to these very files: of a model of the hub, with its commit."""
        asked = self.place.asked
        return self.name if asked == Path(self.name) else at_commit(self.name, asked)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's, with the special tokens that the recipe adds."""
        tokenizer = load_tokenizer(self.place.tokenizer)
        new = [name for name in self.special_tokens if name not in tokenizer.special_tokens]
        return tokenizer.with_special_tokens(new) if new else tokenizer

    @cached_property
    def chat(self) -> ChatFormat | None:
        """Its own chat template, where it has one."""
        return read_chat(self.place.tokenizer)


def find_base(recipe: Recipe, exact_name: str | None = None) -> Base | None:
    """The checkpoint of `model.from`; None where there is none. RecipeError when it does not fit the recipe.

    Args:
        exact_name: what another process found it to be.
    """
    model = recipe.model
    if model.from_ is None:
        return None
    name = exact_name or model.from_
    base = open_base(name, model.context_length, tuple(recipe.tokenizer.special_tokens), model.wrapped)
    causal = base.config.is_causal
    if causal == recipe.train.traits.looks_both_ways:
        raise RecipeError(
            f"train.objective is {recipe.train.objective}, and {model.from_} "
            + ("sees only what stands before a token" if causal else "looks both ways"),
            f"set train.objective: {' or '.join(objectives_of(causal=causal))}, or name another model",
        )
    if not isinstance(base.config, ModelConfig):
        _check_rows(recipe, base.config)
        return replace(base, config=base.config.with_dropout(model.dropout, model.attention_drop))
    changes = {"dropout": model.dropout, "attention_dropout": model.attention_dropout}
    return replace(base, config=base.config.model_copy(update=changes))


def _check_rows(recipe: Recipe, config: WrappedConfig) -> None:
    """What can be told before data is prepared of a class that shall keep documents apart."""
    if _keeps_apart(recipe, config) is False:
        from tilth.model.wrapped_config import together  # loads torch

        raise together(config.architecture)


def untried(recipe: Recipe, config: ModelConfig | WrappedConfig) -> bool:
    """Whether only the weights will tell if a class keeps apart the documents that it should."""
    return not isinstance(config, ModelConfig) and _keeps_apart(recipe, config) is None


def _keeps_apart(recipe: Recipe, config: WrappedConfig) -> bool | None:
    """As of `small_keeps_apart`; True where it need not."""
    if not recipe.keeps_documents_apart:
        return True
    from tilth.model.wrapped_trial import small_keeps_apart  # loads torch

    return small_keeps_apart(config) if config.takes_documents else False


def open_base(
    name: str, context_length: int, special_tokens: tuple[str, ...] = (), wrapped: bool | None = None
) -> Base:
    """The checkpoint of a name, for rows of `context_length` tokens. RecipeError when it is made for fewer.

    Args:
        wrapped: whether through transformers' own class; left out: only where tilth has no model of its own for it.
    """
    place = locate(name)
    if place.adapter is not None:
        raise RecipeError(
            f"model.from {name!r} is an adapter and not a model",
            "merge it first: tilth export RUN --to hf --out FOLDER, and start from that folder",
        )
    if wrapped and not place.foreign:
        raise RecipeError(
            f"model.wrapped is true, and {name} is in tilth's own format: transformers has no class for it",
            "remove model.wrapped",
        )
    if place.wrapped if wrapped is None else wrapped:
        from tilth.model.wrapped_config import read_wrapped_config  # loads torch and transformers

        return Base(name, place, read_wrapped_config(place.about, context_length), special_tokens)
    config = read_hf_config(place.about).config if place.foreign else read_config(place.about / "config.json")
    if context_length > config.positions:
        raise RecipeError(
            f"model.context_length is {context_length}, and {name} is made for {config.positions} tokens",
            f"set model.context_length to {config.positions} at most",
        )
    changes = {"context_length": context_length, "max_position_embeddings": config.positions}
    return Base(name, place, config.model_copy(update=changes), special_tokens)


def with_base(recipe: Recipe, base: Base | None) -> Recipe:
    """The recipe with the shape of the checkpoint in it, of one of transformers' own with the tokens that it is made
    for; as it is where there is none.
    """
    if base is None:
        return recipe
    if isinstance(base.config, ModelConfig):
        return recipe.model_copy(update={"model": base.config})
    model = recipe.model.model_copy(update={"max_position_embeddings": base.config.longest})
    return recipe.model_copy(update={"model": model})
