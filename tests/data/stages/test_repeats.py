"""Lines and paragraphs that a document repeats: counted by hand, removed, and what has to be repeated left alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.stages.helpers import OneStage, check_the_contract, cleaned, grows_linearly, run, said, stage, texts_of
from tilth.data.document import Document
from tilth.data.stages.repeats import REPEAT_STAGES
from tilth.data.stages.run import run_stage

LINE = "Share this page with all your friends"


def lines(**options: Any) -> OneStage:
    return stage(REPEAT_STAGES, "repeated_lines", options)


def paragraphs(**options: Any) -> OneStage:
    return stage(REPEAT_STAGES, "repeated_paragraphs", options)


def test_lines_may_stand_three_times_and_then_only_once() -> None:
    three, four = (f"{LINE}\nwords\n" * count for count in (3, 4))
    assert said(lines(), three) == []
    assert cleaned(lines(), four) == f"{LINE}\nwords\nwords\nwords\nwords\n"
    assert said(lines(), four) == [("repeated_lines", "changed", "3")]


def test_none_may_be_kept() -> None:
    text = f"a\n{LINE}\nb\n{LINE}  \n"
    assert cleaned(lines(most=1, keep="none"), text) == "a\nb\n"
    assert said(lines(most=1, keep="none"), f"{LINE}\n{LINE}") == [("repeated_lines", "dropped", "2")]
    assert said(paragraphs(min_characters=1, keep="none"), "B\n\nB") == [("repeated_paragraphs", "dropped", "2")]


@pytest.mark.parametrize(
    "line",
    [
        *("}", "", "| --- | --- | --- | --- |", "=" * 40, f"    {LINE}", f"\t{LINE}", "2020 " * 9),
        *(
            ">>> formatter.input_digit(2)",
            "$ pip install something",
            "| a row of a table | 1 |",
            ".. code-block:: python",
        ),
        *("License: BSD-3-Clause", "Copyright: 2022 Somebody Ltd."),
    ],
)
def test_what_has_to_be_repeated_stays(line: str) -> None:
    text = f"{line}\nx\n" * 9
    assert cleaned(lines(), text) == text


def test_fenced_code_stays_whole() -> None:
    block = "```python\nfrom rich.console import Console\n\nconsole = Console()\n```\n"
    code = "\n".join([f"Example {n}\n\n{block}" for n in range(5)])
    assert cleaned(lines(), code) == code and cleaned(paragraphs(min_characters=10), code) == code
    boilerplate = code.replace("Example", f"{LINE}\nExample")
    assert cleaned(lines(), boilerplate) == f"{LINE}\n{code}", "around it lines go as ever"
    still_open = f"~~~~\n~~~\n{LINE}\n" + f"{LINE}\n" * 4
    assert cleaned(lines(), still_open) == still_open
    assert cleaned(lines(), f"``` a\n```\n{LINE}\n{LINE}\n{LINE}\n{LINE}\n") == f"``` a\n```\n{LINE}\n"


def test_indented_lines_go_when_asked_for() -> None:
    assert cleaned(lines(indented=True, most=1), f"  {LINE}\nx\n{LINE}\n") == f"  {LINE}\nx\n"
    assert cleaned(paragraphs(indented=True, min_characters=1), "  P\n\nP\n\nq") == "  P\n\nq"


def test_shorter_ones_go_when_asked_for() -> None:
    assert cleaned(lines(min_characters=3, most=1), "end\nx\nend\nx\nno\nno") == "end\nx\nx\nno\nno"


PARAGRAPH = "This paragraph is long enough to count as one,\nover two lines in all."


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        (f"{PARAGRAPH}\n\nb\n\n{PARAGRAPH}\n\nc\n", f"{PARAGRAPH}\n\nb\n\nc\n", 1),
        (f"{PARAGRAPH}\n\nb\n \n\n{PARAGRAPH} \n", f"{PARAGRAPH}\n\nb\n", 1),
        (f"{PARAGRAPH}\n\n{PARAGRAPH}\n\n{PARAGRAPH}", PARAGRAPH, 2),
        (f"\n\n{PARAGRAPH}\n\n{PARAGRAPH}\n\n", f"\n\n{PARAGRAPH}\n\n", 1),
    ],
)
def test_paragraphs_go_with_the_blank_lines_before_them(before: str, after: str, value: int) -> None:
    assert cleaned(paragraphs(), before) == after
    assert said(paragraphs(), before) == [("repeated_paragraphs", "changed", str(value))]


PIECES = st.lists(st.sampled_from(["Aa", "Bb", " Aa", "Aa ", "", " ", "}", "Cc\nDd"]), max_size=14)
FENCED = st.lists(st.sampled_from(["Aa", "Bb", "", "```", "~~~~", " ```x", "Cc: d"]), max_size=14)


@given(PIECES, st.integers(1, 3), st.booleans())
def test_lines_are_those_counted_by_hand(pieces: list[str], most: int, none: bool) -> None:
    text = "\n".join(pieces)
    written = text.split("\n")
    keys = [line.rstrip() if re.match(r"\S{2}", line) else None for line in written]
    kept = [
        line
        for number, (line, key) in enumerate(zip(written, keys, strict=True))
        if key is None or keys.count(key) <= most or (not none and key not in keys[:number])
    ]
    options = {"most": most, "min_characters": 2, "keep": "none" if none else "first"}
    if text:
        assert cleaned(lines(**options), text) == ("\n".join(kept) or None)


@given(
    st.lists(PIECES.map("\n".join) | PIECES.map("\n\n".join) | FENCED.map("\n".join), max_size=4),
    st.sampled_from(["first", "none"]),
)
def test_they_hold_to_the_contract(texts: list[str], keep: str) -> None:
    for made in (lines, paragraphs):
        for indented in (False, True):
            check_the_contract(made(most=1, min_characters=2, keep=keep, indented=indented), texts)


@given(PIECES)
def test_paragraphs_that_stay_stay_in_order_and_apart(pieces: list[str]) -> None:
    text = "\n\n".join(pieces)
    left = cleaned(paragraphs(min_characters=2), text) or ""
    before, after = ([p.strip() for p in re.split(r"\n\s*\n", t) if p.strip()] for t in (text, left))
    assert list(dict.fromkeys(before)) == list(dict.fromkeys(after))


def test_source_files_are_left_alone() -> None:
    text = f"{LINE}\n" * 9
    code = Document("id", text, "source", "lib/os.py", meta={"code": "python"})
    (outcome,) = run_stage(lines(), [code])
    assert outcome.documents == (code,) and outcome.verdicts == ()
    (outcome,) = run_stage(lines(code=True), [code])
    assert outcome.documents[0].text == f"{LINE}\n"


def test_six_million_line_ends_take_no_memory_for_each() -> None:
    text = f"{PARAGRAPH}\n" + "\n" * 6_000_000 + f"{PARAGRAPH}\n"
    (outcome,) = run(paragraphs(), [text])
    assert texts_of(outcome) == [f"{PARAGRAPH}\n"]


@pytest.mark.slow
def test_ten_megabytes_take_linear_time() -> None:
    for made in (lines(), paragraphs()):
        for unit in ("a", " ", "\n", "\n ", "a\n", f"{LINE}\n", f"{PARAGRAPH}\n\n", "\n\na"):
            assert grows_linearly(made, unit, 250_000), unit
        run(made, ["a" * 10_000_000])
