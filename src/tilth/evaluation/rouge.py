"""ROUGE-L: how much of a reference answer a written one has, by the longest row of words that both have in order.

    rouge_l(reference, written) -> float      the F-measure, 0 to 1

Lin 2004, equations 2 to 4 with beta 1, on the words of rouge-score without stemming: runs of a-z and 0-9 of the text in
lower case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[a-z0-9]+")


def words_of(text: str) -> list[str]:
    """The words that are compared."""
    return _WORD.findall(text.lower())


def rouge_l(reference: str, written: str) -> float:
    """F-measure of the longest common subsequence of words; 0 where either has none."""
    ours, theirs = words_of(written), words_of(reference)
    common = common_words(theirs, ours)
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def common_words(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, in time of the product of both lengths."""
    before = [0] * (len(other) + 1)
    for word in one:
        now = [0]
        for place, candidate in enumerate(other):
            now.append(before[place] + 1 if word == candidate else max(now[place], before[place + 1]))
        before = now
    return before[-1]
