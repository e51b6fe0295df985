"""Files that hold no plain text: what is said of them, and that nobody is told to read them as text."""

from __future__ import annotations

import pytest

from tilth.core.no_text import _BY_SUFFIX, text_of_it, what_it_is
from tilth.core.words import left_out
from tilth.data.sources.inputs import kind_of

PATTERN = 'text is read from such by a pattern: {path: "*.srt", format: text}'


def test_no_kind_that_tilth_reads_is_among_them() -> None:
    assert not [suffix for suffix in _BY_SUFFIX if kind_of(f"a{suffix}")]


@pytest.mark.parametrize(("name", "said"), [("A/b.DOCX", "pandoc"), ("c.xlsx", "CSV"), ("d.JPG", "OCR"), ("e.mp3", "")])
def test_what_makes_text_of_it(name: str, said: str) -> None:
    assert said in (text_of_it(name) or "nothing") and what_it_is(name)


@pytest.mark.parametrize("name", ["a.srt", "README", "unpacked.epub/", "docx", ""])
def test_nothing_is_said_of_others(name: str) -> None:
    assert text_of_it(name) is None and what_it_is(name) is None


def test_files_that_were_left_out_are_each_told_their_way() -> None:
    rule = "list/unknown_suffix"
    assert left_out(rule, ["a.docx", "b.docx"], 3) == "a.docx, b.docx and 1 more; of .docx: `pandoc FILE -o FILE.md`"
    assert left_out(rule, ["a.png", "b.srt"], 2).endswith(f"`tesseract FILE FILE`); {PATTERN}")
    assert left_out(rule, ["b.srt"], 1) == f"b.srt; {PATTERN}"
    assert left_out("list/hidden", ["b.png"], 1) == "b.png"
