"""`gopher_quality`: is it prose? Rae et al. 2021 (arXiv:2112.11446), appendix A.1.1, "Quality filtering".

The paper's rules, in the order in which they are tried; the first that is broken drops the document:

    too_few_words, too_many_words       50 to 100,000 words
    words_too_short, words_too_long     mean length of words 3 to 10 characters
    too_many_hashes, too_many_ellipses  hash signs, and ellipses, at most 0.1 to a word
    too_many_bullets                    at most 90% of lines start with a bullet
    too_many_ellipsis_lines             at most 30% of lines end with an ellipsis
    too_few_alphabetic_words            at least 80% of words hold a letter
    too_few_stop_words                  at least two different ones of: the be to of and that have with

The paper does not say what a word is. Here it is a token of `english_tokens.py`; for the number and the length of words
only tokens count that are not marks alone. Decision 16 says why, and how datatrove's verdicts compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from tilth.core.config import Config
from tilth.data.stages.base import Kind, Result
from tilth.data.stages.english_tokens import LETTER, SOUND, Tokens, find_tokens
from tilth.data.stages.limits import Array, FirstBroken, Limit, in_pieces, per_text, ratio

ELLIPSES = ("...", "…")
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


def _one_token(word: str) -> str:
    if len(find_tokens([word]).starts) != 1:
        raise ValueError(f"{word!r} is not one word, and can never be found | give single words")
    return word


def _one_character(mark: str) -> str:
    if len(mark) != 1 or mark.isspace():
        raise ValueError(f"{mark!r} is not one character | give characters that can begin a line")
    return mark


class GopherQualityOptions(Config):
    """Options of `gopher_quality`; null switches a rule off."""

    min_words: Limit = 50
    """The fewest words that a document may have."""
    max_words: Limit = 100_000
    """The most words that a document may have."""
    min_word_length: Limit = 3
    """The least mean length of its words, in characters."""
    max_word_length: Limit = 10
    """The greatest mean length of its words, in characters."""
    max_symbols_per_word: Limit = 0.1
    """The most hash signs, and the most ellipses, for each token."""
    max_bullet_lines: Limit = 0.9
    """The greatest share of lines that start with a bullet."""
    max_ellipsis_lines: Limit = 0.3
    """The greatest share of lines that end with an ellipsis."""
    min_alphabetic_words: Limit = 0.8
    """The least share of tokens with a letter in them."""
    min_stop_words: Limit = 2
    """The fewest different stop words."""
    stop_words: tuple[Annotated[str, AfterValidator(_one_token)], ...] = Field(default=STOP_WORDS, strict=False)
    """The stop words, as they are written: case counts."""
    bullets: tuple[Annotated[str, AfterValidator(_one_character)], ...] = Field(default=("•", "-"), strict=False)
    """What is a bullet at the start of a line."""


def quality(texts: Sequence[str], options: GopherQualityOptions) -> list[Result]:
    """Drops what is no prose; value: the figure that broke the rule."""
    found = FirstBroken("gopher_quality", texts)
    tokens = find_tokens(texts)
    total = np.diff(tokens.offsets)
    is_word = (tokens.kinds & SOUND) != 0
    words = per_text(is_word, tokens.offsets)
    found.below("too_few_words", words, options.min_words)
    found.above("too_many_words", words, options.max_words)
    length = ratio(per_text((tokens.ends - tokens.starts) * is_word, tokens.offsets), words)
    found.below("words_too_short", length, options.min_word_length)
    found.above("words_too_long", length, options.max_word_length)
    found.above("too_many_hashes", ratio(found.each(lambda text: text.count("#")), total), options.max_symbols_per_word)
    found.above("too_many_ellipses", ratio(found.each(_ellipses), total), options.max_symbols_per_word)
    _line_rules(found, options)
    alphabetic = ratio(per_text((tokens.kinds & LETTER) != 0, tokens.offsets), total)
    found.below("too_few_alphabetic_words", alphabetic, options.min_alphabetic_words)
    found.below("too_few_stop_words", _stop_words(tokens, options.stop_words), options.min_stop_words)
    return found.results()


def _ellipses(text: str) -> int:
    return sum(map(text.count, ELLIPSES))


def _line_rules(found: FirstBroken, options: GopherQualityOptions) -> None:
    if (most := options.max_bullet_lines) is not None:
        found.above("too_many_bullets", found.each(partial(_bullet_lines, bullets=options.bullets, limit=most)), most)
    if (most := options.max_ellipsis_lines) is not None:
        found.above("too_many_ellipsis_lines", found.each(partial(_ellipsis_lines, limit=most)), most)


def _bullet_lines(text: str, bullets: tuple[str, ...], limit: float) -> float:
    """The share of lines that start with a bullet; 0 where there are not even bullets enough for the limit."""
    lines = text.splitlines()
    if sum(map(text.count, bullets)) <= limit * len(lines):
        return 0
    return sum(line.lstrip().startswith(bullets) for line in lines) / len(lines)


def _ellipsis_lines(text: str, limit: float) -> float:
    """The share of lines that end with an ellipsis; 0 where there are not even ellipses enough for the limit."""
    lines = text.splitlines()
    if _ellipses(text) <= limit * len(lines):
        return 0
    return sum(line.rstrip().endswith(ELLIPSES) for line in lines) / len(lines)


def _stop_words(tokens: Tokens, stop_words: Sequence[str]) -> Array:
    """How many of the words each text holds."""
    lengths = tokens.ends - tokens.starts
    found = np.zeros(len(tokens.offsets) - 1, np.int64)
    of_length = {length: np.flatnonzero(lengths == length) for length in set(map(len, stop_words))}
    for word in set(stop_words):
        at = of_length[len(word)]
        for place, character in enumerate(word):
            at = at[tokens.codes[tokens.starts[at] + place] == ord(character)]
        found[np.searchsorted(tokens.offsets, at, side="right") - 1] += 1  # numpy adds once where a text stands twice
    return found


GOPHER_QUALITY = Kind(GopherQualityOptions, in_pieces(quality))
