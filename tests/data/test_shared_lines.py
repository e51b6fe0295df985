"""Lines that documents share: arrays against lines cut by Python and counted in dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilth.data.document import Document, make_doc_id
from tilth.data.duplicates.shared_lines import SharedLinesConfig, find_pieces, remove

find_pieces([], SharedLinesConfig())  # the tables are made at the first call


def documents(*texts: str, **meta: str) -> list[Document]:
    return [Document(make_doc_id("s", f"{n}"), text, "s", f"{n}", meta=meta) for n, text in enumerate(texts)]


def lines_by_hand(text: str, config: SharedLinesConfig) -> list[tuple[int, int]]:
    """Where the lines (or paragraphs) that may go begin and end."""
    spans, place = [], 0
    for line in text.split("\n"):
        spans.append((place + len(line) - len(line.lstrip()), place + len(line.rstrip()), line[:1].isspace()))
        place += len(line) + 1
    if config.unit == "paragraph":
        joined: list[tuple[int, int, bool]] = []
        fresh = True
        for start, end, indented in spans:
            if start >= end:
                fresh = True
            elif fresh:
                joined.append((start, end, indented))
                fresh = False
            else:
                joined[-1] = (joined[-1][0], end, joined[-1][2])
        spans = joined
    return [
        (start, end)
        for start, end, indented in spans
        if end - start >= config.characters
        and any(c.isalpha() for c in text[start:end])
        and (config.indented or not indented)
    ]


texts = st.lists(st.text(st.sampled_from("ab1 -\t\n\né漢\u2028\ud800"), max_size=30), max_size=4)
configs = st.builds(
    SharedLinesConfig,
    characters=st.integers(1, 4),
    unit=st.sampled_from(["line", "paragraph"]),
    indented=st.booleans(),
)


@given(texts, configs)
@example(["", "a\n", "\n\n a\nb\n\nab"], SharedLinesConfig(characters=1, unit="paragraph"))
def test_pieces_stand_where_python_finds_them(given_texts: list[str], config: SharedLinesConfig) -> None:
    found = find_pieces(documents(*given_texts), config)
    expected = [(n, *span) for n, text in enumerate(given_texts) for span in lines_by_hand(text, config)]
    assert list(zip(*(column.tolist() for column in found[:3]), strict=True)) == expected
    spelled: dict[int, str] = {}
    for row, start, end, value in zip(*(column.tolist() for column in found), strict=True):
        assert spelled.setdefault(value, given_texts[row][start:end]) == given_texts[row][start:end]
    assert len(set(spelled.values())) == len(spelled), "one line has one hash"


@given(texts, configs, st.randoms())
def test_removing_takes_whole_lines(given_texts: list[str], config: SharedLinesConfig, draw: object) -> None:
    for text in given_texts:
        spans = [span for span in lines_by_hand(text, config) if draw.random() < 0.5]  # type: ignore[attr-defined]
        gone = {n for start, end in spans for n in range(text.count("\n", 0, start), text.count("\n", 0, end) + 1)}
        kept = [line for n, line in enumerate(text.split("\n")) if n not in gone]
        left = remove(text, [start for start, _ in spans], [end for _, end in spans])
        assert left == ("\n".join(kept) if spans else text)


def test_source_files_are_left_alone() -> None:
    line = "from __future__ import annotations\n"
    assert len(find_pieces(documents(line), SharedLinesConfig()).rows) == 1
    assert len(find_pieces(documents(line, code="python"), SharedLinesConfig()).rows) == 0
    assert len(find_pieces(documents(line, code="python"), SharedLinesConfig(code=True)).rows) == 1
    mixed = [*documents(line, code="python"), *documents(line)]
    assert find_pieces(mixed, SharedLinesConfig()).rows.tolist() == [1]


@pytest.mark.parametrize("text", ["x" * 30, "x" * 30 + "\n", "a\n" + "x" * 30, "x" * 30 + "\nb"])
def test_the_end_of_a_text_stays_as_it_was(text: str) -> None:
    start = text.index("x")
    left = remove(text, [start], [start + 30])
    assert left in ("", "a", "b") and left == text.replace("x" * 30, "").strip("\n")


def test_hashes_do_not_depend_on_the_batch() -> None:
    line = "a line of text that is long enough"
    hashes = [find_pieces(documents("q\n" * n + line), SharedLinesConfig()).hashes for n in range(5)]
    assert len(np.unique(np.concatenate(hashes))) == 1
