"""How a recipe's conversations become tokens, and which template its model then answers by.

template_of(recipe, base)         the chat template that a recipe trains with
encoder_of(recipe, base)          how its documents become tokens
format_of(recipe, base)           what goes with the model: that template, or the one that its base came with
stop_ids_of(recipe, base, …)      the ids at which what the model writes ends
"""

from __future__ import annotations

from tilth.core.errors import RecipeError
from tilth.data.chats import ChatDocuments
from tilth.jobs.base import Base
from tilth.jobs.recipe import Recipe
from tilth.tokenizer import Tokenizer
from tilth.tokenizer.chat_files import ChatFormat, read_stop_ids
from tilth.tokenizer.hf_format import END_OF_TEXT
from tilth.tokenizer.templates import ChatTemplate, choose_template


def template_of(recipe: Recipe, base: Base | None) -> ChatTemplate | None:
    """The chat template of a recipe; None where it has none. RecipeError when the tokenizer lacks what it writes."""
    if recipe.data.chat is None:
        return None
    template = choose_template(recipe.data.chat.template, base.chat.template.source if base and base.chat else None)
    known = list(base.tokenizer.special_tokens) if base else [END_OF_TEXT, *recipe.tokenizer.special_tokens]
    missing = [name for name in template.special_tokens if name not in known]
    if missing:
        raise RecipeError(
            f"data.chat.template {template.name} writes {', '.join(missing)}, which the tokenizer does not have as "
            "tokens of their own: the model could not tell them from text",
            f"set tokenizer.special_tokens: {[*recipe.tokenizer.special_tokens, *missing]}",
        )
    return template


def encoder_of(recipe: Recipe, base: Base | None) -> ChatDocuments | None:
    """How the documents of a recipe become tokens; None where they are text and nothing else."""
    if recipe.train.objective != "sft":
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
