"""`fineweb`: is it more than a list or a menu? Penedo et al. 2024 (arXiv:2406.17557), section 3.6.

    no_text                no line with anything in it
    few_ended_lines        the share of lines that end with terminal punctuation: at least 0.12
    short_lines            the share of lines of at most 30 characters: at most 0.67
    duplicate_characters   the share of characters that are in lines that stood before: at most 0.01
    new_lines              line feeds for each token: at most 0.3

Tried in this order; the first that is broken drops the document, and blank lines do not count. The code that made the
data set (datatrove's FineWebQualityFilter) differs from the paper in two constants, and its own are the defaults:
duplicates, 0.1 in the paper, and `new_lines`, which the paper does not have.

Terminal punctuation is Unicode's property Sentence_Terminal: the marks of all scripts that end a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from pydantic import Field

from tilth.core.config import Config
from tilth.data.stages.base import Kind, Result
from tilth.data.stages.english_tokens import find_tokens, sentence_terminals
from tilth.data.stages.limits import FirstBroken, Limit, in_pieces, ratio


class FinewebOptions(Config):
    """Options of `fineweb`; null switches a rule off."""

    min_ended_lines: Limit = 0.12
    """The least share of lines that end with terminal punctuation."""
    max_short_lines: Limit = 0.67
    """The greatest share of short lines."""
    short_line: int = Field(default=30, ge=0)
    """The characters that a short line has at most."""
    max_duplicate_characters: Limit = 0.01
    """The greatest share of characters in lines that stood before; line feeds do not count."""
    max_new_lines: Limit = 0.3
    """The most line feeds for each token."""


def fineweb(texts: Sequence[str], options: FinewebOptions) -> list[Result]:
    """Drops lists, menus and boilerplate; value: the figure that broke the rule."""
    found = FirstBroken("fineweb", texts)
    shares = np.array([_shares(text, options.short_line) for text in texts])
    found.drop("no_text", shares[:, 0].astype(np.int64), shares[:, 0] == 0)
    found.below("few_ended_lines", shares[:, 1], options.min_ended_lines)
    found.above("short_lines", shares[:, 2], options.max_short_lines)
    found.above("duplicate_characters", shares[:, 3], options.max_duplicate_characters)
    left = np.flatnonzero(found.alive)
    if options.max_new_lines is not None and len(left):
        tokens = np.ones(len(texts))
        tokens[left] = np.diff(find_tokens([texts[d] for d in left.tolist()]).offsets)
        found.above("new_lines", ratio(found.each(lambda text: text.count("\n")), tokens), options.max_new_lines)
    return found.results()


def _shares(text: str, short: int) -> tuple[float, float, float, float]:
    """How many lines there are; of them, the shares that end, that are short, and of characters that stood before."""
    every = text.split("\n")
    lines = [line for line in every if line and not line.isspace()]
    if not lines:
        return 0, 0, 0, 0
    count, ends = len(lines), _ends()
    ended = sum(line[-1] in ends for line in lines)
    lengths = list(map(len, lines))
    different = set(lines)
    again = sum(lengths) - sum(map(len, different)) if len(different) < count else 0
    few = sum(length <= short for length in lengths)
    return count, ended / count, few / count, again / (len(text) - len(every) + 1)


@cache
def _ends() -> frozenset[str]:
    return frozenset(map(chr, sentence_terminals().tolist()))


FINEWEB = Kind(FinewebOptions, in_pieces(fineweb))
