"""ROUGE-L against rouge-score, and the longest common row of words against every one that there is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.evaluation.rouge import common_words, rouge_l

# What rouge-score 0.1.2 gives: RougeScorer(["rougeL"]).score(reference, written)["rougeL"].fmeasure
THEIRS = [
    (
        "Remove any common leading whitespace from every line in `text`.",
        "Remove any leading whitespace from the text.",
        0.7058823529411764,
    ),
    ("Return True if the object is a module.", "return true if the OBJECT is_a method", 0.875),
    ("obj, *, skipkeys=False, indent=None", "indent=None, obj", 0.5),
    ("the the the the", "the cat", 0.3333333333333333),
    ("Same as a ^= b.", "Abstract base class", 0.0),
    ("Größe des Feldes 3.5", "größe 3 5 felder", 0.7272727272727272),
    ("x", "", 0.0),
]


@pytest.mark.parametrize(("reference", "written", "theirs"), THEIRS)
def test_it_is_what_rouge_score_gives(reference: str, written: str, theirs: float) -> None:
    assert rouge_l(reference, written) == pytest.approx(theirs, abs=1e-12)


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_no_common_row_of_words_is_longer(one: str, other: str) -> None:
    rows = {row for size in range(len(one) + 1) for row in itertools.combinations(one, size)}
    theirs = {row for size in range(len(other) + 1) for row in itertools.combinations(other, size)}
    assert common_words(list(one), list(other)) == max(len(row) for row in rows & theirs)
