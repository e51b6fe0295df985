"""The checkpoint that a run starts from: `model.from` of a recipe.

    find_base(recipe) -> Base | None      where it is, its configuration and tokenizer; no weights are read
    with_base(recipe, base) -> Recipe     the recipe with the model's shape filled in
    base.model(device, seed)              the model with its weights, as the recipe wants it
    starting_model(recipe, base, …)       what training begins with: adapter beside it, parts of it frozen
    write_base(folder, recipe, …)         says beside an adapter which base it belongs to

A checkpoint is a run or a model of tilth's, a Hugging Face folder, or a model of the hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.checkpoint.store import Checkpoint
from tilth.checkpoint.tensors import load_model, read_tensors
from tilth.checkpoint.trainable import base_fingerprint, check_base
from tilth.core.environment import Precision
from tilth.core.errors import RecipeError
from tilth.core.files import write_json
from tilth.jobs.final import BASE_FILE
from tilth.jobs.places import Place, check_fits, locate, read_config
from tilth.jobs.recipe import Recipe
from tilth.model.adapters import apply_adapter
from tilth.model.config import ModelConfig
from tilth.model.families import read_hf_config
from tilth.model.freezing import freeze
from tilth.model.precision import DTYPES
from tilth.model.resize import resize_embeddings
from tilth.model.transformer import Transformer, build
from tilth.tokenizer import Tokenizer, load_tokenizer
from tilth.tokenizer.chat_files import ChatFormat, read_chat


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
    config: ModelConfig
    special_tokens: tuple[str, ...]

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

    def model(self, device: torch.device, seed: int) -> Transformer:
        """The model with the checkpoint's weights, and rows for new tokens drawn from `seed`."""
        if self.place.foreign:
            model = load_checkpoint(self.place.weights, device, change=lambda _: self.config).model
        else:
            check_fits(self.config, self.place.weights / "model.safetensors")
            model = build(self.config, None, device)
            load_model(model, read_tensors(self.place.weights / "model.safetensors"), self.place.weights)
        if self.tokenizer.vocab_size > self.config.vocabulary:
            resize_embeddings(model, self.tokenizer.vocab_size, seed)
        return model


def find_base(recipe: Recipe) -> Base | None:
    """The checkpoint of `model.from`; None where there is none. RecipeError when it does not fit the recipe."""
    model = recipe.model
    if model.from_ is None:
        return None
    base = open_base(model.from_, model.context_length, tuple(recipe.tokenizer.special_tokens))
    causal = base.config.is_causal
    if causal == (recipe.train.objective == "masked_lm"):
        raise RecipeError(
            f"train.objective is {recipe.train.objective}, and {model.from_} "
            + ("sees only what stands before a token" if causal else "looks both ways"),
            f"set train.objective: {'causal_lm or sft' if causal else 'masked_lm'}, or name another model",
        )
    changes = {"dropout": model.dropout, "attention_dropout": model.attention_dropout}
    return replace(base, config=base.config.model_copy(update=changes))


def open_base(name: str, context_length: int, special_tokens: tuple[str, ...] = ()) -> Base:
    """The checkpoint of a name, for rows of `context_length` tokens. RecipeError when it is made for fewer."""
    place = locate(name)
    if place.adapter is not None:
        raise RecipeError(
            f"model.from {name!r} is an adapter and not a model",
            "merge it first: tilth export RUN --to hf --out FOLDER, and start from that folder",
        )
    config = read_hf_config(place.about).config if place.foreign else read_config(place.about / "config.json")
    if context_length > config.positions:
        raise RecipeError(
            f"model.context_length is {context_length}, and {name} is made for {config.positions} tokens",
            f"set model.context_length to {config.positions} at most",
        )
    changes = {"context_length": context_length, "max_position_embeddings": config.positions}
    return Base(name, place, config.model_copy(update=changes), special_tokens)


def with_base(recipe: Recipe, base: Base | None) -> Recipe:
    """The recipe with the shape of the checkpoint in it; as it is where there is none."""
    return recipe if base is None else recipe.model_copy(update={"model": base.config})


def write_base(folder: Path, recipe: Recipe, fingerprint: str) -> None:
    """Says beside an adapter's weights which base they belong to."""
    name = recipe.model.from_
    assert name is not None and recipe.adapter is not None
    said = {
        "from": str(Path(name).absolute()) if Path(name).exists() else name,
        "context_length": recipe.model.context_length,
        "special_tokens": recipe.tokenizer.special_tokens,
        "seed": recipe.train.seed,
        "fingerprint": fingerprint,
        "adapter": recipe.adapter.model_dump(mode="json"),
    }
    write_json(folder / BASE_FILE, said)


def starting_model(
    recipe: Recipe, base: Base | None, config: ModelConfig, device: torch.device, precision: Precision
) -> tuple[Transformer, dict[str, str]]:
    """The model as training begins, what shall not train frozen, and what every checkpoint of the run says of it.

    Args:
        recipe: with the shape filled in.
        config: the model's, with the vocabulary known.
    """
    if base is None:
        model, said = build(config, recipe.train.seed, device), {}
    else:
        model = base.model(device, recipe.train.seed)
        said = {"base": base_fingerprint(model)}
    if recipe.adapter is not None:
        # Frozen weights are read in the precision of the products: held in it, none is cast in a step.
        apply_adapter(model, recipe.adapter, recipe.train.seed, dtype=DTYPES.get(precision))
    if recipe.train.freeze:
        freeze(model, recipe.train.freeze)
    return model, said


def same_base(checkpoint: Checkpoint, said: Mapping[str, str]) -> None:
    """CheckpointError when a run would go on from another base than it began with."""
    before = checkpoint.state()["identity"].get("base")
    if before is not None and "base" in said:
        check_base(before, said["base"], checkpoint.path)
