"""How a recipe's conversations become tokens, and which template its model then answers by."""

from __future__ import annotations

from tilth.core.errors import RecipeError
from tilth.data.chats import ChatDocuments
from tilth.jobs.base import Base
from tilth.jobs.recipe import Recipe
from tilth.tokenizer.hf_format import END_OF_TEXT
from tilth.tokenizer.templates import ChatTemplate, choose_template


def template_of(recipe: Recipe, base: Base | None) -> ChatTemplate | None:
    """The chat template of a recipe; None where it has none. RecipeError when the tokenizer lacks what it writes."""
    if recipe.data.chat is None:
        return None
    template = choose_template(recipe.data.chat.template, base.chat_template if base else None)
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
