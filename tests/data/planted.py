"""Texts with a known Jaccard similarity of their word n-grams."""

from __future__ import annotations

import random

_SYLLABLES = ["ka", "lo", "mi", "ter", "su", "ran", "po", "vi", "den", "qu", "as", "el"]


def words_of(draw: random.Random, count: int) -> list[str]:
    """Words of a made-up language: so many of them that n-grams do not repeat by chance."""
    return ["".join(draw.choices(_SYLLABLES, k=draw.randint(2, 4))) for _ in range(count)]


def planted(draw: random.Random, similarity: float, n: int = 5, count: int = 300) -> list[str]:
    """A text, and one that shares so many of its n-grams: a run of words in the middle was written anew.

    Of S n-grams each, those that touch the rewritten run differ: J = (S - d) / (S + d), so d = S (1 - J) / (1 + J).
    """
    words = words_of(draw, count)
    differ = round((count - n + 1) * (1 - similarity) / (1 + similarity))
    run = differ - n + 1  # so many rewritten words make `differ` other n-grams
    if run < 1:
        raise ValueError(f"a similarity of {similarity} needs a longer text")
    start = draw.randint(n, count - n - run)
    other = [*words[:start], *(word + "x" for word in words[start : start + run]), *words[start + run :]]
    return [" ".join(words), " ".join(other)]
