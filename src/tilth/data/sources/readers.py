"""The readers by kind of file, all but those of archives, which read by these what is in them (files.py).

    READERS[kind](intake, content, extractors)      the outcomes of one file

What a reader is given differs. A line of the table says so by the function around it: the text, recoded to UTF-8
(`_text`), or its pieces (`_pieces`); a file that can be sought in (`_seekable`); or no content at all, because it opens
what it reads itself (`_alone`). What belongs to few recipes is imported when such a file is met.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from tilth.data.document import Outcome, Rows
from tilth.data.extract import Extractors
from tilth.data.sources import python_docs, streams
from tilth.data.sources.arrow_rows import read_arrow
from tilth.data.sources.content import Content
from tilth.data.sources.cookie import as_declared
from tilth.data.sources.inputs import READ_BY, Kind, split_suffixes
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.languages import LANGUAGES, PROSE_LIKE
from tilth.data.sources.pages import read_page
from tilth.data.sources.parquet_rows import read_parquet
from tilth.data.sources.python_questions import read_questions
from tilth.data.sources.rows import read_csv, read_json, read_jsonl
from tilth.data.sources.texts import read_text

Outcomes = Iterator[Outcome | Rows]
Reader = Callable[[Intake, Content, Extractors], Outcomes]


def _text(read: Callable[[Intake, streams.Utf8], Outcomes]) -> Reader:
    def reader(intake: Intake, content: Content, extractors: Extractors) -> Outcomes:
        yield from read(intake, _opened(intake, content))
        yield from intake.rest()

    return reader


def _pieces(read: Callable[[Intake, Iterable[bytes]], Outcomes]) -> Reader:
    return _text(lambda intake, text: read(intake, text.pieces))


def _seekable(read: Callable[[Intake, BinaryIO], Outcomes]) -> Reader:
    def reader(intake: Intake, content: Content, extractors: Extractors) -> Outcomes:
        with content.whole() as file:
            yield from read(intake, file)
        yield from intake.rest()

    return reader


def _alone(read: Callable[[Intake], Outcomes]) -> Reader:
    return lambda intake, content, extractors: read(intake)


def _opened(intake: Intake, content: Content) -> streams.Utf8:
    """The text of a file, with what is known of its language and its encoding noted in the intake."""
    kind = intake.item.kind
    if kind in READ_BY["document"]:
        # By its name, and where that tells nothing by `format:`.
        suffix, said = split_suffixes(intake.item.path.name)[0], kind if kind in ("python", "code") else ""
        code = LANGUAGES.get(suffix, "" if suffix in PROSE_LIKE else said)
        intake.meta = {"code": code} if code else {}
    text = streams.as_utf8(content.pieces)
    if text.bom:
        intake.note_file(Note("bom", text.bom, f"{intake.item.locator}: byte order mark removed"))
        intake.undecoded.marked = True
    elif intake.meta.get("code") == "python":
        text = as_declared(intake, text)
    first = next(text.pieces, b"")
    intake.undecoded.begin(first[: 64 << 10])
    intake.undecoded.packed = not content.in_place
    return replace(text, pieces=itertools.chain([first], text.pieces))


def _warc(intake: Intake, content: Content, extractors: Extractors) -> Outcomes:
    from tilth.data.sources.web.documents import read_warc

    with content.whole() as file:
        yield from read_warc(intake, file, extractors.of, in_place=content.in_place)
    yield from intake.rest()


def _hub_stream(intake: Intake) -> Outcomes:
    from tilth.data.sources.hub_stream import read_hub_stream

    return read_hub_stream(intake)


def _synthetic(intake: Intake) -> Iterator[Outcome]:
    from tilth.data.sources.synthetic.answers import read_synthetic

    return read_synthetic(intake)


READERS: dict[Kind, Reader] = {
    "text": _text(read_text),
    "markdown": _text(read_text),
    "python": _text(read_text),
    "code": _text(read_text),
    "jsonl": _pieces(read_jsonl),
    "csv": _pieces(read_csv),
    "json": _pieces(read_json),
    "parquet": _seekable(read_parquet),
    "arrow": _seekable(read_arrow),
    "html": read_page,
    "pdf": read_page,
    "warc": _warc,
    "hub_stream": _alone(_hub_stream),
    "synthetic_documents": _alone(_synthetic),
    "synthetic_pairs": _alone(_synthetic),
    "topics": _alone(python_docs.read),
    "module": _alone(python_docs.read),
    "questions": _alone(read_questions),
}
