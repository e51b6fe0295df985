"""Reads one input, as a stream: bytes in, outcomes (documents and verdicts) out.

    read_input(item, config) -> Iterator[Outcome]
        text, markdown, python    a document is the file, a paragraph or a line
        jsonl, csv                a document is a row: see rows.py
        arrow, parquet            a document is a row: see arrow_rows.py
        hub_stream                a Parquet file that is not on this machine: see hub_stream.py
        synthetic_…               what a model wrote: see synthetic/answers.py
        topics, module            the embedded Python documentation: see python_docs.py

Memory stays bounded by the longest line or the largest block (see streams.py). Locators: `path` for a whole file,
`path#bytes=a-b` (first and last byte, as HTTP counts them) for a part of a large one, `path:line` for the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from tilth.data.document import Outcome
from tilth.data.sources import python_docs, streams
from tilth.data.sources.arrow_rows import read_arrow, read_parquet
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.hub_stream import read_hub_stream
from tilth.data.sources.inputs import Input
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.rows import read_csv, read_jsonl, too_long
from tilth.data.sources.synthetic.answers import read_synthetic

_WHOLE_FILE_READERS: dict[str, Callable[[Intake], Iterator[Outcome]]] = {
    # formats that are not read from their beginning to their end, or have a shape of their own
    "arrow": read_arrow,
    "parquet": read_parquet,
    "hub_stream": read_hub_stream,
    "synthetic_documents": read_synthetic,
    "synthetic_pairs": read_synthetic,
}


def read_input(item: Input, config: SourceConfig) -> Iterator[Outcome]:
    """What one file of a source holds, in its order: the same for the same bytes, always.

    Raises:
        DataError: the file cannot be opened, changed since it was listed, is truncated or damaged, lacks the column, or
            has more unusable rows than `config.max_bad_rows` allows. Outcomes may have been given out before.
    """
    intake = Intake(item, config)
    if item.kind in _WHOLE_FILE_READERS:
        yield from _WHOLE_FILE_READERS[item.kind](intake)
        yield from intake.rest()
        return
    if item.kind in ("topics", "module"):
        yield from python_docs.read(intake)
        return
    text = streams.as_utf8(streams.read_pieces(item))
    if text.bom:
        intake.note_file(Note("bom", text.bom, f"{item.locator}: byte order mark removed"))
    if item.kind == "jsonl":
        yield from read_jsonl(intake, text.pieces)
    elif item.kind == "csv":
        yield from read_csv(intake, text.pieces)
    elif config.document == "file":
        yield from _whole(intake, text)
    elif config.document == "paragraph":
        yield from _paragraphs(intake, text.pieces)
    else:
        yield from _lines(intake, text.pieces)
    yield from intake.rest()


def _whole(intake: Intake, text: streams.Utf8) -> Iterator[Outcome]:
    """The file as one document; one beyond `LARGEST_BLOCK` as several, each a run of whole lines."""
    name = intake.item.locator
    parts = streams.blocks(text.pieces)
    ahead = list(itertools.islice(parts, 2))
    if len(ahead) == 1 and isinstance(ahead[0], bytes):
        yield intake.from_bytes(name, ahead[0])
        return
    start = text.offset
    for number, part in enumerate(itertools.chain(ahead, parts), 1):
        length = part if isinstance(part, int) else len(part)
        locator = f"{name}#bytes={start}-{start + length - 1}"
        start += length
        if isinstance(part, int):
            yield intake.drop(locator, too_long(locator, part))
        else:
            why = f"{locator}: part {number} of a file of more than {streams.LARGEST_BLOCK} bytes, cut at a line border"
            yield intake.from_bytes(locator, part, Note("cut", str(length), why))


def _lines(intake: Intake, pieces: Iterable[bytes]) -> Iterator[Outcome]:
    for number, line in streams.lines(pieces):
        locator = f"{intake.item.locator}:{number}"
        if isinstance(line, int):
            yield intake.drop(locator, too_long(locator, line))
        else:
            yield intake.from_bytes(locator, line.removesuffix(b"\r"))


def _paragraphs(intake: Intake, pieces: Iterable[bytes]) -> Iterator[Outcome]:
    """Runs of lines between blank ones; a run beyond `LARGEST_BLOCK` is cut."""
    held: list[bytes] = []
    first = size = 0

    def close(*notes: Note) -> Iterator[Outcome]:
        if held:
            yield intake.from_bytes(f"{intake.item.locator}:{first}", b"\n".join(held).removesuffix(b"\r"), *notes)
            held.clear()

    for number, line in streams.lines(pieces):
        if isinstance(line, int):
            yield from close()
            locator = f"{intake.item.locator}:{number}"
            yield intake.drop(locator, too_long(locator, line))
            continue
        if not line or line.isspace():
            yield from close()
            continue
        if held and size + len(line) > streams.LARGEST_BLOCK:
            why = f"{intake.item.locator}:{first}: a paragraph of more than {streams.LARGEST_BLOCK} bytes, cut"
            yield from close(Note("cut", str(size), why))
        if not held:
            first, size = number, 0
        held.append(line)
        size += len(line) + 1
    yield from close()
