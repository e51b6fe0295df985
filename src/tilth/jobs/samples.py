"""Texts that a model writes while it learns: `sample` of a recipe, as its objective has the model asked."""

from __future__ import annotations

from collections.abc import Callable

from tilth.core.rundir import Event, SampleRecord
from tilth.generate.text import TextOptions, generate_texts
from tilth.jobs.base import Base
from tilth.jobs.chats import format_of
from tilth.jobs.recipe import Recipe
from tilth.model.wrapped import AnyModel
from tilth.tokenizer import Tokenizer

WriteSamples = Callable[[AnyModel, int], list[Event]]


def samples_of(recipe: Recipe, base: Base | None, tokenizer: Tokenizer) -> WriteSamples | None:
    """Writes the samples of a step. With `data.chat` each prompt is a user's message, and an empty one is none; a
    masked language model writes nothing: None.

    DataError when the chat template does not take a prompt.
    """
    if recipe.train.traits.looks_both_ways:
        return None
    asked, ends = _asked(recipe, base, tokenizer)
    options = TextOptions(recipe.sample.max_new_tokens, sampling=recipe.sample, stop_ids=ends)

    def write(model: AnyModel, step: int) -> list[Event]:
        return [
            SampleRecord(step, prompt, generate_texts(model, tokenizer, read, options)[0]) for prompt, read in asked
        ]

    return write


def _asked(
    recipe: Recipe, base: Base | None, tokenizer: Tokenizer
) -> tuple[list[tuple[str, str | list[int]]], frozenset[int]]:
    """Each prompt with what the model reads for it, and the ids that end what it writes."""
    prompts, chat = recipe.sample.prompts, format_of(recipe, base) if recipe.data.chat else None
    if chat is None:
        return [(prompt, prompt) for prompt in prompts], frozenset()
    with chat.encoder(tokenizer) as encoder:
        said = [prompt for prompt in prompts if prompt.strip()]
        asked = [(prompt, encoder.prompt([{"role": "user", "content": prompt}])) for prompt in said]
        return [*asked], frozenset(encoder.stop_ids())
