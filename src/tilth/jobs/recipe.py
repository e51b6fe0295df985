"""The recipe: one YAML file that says everything, and what its parts must agree on.

    load_recipe(path, overrides) -> Recipe       defaults < preset < file < `--set a.b=c`

Each section is a config class that stands beside the code it configures; this module nests them and holds what no
section can check alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from tilth.core.config import Config, apply_overrides, load_yaml, parse, parse_yaml
from tilth.core.errors import DataError, RecipeError
from tilth.data.batches.mixture import check_alone
from tilth.data.config import DataConfig
from tilth.generate.config import SamplingConfig
from tilth.jobs.peer_names import PEER_NAMES, PEER_NOTES
from tilth.model.adapter_config import AdapterConfig
from tilth.model.config import ModelConfig
from tilth.tokenizer import TokenizerConfig
from tilth.training.config import TrainConfig

Metric = Literal["loss", "perplexity", "bits_per_byte", "accuracy"]


class EvaluateConfig(Config):
    """Full passes over the validation split while training."""

    every: int | None = Field(default=250, ge=1)
    """Steps between evaluations; one is made at the end besides. `null`: only at the end."""
    metrics: list[Metric] = Field(default=["loss", "perplexity", "bits_per_byte", "accuracy"], min_length=1)
    """Which of the metrics are shown; all are measured."""
    batch_tokens: int = Field(default=16384, ge=1)
    """Tokens that go through the model at once."""


class SampleConfig(SamplingConfig):
    """Texts that the model writes while training, so that one sees it learn."""

    every: int | None = Field(default=None, ge=1)
    """Steps between samples; some are written at the end besides."""
    prompts: list[str] = [""]
    """What each text begins with, `""` a new document; with `data.chat` messages that the model answers (none empty).
    A masked language model writes no text."""
    max_new_tokens: int = Field(default=100, ge=1)
    """Tokens of a text, at the most."""


def run_tokens(train: TrainConfig) -> int | None:
    """How many tokens a run sees, where its steps or tokens are given."""
    batch = train.batch_tokens
    limits = [train.steps * batch] if train.steps and isinstance(batch, int) else []
    return min([*limits, *([train.tokens] if train.tokens else [])], default=None)


class Recipe(Config):
    """Everything that decides a run."""

    peer_names: ClassVar[Mapping[str, str]] = PEER_NAMES
    peer_notes: ClassVar[Mapping[str, str]] = PEER_NOTES

    name: str
    """Names the run folder (`runs/NAME`)."""
    data: DataConfig
    """Where the text comes from, and what becomes of it."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """How text becomes token ids; with `model.from`, what is added to the checkpoint's."""
    model: ModelConfig = ModelConfig()
    """Which model: a shape to start from scratch, or a checkpoint."""
    adapter: AdapterConfig | None = None
    """Train an adapter beside the frozen model, instead of the model."""
    train: TrainConfig
    """Objective, length, batch and optimizer."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """When held-out text is measured."""
    sample: SampleConfig = SampleConfig()
    """What the model writes on the way."""

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(f"{name!r} cannot name a folder | use letters, digits, '.', '_' and '-'")
        return name

    @model_validator(mode="after")
    def _batch_holds_samples(self) -> Recipe:
        batch, context = self.train.batch_tokens, self.model.context_length
        if isinstance(batch, int) and batch % context:
            near = sorted({max(1, batch // context) * context, (batch // context + 1) * context})
            raise ValueError(
                f"train.batch_tokens {batch} is not a multiple of model.context_length {context} | "
                f"use {' or '.join(map(str, near))}"
            )
        return self

    @model_validator(mode="after")
    def _mixture_has_steps(self) -> Recipe:
        if self.data.mixture is not None and self.train.batch_tokens == "all":
            raise ValueError(
                "data.mixture with train.batch_tokens all, which sees every token in every step | remove one of them"
            )
        return self

    @model_validator(mode="after")
    def _mixture_can_be(self) -> Recipe:
        train, mixture = self.train, self.data.mixture
        if mixture is not None and isinstance(train.batch_tokens, int):
            names = [source.source_name for source in self.data.sources]
            try:
                check_alone(mixture, names, run_tokens(train), train.epochs, train.batch_tokens)
            except DataError as error:
                raise ValueError(f"{error.message} | {error.remedy}") from None
        return self

    @model_validator(mode="after")
    def _has_what_it_asks_for(self) -> Recipe:
        if self.train.early_stopping and not (self.evaluate.every and self.data.split.validation):
            raise ValueError("train.early_stopping needs evaluations | set evaluate.every and data.split.validation")
        if self.train.final == "best" and not (self.data.split.validation and self.train.checkpoint.best):
            raise ValueError(
                "train.final: best needs a validation split and train.checkpoint.best | set both, or final: last"
            )
        return self

    @model_validator(mode="after")
    def _tokenizer_is_the_checkpoints(self) -> Recipe:
        said = sorted(self.tokenizer.model_fields_set - {"special_tokens"}) if self.model.from_ else []
        if said and self.tokenizer != TokenizerConfig(special_tokens=self.tokenizer.special_tokens):
            raise ValueError(
                f"tokenizer.{said[0]} {getattr(self.tokenizer, said[0])!r}: model.from brings its own tokenizer | "
                "remove it; tokenizer.special_tokens adds tokens to the checkpoint's"
            )
        return self

    @model_validator(mode="after")
    def _objective_has_what_it_needs(self) -> Recipe:
        objective, traits, data = self.train.objective, self.train.traits, self.data
        if self.adapter is not None and self.model.from_ is None:
            raise ValueError("adapter: there is no model that it could be beside | set model.from, or remove adapter")
        if self.model.wrapped is not None and self.model.from_ is None:
            raise ValueError("model.wrapped: there is no checkpoint that it could be of | set model.from, or remove it")
        if data.chat is not None and not traits.conversations:
            raise ValueError(f"data.chat with train.objective {objective} | set train.objective: sft, or remove it")
        unshown = [
            source.map.tools for source in data.sources if source.map is not None and source.map.tools is not None
        ]
        if unshown and traits.conversations and data.chat is None:
            raise ValueError(
                f"map.tools {unshown[0]!r}: without data.chat nothing shows the model its tools | "
                "set data.chat.template to one that writes tools, or remove map.tools"
            )
        if traits.looks_both_ways and self.model.from_ is None and self.model.is_causal:
            raise ValueError(
                f"train.objective {objective} needs a model that looks both ways | "
                "set model.preset: bert-mini (or bert), or model.is_causal: false"
            )
        if not traits.looks_both_ways and not self.model.is_causal:
            raise ValueError(f"train.objective {objective} with model.is_causal false | set objective: masked_lm")
        if self.train.batch_tokens == "all" and (data.packing or not traits.every_token):
            raise ValueError("train.batch_tokens all is for causal_lm over windows | give a number of tokens")
        return self

    @model_validator(mode="after")
    def _vocabulary_fits(self) -> Recipe:
        size, least = self.model.vocab_size, self.tokenizer.least_ids
        if size is not None and size < least:
            of = {
                "bpe": "tokenizer.vocab_size",
                "byte": "the ids of tokenizer.kind byte:",
                "char": "any tokenizer.kind char:",
            }
            raise ValueError(
                f"model.vocab_size {size} is smaller than {of[self.tokenizer.kind]} {least} | "
                "leave model.vocab_size out: it is then the tokenizer's"
            )
        return self

    @property
    def packs(self) -> bool:
        """Whether rows are whole documents, and no windows."""
        return self.data.packing is not None or self.train.traits.conversations

    @property
    def keeps_documents_apart(self) -> bool:
        """Whether documents in a row do not see each other; those of a packed row never do."""
        return self.packs or not self.data.cross_document_attention

    def plain(self) -> dict[str, Any]:
        """The resolved recipe as plain data, as it is saved in the run folder."""
        dumped: dict[str, Any] = self.model_dump(mode="json")
        return dumped


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a file, with `--set` overrides put in; RecipeError names every fault."""
    return make_recipe(load_yaml(Path(path)), overrides, str(path))


def make_recipe(data: dict[str, Any], overrides: Sequence[str] = (), place: str = "recipe") -> Recipe:
    """A recipe from plain data (what a YAML file would hold)."""
    return parse(Recipe, apply_overrides(data, overrides), place, overrides)


def shipped_recipe(name: str) -> str:
    """The text of a recipe that comes with tilth."""
    file = resources.files("tilth") / "recipes" / f"{name}.yaml"
    if not file.is_file():
        there = ", ".join(shipped_recipes())
        raise RecipeError(f"no recipe {name!r} comes with tilth", f"choose one of {there}")
    return file.read_text(encoding="utf-8")


def shipped_recipes() -> list[str]:
    """The names of the recipes that come with tilth."""
    folder = resources.files("tilth") / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_shipped(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe that comes with tilth, checked."""
    return make_recipe(parse_yaml(shipped_recipe(name), f"recipes/{name}.yaml"), overrides, f"recipes/{name}.yaml")
