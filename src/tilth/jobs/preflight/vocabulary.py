"""Ids: what the tokenizer has, what the model has rows for, what the text uses, and what ends an answer.

vocabulary_facts(recipe, base, tokenizer, used, rows) -> VocabularyFacts
ends_of(recipe, base, tokenizer) -> set of ids       which end an answer, by the template of the recipe
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import read_json
from tilth.data.batches.batch import Int64
from tilth.jobs.base import Base
from tilth.jobs.chats import template_of
from tilth.jobs.recipe import Recipe
from tilth.tokenizer import Tokenizer
from tilth.tokenizer.chat import ChatEncoder
from tilth.tokenizer.templates import BUILT_IN, ChatTemplate

_NAME = re.compile(r"<\|[A-Za-z0-9_ ]{1,60}\|>")
_JOB = re.compile(r"\b((?:bos|eos|unk|sep|pad|cls|mask)_token)\b")


@dataclass(frozen=True, slots=True)
class VocabularyFacts:
    """How tokenizer, model and text fit.

    Attributes:
        tokenizer: ids that it has.
        model: rows of the embeddings; None where it cannot be had.
        checkpoint: rows that the checkpoint has; None where there is none.
        largest: the largest id that occurs; -1: none does.
        unused: ids that the training text never has.
        new_tokens: names of the tokens that the recipe adds to the checkpoint's.
        new_used: how often they occur in training text.
        rowless: ids of the checkpoint's own tokenizer that occur, and that the checkpoint has no row for.
        lacking: how many rows more that tokenizer needs than the checkpoint has: they are made at random.
        not_special: what the chat template writes like special tokens, and the tokenizer has not.
        end: name of the token that ends a text.
        generation_ends: ids that end an answer by the checkpoint's generation_config.json; None: it does not say.
        end_differs: whether the tokenizer's end is not among them.
    """

    tokenizer: int
    model: int | None
    checkpoint: int | None
    largest: int
    unused: int
    new_tokens: tuple[str, ...]
    new_used: int
    rowless: int
    lacking: int
    not_special: tuple[str, ...]
    end: str
    generation_ends: tuple[int, ...] | None
    end_differs: bool


def vocabulary_facts(
    recipe: Recipe, base: Base | None, tokenizer: Tokenizer, used: Int64, largest: int, rows: int | None
) -> VocabularyFacts:
    """How the ids fit.

    Args:
        used: how often each id occurs in the training text.
        largest: the largest id of all splits.
        rows: of the model's embeddings.
    """
    new, rowless, lacking = [], 0, 0
    if base is not None:
        own = replace(base, special_tokens=()).tokenizer
        new = [name for name in tokenizer.special_tokens if name not in own.special_tokens]
        lacking = max(0, own.vocab_size - base.config.vocabulary)
        rowless = int((used[base.config.vocabulary : own.vocab_size] > 0).sum())
    ends = _generation_ends(base)
    return VocabularyFacts(
        tokenizer=tokenizer.vocab_size,
        model=rows,
        checkpoint=base.config.vocabulary if base else None,
        largest=largest,
        unused=int((used[: tokenizer.vocab_size] == 0).sum()),
        new_tokens=tuple(new),
        new_used=int(sum(used[tokenizer.special_tokens[name]] for name in new)),
        rowless=rowless,
        lacking=lacking,
        not_special=_not_special(template_of(recipe, base), tokenizer),
        end=next(name for name, place in tokenizer.special_tokens.items() if place == tokenizer.end_of_text),
        generation_ends=ends,
        end_differs=ends is not None and tokenizer.end_of_text not in ends,
    )


def ends_of(recipe: Recipe, base: Base | None, tokenizer: Tokenizer) -> set[int]:
    """The ids that end an answer."""
    template, chat = template_of(recipe, base), recipe.data.chat
    if template is None or chat is None:
        return {tokenizer.end_of_text}
    with ChatEncoder(tokenizer, template, variables=chat.variables, today=chat.today) as encoder:
        return encoder.stop_ids()


def _not_special(template: ChatTemplate | None, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Names in a template that look like special tokens and are none, and jobs that no token has. The built-in ones
    were looked at before: they do without.
    """
    if template is None or template.name in BUILT_IN:
        return ()
    known = {name for names in BUILT_IN.values() for name in names if name in template.source}
    spelled = known | set(_NAME.findall(template.source))
    spelled -= {*tokenizer.special_tokens, *tokenizer.added_names.others}
    return (*sorted(spelled), *sorted(set(_JOB.findall(template.source)) - set(tokenizer.named_tokens)))


def _generation_ends(base: Base | None) -> tuple[int, ...] | None:
    """What generation_config.json says of a Hugging Face folder; DataError where it says it in no known way."""
    path = base.place.about / "generation_config.json" if base else None
    if path is None or not path.exists():
        return None
    try:
        said: Any = read_json(path)
    except IntegrityError as error:
        raise DataError(error.message, "get the file again, or remove it") from error
    ends = said.get("eos_token_id") if isinstance(said, Mapping) else said
    if ends is None:
        return None
    found = ends if isinstance(ends, list) else [ends]
    if not all(isinstance(end, int) for end in found):
        raise DataError(f"{path}: eos_token_id is {ends!r:.80}", "it is an id, or a list of them: get the file again")
    return tuple(found)
