"""Tokens: what is one, by examples written out, by a plain reading of the rules, and beside spaCy."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilth.data.stages.english_tokens import CHARACTERS, find_tokens, sentence_terminals, token_hashes

find_tokens([""])  # the tables are made at the first call, which would miss hypothesis' deadline
MARKS = st.text(st.sampled_from("ab Z9.,-'’()\"#…/:=+%$<\n\u0301漢é"), max_size=30)
TEXTS = st.lists(st.one_of(MARKS, st.text(max_size=20)), max_size=5)


def cut(text: str) -> list[str]:
    found = find_tokens([text])
    return [text[start:end] for start, end in zip(found.starts, found.ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ('("Well, yes!")', '( " Well , yes ! " )'),
        ("it's don't they're John's o'clock can't", "it 's do n't they 're John 's o'clock ca n't"),
        ("it’s DON'T", "it ’s DO N'T"),
        ("a well-known COVID-19 2020-21 word--word", "a well - known COVID-19 2020 - 21 word -- word"),
        ("wait... and....so … end.", "wait ... and .... so … end ."),
        ("Mr. J. Smith of the U.S. (e.g. him) left.", "Mr. J. Smith of the U.S. ( e.g. him ) left ."),
        ("1,000 3.14 10:30 5% $5 and/or a=b end.Start", "1,000 3.14 10:30 5 % $ 5 and / or a = b end . Start"),
        ("see http://example.org/a-b?c=d, now", "see http://example.org/a-b?c=d , now"),
        ("snake_case f(x) --flag @user #tag -5", "snake_case f(x ) --flag @user # tag -5"),
        ("- item\n• other", "- item • other"),
        (" ... ( . ' '' ", "... ( . ' ' '"),
        ("", ""),
    ],
)
def test_what_is_a_token(text: str, tokens: str) -> None:
    assert cut(text) == tokens.split()


@given(TEXTS)
@example(["", "x", "", "lone \ud800", "."])
def test_tokens_are_all_that_is_no_white_space(texts: list[str]) -> None:
    found = find_tokens(texts)
    for number, text in enumerate(texts):
        span = slice(found.offsets[number], found.offsets[number + 1])
        at = found.text_starts[number]
        pieces = [text[s - at : e - at] for s, e in zip(found.starts[span], found.ends[span], strict=True)]
        assert "".join(pieces) == "".join(text.split())
        assert all(pieces) and not any(piece.split() != [piece] for piece in pieces)
    assert len(found.starts) == found.offsets[-1] == len(found.kinds)


@given(TEXTS)
def test_tokens_do_not_depend_on_the_batch(texts: list[str]) -> None:
    found, hashes = find_tokens(texts), token_hashes(find_tokens(texts))
    spelling: dict[int, str] = {}
    for number, text in enumerate(texts):
        alone, span = find_tokens([text]), slice(found.offsets[number], found.offsets[number + 1])
        assert (found.starts[span] - found.text_starts[number]).tolist() == alone.starts.tolist()
        assert (found.kinds[span]).tolist() == alone.kinds.tolist()
        assert hashes[span].tolist() == token_hashes(alone).tolist()
        for value, token in zip(hashes[span].tolist(), cut(text), strict=True):
            assert spelling.setdefault(value, token) == token
    assert len(set(spelling.values())) == len(spelling)


@pytest.mark.slow
def test_long_runs_take_linear_time() -> None:
    began = time.process_time()
    for text in ("(" * 2_000_000, "." * 2_000_000 + "a", "a-" * 1_000_000, "'" * 1_000_000 + "s", "://" * 500_000):
        find_tokens([text])
    assert time.process_time() - began < 60


def test_there_are_no_characters_where_the_table_is_not_filled() -> None:
    outside = set(range(0x110000)).difference(*CHARACTERS)
    assert {unicodedata.category(chr(code))[0] for code in outside} == {"C"}


def test_sentences_end_with_marks_of_all_scripts() -> None:
    assert set(".?!。？！।؟") <= set(map(chr, sentence_terminals().tolist()))
    assert not set(",;:…") & set(map(chr, sentence_terminals().tolist()))
