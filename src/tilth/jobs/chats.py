"""How a recipe's conversations become tokens, and which template its model then answers by.

template_of(recipe, base)         the chat template that a recipe trains with
tokenizer_of(recipe)              the tokenizer that it learns: with what its template writes
added_tokens(recipe)              those of its special tokens that the recipe does not name
encoder_of(recipe, base)          how its documents become tokens
format_of(recipe, base)           what goes with the model: that template, or the one that its base came with
stop_ids_of(recipe, base, …)      the ids at which what the model writes ends
settings_of(base)                 what else the base's generation_config.json says
"""

from __future__ import annotations

from typing import Any

from tilth.core.config import parse
from tilth.core.errors import RecipeError
from tilth.data.chats import ChatDocuments
from tilth.jobs.base import Base
from tilth.jobs.recipe import Recipe
from tilth.model.config import ModelConfig
from tilth.tokenizer import Tokenizer, TokenizerConfig
from tilth.tokenizer.chat_files import ChatFormat, read_settings, read_stop_ids
from tilth.tokenizer.hf_format import END_OF_TEXT
from tilth.tokenizer.templates import BUILT_IN, ChatTemplate, choose_template


def template_of(recipe: Recipe, base: Base | None) -> ChatTemplate | None:
    """The chat template of a recipe; None where it has none. RecipeError when the tokenizer lacks what it writes."""
    if recipe.data.chat is None:
        return None
    template = choose_template(recipe.data.chat.template, base.chat.template.source if base and base.chat else None)
    known = list(base.tokenizer.special_tokens) if base else [END_OF_TEXT, *tokenizer_of(recipe).special_tokens]
    missing = [name for name in template.special_tokens if name not in known]
    if missing:
        raise RecipeError(
            f"data.chat.template {template.name} writes {', '.join(missing)}, which the tokenizer does not have as "
            "tokens of their own: the model could not tell them from text",
            f"set tokenizer.special_tokens: {[*recipe.tokenizer.special_tokens, *missing]}{_and_trained(recipe, base)}",
        )
    return template


def _and_trained(recipe: Recipe, base: Base | None) -> str:
    """What further has to be said where an adapter leaves the rows of new tokens at random."""
    if base is None or recipe.adapter is None or not isinstance(base.config, ModelConfig):
        return ""
    names = ["embed_tokens"] if base.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    lacking = [name for name in names if name not in recipe.adapter.modules_to_save]
    if not lacking:
        return ""
    return (
        f", and adapter.modules_to_save: [{', '.join([*recipe.adapter.modules_to_save, *lacking])}], which trains them"
    )


def added_tokens(recipe: Recipe) -> list[str]:
    """What a built-in template writes and the recipe does not name, where the tokenizer is learned: it has them too."""
    if recipe.data.chat is None or recipe.model.from_ is not None:
        return []
    named = (END_OF_TEXT, *recipe.tokenizer.special_tokens)
    return [name for name in BUILT_IN.get(recipe.data.chat.template, ()) if name not in named]


def tokenizer_of(recipe: Recipe) -> TokenizerConfig:
    """The tokenizer that a recipe learns. RecipeError when its vocabulary has no room for the template's tokens."""
    added, asked = added_tokens(recipe), recipe.tokenizer
    if not added:
        return asked
    special = [*asked.special_tokens, *added]
    return parse(TokenizerConfig, {**asked.model_dump(), "special_tokens": special}, "tokenizer")


def encoder_of(recipe: Recipe, base: Base | None) -> ChatDocuments | None:
    """How the documents of a recipe become tokens; None where they are text and nothing else."""
    if not recipe.train.traits.conversations:
        return None
    return ChatDocuments(recipe.data.chat, template_of(recipe, base))


def format_of(recipe: Recipe, base: Base | None) -> ChatFormat | None:
    """The template that the model of a recipe is to be asked by; None where it has none."""
    template = template_of(recipe, base)
    if template is not None and recipe.data.chat is not None:
        return ChatFormat.of(recipe.data.chat, template)
    return base.chat if base else None


def stop_ids_of(recipe: Recipe, base: Base | None, tokenizer: Tokenizer) -> frozenset[int]:
    """The base's, with those that the recipe's template ends an answer by; none where end-of-text is all there is."""
    known = read_stop_ids(base.place.tokenizer) | read_stop_ids(base.place.about) if base else frozenset[int]()
    chat = format_of(recipe, base) if recipe.data.chat else None
    if chat is not None:
        with chat.encoder(tokenizer) as encoder:
            known |= encoder.stop_ids()
    return known


def settings_of(base: Base | None) -> dict[str, Any]:
    """The base's, kept for the programs that sample by them."""
    return read_settings(base.place.about) | read_settings(base.place.tokenizer) if base else {}
