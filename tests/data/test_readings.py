"""What pages and PDFs put into words hides no item, and what is found stands where it is said to."""

from __future__ import annotations

import html
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.planted import words_of
from tests.data.test_decontaminate import index_of
from tilth.data import words
from tilth.data.leaks.decontaminate import DecontaminateConfig
from tilth.data.leaks.readings import read
from tilth.data.tasks.leaks import Detector


def test_what_is_read() -> None:
    texts = [
        "plain, as it is",
        "a&nbsp;b&#160;c &eacute;t&#xe9; &lt;&nix; A&B",
        "so\u00adft har\u00ad\n  dly z\u200bero",
    ]
    assert read(texts).texts == ["plain, as it is", "a\u00a0b\u00a0c été <&nix; A&B", "soft hardly zero"]
    twice = read(["x", "exam-\n  ple and well-\r\nknown 1-\n2 a -\nb \u2010 dot\u2010\nted", "-\n"])
    assert twice.texts[3:] == ["example and wellknown 1-\n2 a -\nb \u2010 dotted"]
    assert (twice.rows.tolist(), twice.first, twice.last.tolist()) == ([0, 1, 2, 1], 3, [0, 3, 2])


PIECES = [
    "ab",
    "c",
    "é",
    "-",
    "\n",
    "-\n",
    "-\n",
    " ",
    "&nbsp;",
    "&amp;",
    "&#233;",
    "\u00ad",
    "\u00ad\n",
    "\u200b",
    "x1",
]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=4))
def test_words_of_a_reading_stand_where_it_is_said(texts: list[str]) -> None:
    readings = read(texts)
    found = words.find_words(readings.texts)
    numbers = np.repeat(np.arange(len(readings.texts)), np.diff(found.offsets))
    starts, ends = readings.places(numbers, found.starts, found.ends)
    for n, number in enumerate(numbers.tolist()):
        word = readings.texts[number][found.starts[n] : found.ends[n]]
        there = texts[readings.rows[number]][starts[n] : ends[n]]
        if number >= readings.first:
            there = re.sub("- *\n *", "", there)
        assert re.sub("\u00ad *\n *|\u00ad|\u200b", "", html.unescape(there)) == word
    within = numbers[1:] == numbers[:-1]
    assert (ends[:-1][within] <= starts[1:][within]).all()


def divided(text: str, by: str) -> str:
    return re.sub(r"(\w\w)(\w\w)", rf"\1{by}\2", text)


ITEM = " ".join(words_of(random.Random(3), 30))


@pytest.mark.parametrize(
    "brought",
    [
        divided(ITEM, "-\n"),
        divided(ITEM, "\u2010\r\n   "),
        divided(ITEM, "\u00ad"),
        divided(ITEM, "\u00ad\n"),
        divided(ITEM, "\u200b"),
        divided(ITEM, "&shy;"),
        ITEM.replace(" ", "&nbsp;"),
        ITEM.replace(" ", "\ufeff&#160;"),
    ],
)
def test_an_item_is_found_whole_and_so_is_text_in_such_an_item(brought: str) -> None:
    for item, text in ((ITEM, brought), (brought, ITEM), (brought, brought)):
        found = Detector(index_of([item], 13, 8), DecontaminateConfig()).find([f"& {'x ' * 9}{text} y"])
        assert found.rows.tolist() in ([0], [0, 0]) and max(found.covered.tolist()) >= 30
        best = found.worst()
        assert (best.starts.tolist(), best.ends.tolist()) == ([20], [20 + len(text)])


def test_a_hyphen_that_belongs_to_a_word_hides_nothing_at_a_line_end() -> None:
    item = "it is a well-known fact that nobody who is twenty-one has ever been seen to read an exam-\nple of this kind"
    detector = Detector(index_of([item], 13, 8), DecontaminateConfig())
    texts = [item, item.replace("well-", "well-\n").replace("-\nple", "ple"), item.replace("-\n", "").replace("-", " ")]
    assert detector.flags(texts) == [True] * 3
    assert detector.find(texts).worst().covered.tolist() == [23, 23, 23]
