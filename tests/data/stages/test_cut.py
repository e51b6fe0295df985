"""Sentences where a reader would end them, and documents cut there without losing a character."""

from __future__ import annotations

import sysconfig
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from tests.data.stages.helpers import OneStage, check_the_contract, grows_linearly, run, said, stage, texts_of
from tilth.core.errors import RecipeError
from tilth.data.stages.cut import _PARAGRAPH, CUT_STAGES
from tilth.data.stages.sentences import sentence_starts


def made(**options: Any) -> OneStage:
    return stage(CUT_STAGES, "cut", options)


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in pairwise([0, *sentence_starts(text), len(text)])]


@pytest.mark.parametrize(
    "marked",
    [  # a bar where a sentence ends
        "He came. |She went! |Did it rain? |Yes… |It did.",
        "Dr. Smith met Mrs. Jones at 5 p.m. on Monday. |They talked.",
        "We met at 5 p.m. |The rain had stopped.",
        "J. R. R. Tolkien wrote it. |C. S. Lewis read it.",
        "Take vitamin C. |The dose is small.",
        "The U.S. Army left the U.S. |In May it came back.",
        "Pi is 3.14159. |Version 2.0.1 is out. |See example.com for more.",
        "See Fig. 3, Vol. II and pp. 12-14. |No. 7 won.",
        "He said no. |Then he left. |It was art. |The fig. |She ate it.",
        "Apples, pears, etc. |They were ripe. |Smith et al. (2020) disagree.",
        "Acme Inc. makes soap; Beta Ltd. Manchester does not.",
        "Some fruit, e.g. Apples, i.e. Malus, cf. Pears vs. Plums.",
        '"Go!" he said. |"Really?" she asked. |"Yes." |They went.',
        "“Stop.” |‘Why?’ |(It was late.) |He stopped.",
        "«Non!» |Il partit. |¿Qué? |¡Nada!",
        "Well... maybe not. |Hmm... |Maybe. |Wait.... |What?!",
        "Yahoo! is a site. |It is old.",
        "1. First point. |It is short.\n|2. Second point.\n\n|3. Third.",
        "It ended in 1945. |Then came peace.",
        "A line that is\nwrapped here. |Another\none.",
        "A heading\n\n|text that follows\n \t\n|    and indented code",
        "It ends.\n|    Indented line.",
        "今日は雨です。|明日は？|「はい。」|彼は言った！|終わり",
        "यह है। |वह था।",
        "هل هذا؟ |نعم.",
        "No border at the end.  ",
        "",
        ".",
        "... |The rest",
        "Jr. and Sr. went to Main St. |There they parted. |Sam Jr. Smith stayed.",
        "He has a Ph.D. |She has an M.D. from Yale.",
        "Emphasis *ends here.* |_New_ one. |[1] A note. |#5 is next.",
        "x = foo.bar() and y. z is lower",
    ],
)
def test_sentences_end_where_a_reader_ends_them(marked: str) -> None:
    assert "|".join(sentences(marked.replace("|", ""))) == marked


@given(st.text(st.sampled_from("aA .!?\n\t\"'1。」…Dr")))
def test_sentences_are_the_text(text: str) -> None:
    starts = sentence_starts(text)
    assert "".join(sentences(text)) == text
    assert starts == sorted(set(starts)) and all(0 < start < len(text) for start in starts)


def test_a_heading_stays_with_what_it_stands_above() -> None:
    text = "One is one. Two is two.\n\nThe third part\n\nThree is three. Four is four.\n"
    cut = made(characters=48, min_characters=8)
    assert texts_of(run(cut, [text])[0]) == [text[:25], text[25:]]
    headings = "A heading\n\n" * 8  # nothing else in reach: the cut is behind one of them
    pieces = texts_of(run(cut, [headings])[0])
    assert len(pieces) > 1 and all(piece.endswith("\n\n") for piece in pieces)


TEXT = "One is one. Two is two.\n\n    Three is three.\nFour is four. Five is five.\n\nSix."


def test_documents_are_cut_at_paragraphs_or_sentences() -> None:
    paragraphs = made(characters=60, min_characters=4)
    assert texts_of(run(paragraphs, [TEXT])[0]) == [
        "One is one. Two is two.\n\n",
        "    Three is three.\nFour is four. Five is five.\n\nSix.",
    ]
    assert said(paragraphs, TEXT) == [("cut", "changed", "2")]
    even = made(characters=50, min_characters=4, at="sentence")
    assert texts_of(run(even, [TEXT])[0]) == [
        "One is one. Two is two.\n\n    Three is three.\n",
        "Four is four. Five is five.\n\nSix.",
    ]
    assert said(made(characters=len(TEXT), min_characters=1), TEXT) == []


def test_pieces_say_what_they_are_part_of() -> None:
    first, second = run(made(characters=60, min_characters=4), [TEXT])[0].documents
    assert first.meta == second.meta == {"group": "id0", "part_of": "id0"}
    assert first.locator == "place:0#characters=0-25" and first.doc_id != second.doc_id


def test_no_tail_is_too_short() -> None:
    text = "One is one. Two is two. So."
    pieces = texts_of(run(made(characters=25, min_characters=10, at="sentence"), [text])[0])
    assert pieces == ["One is one. ", "Two is two. So."]  # not "So." alone, though "One … two." has room


def test_cuts_within_sentences_and_words_are_counted_apart() -> None:
    wordy = made(characters=16, min_characters=4)
    assert texts_of(run(wordy, ["one two three four five six"])[0]) == ["one two three ", "four five six"]
    assert said(wordy, "one two three four five six") == [
        ("cut", "changed", "2"),
        ("cut/within_sentence", "changed", "1"),
    ]
    assert said(wordy, "x" * 40) == [("cut", "changed", "3"), ("cut/within_word", "changed", "2")]


def test_a_cut_parts_no_accent_and_no_emoji() -> None:
    pieces = texts_of(run(made(characters=16, min_characters=4), ["x" * 15 + "e\u0301" + "y" * 9])[0])
    assert pieces == ["x" * 15, "e\u0301" + "y" * 9]
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f466"
    pieces = texts_of(run(made(characters=16, min_characters=4), ["x" * 13 + family + "y" * 9])[0])
    assert pieces[0] == "x" * 13 and pieces[1].startswith(family)


@given(
    st.text(st.sampled_from("aA.  \n\n。é\u0301")) | st.lists(st.sampled_from([TEXT, "word ", "x" * 30])).map("".join),
    st.integers(16, 60),
    st.integers(1, 8),
    st.sampled_from(["paragraph", "sentence"]),
)
def test_pieces_cover_the_text(text: str, characters: int, least: int, at: str) -> None:
    if not text:
        return
    pieces = texts_of(run(made(characters=characters, min_characters=least, at=at), [text])[0])
    assert "".join(pieces) == text
    assert all(len(piece) <= characters for piece in pieces)
    assert len(pieces) == 1 or all(len(piece) >= least for piece in pieces)


@given(st.lists(st.text(st.sampled_from("aA. \n。"), min_size=1, max_size=80), max_size=4))
def test_cut_holds_to_the_contract(texts: list[str]) -> None:
    for at in ("paragraph", "sentence"):
        check_the_contract(made(characters=20, min_characters=5, at=at), texts)


def test_real_text_is_cut_at_its_borders() -> None:
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))]
    outcomes = run(made(characters=4000), sources)
    assert ["".join(texts_of(outcome)) for outcome in outcomes] == sources
    rules = [verdict.rule for outcome in outcomes for verdict in outcome.verdicts]
    assert rules.count("cut") > 100 and rules.count("cut/within_word") == 0


def test_a_piece_begins_with_its_indentation() -> None:
    pieces = texts_of(run(made(characters=20, min_characters=2, at="sentence"), ["Words end here.\n    Indented."])[0])
    assert pieces == ["Words end here.\n", "    Indented."]


@pytest.mark.slow
@pytest.mark.parametrize("at", ["paragraph", "sentence"])
def test_ten_megabytes_of_one_character_take_linear_time(at: str) -> None:
    for unit in ("a", ".", " ", "\n", ". ", ".\n", '"', ". A", "。", "\n ", "Dr. ", "A. ", "1. "):
        assert grows_linearly(made(at=at, characters=2000), unit, 20_000), unit
    pieces = run(made(at=at), ["a" * 10_000_000])[0].documents
    assert len(pieces) == 500


@pytest.mark.parametrize("at", ["paragraph", "sentence"])
def test_six_million_line_ends_take_no_memory_for_each(at: str) -> None:
    text = "One.\n" + "\n" * 6_000_000 + "Two."
    pieces = texts_of(run(made(at=at, characters=1_000_000), [text])[0])
    assert "".join(pieces) == text and len(pieces) == 7


@given(st.text(st.sampled_from("a\n\n \t\r\x0b\x1c\x85\u2028\u3000.")))
def test_a_paragraph_ends_with_each_run_of_blank_lines(text: str) -> None:
    spans, place = list[tuple[int, int]](), 0
    while (start := text.find("\n", place)) >= 0:  # by letters: white space, up to the last line end in it
        place = start + 1
        while regex.match(r"\s", text[place : place + 1]):
            place += 1
        end = text.rfind("\n", start, place) + 1
        spans += [(start, end)] if end > start + 1 else []
    assert [match.span() for match in _PARAGRAPH.finditer(text)] == spans
    assert {end for _, end in spans} - {len(text)} <= set(sentence_starts(text))


def test_options_that_leave_no_room_are_refused() -> None:
    with pytest.raises(RecipeError, match="min_characters: 20 is more than half of characters") as caught:
        made(characters=30, min_characters=20)
    assert "at most 15" in caught.value.remedy
