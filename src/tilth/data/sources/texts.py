"""Text files: a document is the file, a paragraph or a line.

read_text(intake, text)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from tilth.data.document import Outcome, Rows
from tilth.data.sources import streams
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.plain import plain_lines
from tilth.data.sources.rows import too_long

_DIVIDE = "divide it into lines, or take it away"


def read_text(intake: Intake, text: streams.Utf8) -> Iterator[Outcome | Rows]:
    """The outcomes of a text file, by what the recipe calls a document."""
    document = intake.config.document
    if document == "file":
        return _whole(intake, text)
    return _paragraphs(intake, text.pieces) if document == "paragraph" else _lines(intake, text.pieces)


def _whole(intake: Intake, text: streams.Utf8) -> Iterator[Outcome]:
    """The file as one document; one beyond `LARGEST_BLOCK` as several, each a run of whole lines."""
    name = intake.item.locator
    parts = streams.blocks(text.pieces)
    ahead = list(itertools.islice(parts, 2))
    if len(ahead) == 1 and isinstance(ahead[0], bytes):
        yield intake.from_bytes(name, ahead[0])
        return
    if len(ahead) == 1 and isinstance(ahead[0], int):
        yield intake.lose(name, too_long(name, ahead[0]), remedy=_DIVIDE)
        return
    start = text.offset
    for number, part in enumerate(itertools.chain(ahead, parts), 1):
        length = part if isinstance(part, int) else len(part)
        locator = f"{name}#bytes={start}-{start + length - 1}"
        start += length
        if isinstance(part, int):
            yield _too_long(intake, locator, part)
        else:
            why = f"{locator}: part {number} of a file of more than {streams.LARGEST_BLOCK} bytes, cut at a line border"
            yield intake.from_bytes(locator, part, Note("cut", str(length), why))


def _too_long(intake: Intake, locator: str, length: int) -> Outcome:
    """A line that is left out; it is told, as bad rows are."""
    note = too_long(locator, length)
    intake.unusable.take(1, note.detail, _DIVIDE)
    return intake.drop(locator, note)


def _lines(intake: Intake, pieces: Iterable[bytes]) -> Iterator[Outcome | Rows]:
    number = 1
    for block in streams.whole_lines(pieces):
        found = plain_lines(block) if isinstance(block, bytes) and intake.takes_rows else None
        if found is None:
            rows: Sequence[bytes | int] = [block] if isinstance(block, int) else streams.split_lines(block)
            yield from (_line(intake, row, n) for n, row in enumerate(rows, number))
            number += len(rows)
            continue
        yield from (_line(intake, b"", number + place) for place in found.blank.tolist())
        if len(found.texts):
            yield intake.rows(found.texts, (number + found.filled).tolist())
        number += len(found.blank) + len(found.filled)


def _line(intake: Intake, line: bytes | int, number: int) -> Outcome:
    locator = f"{intake.item.locator}:{number}"
    if isinstance(line, int):
        return _too_long(intake, locator, line)
    return intake.from_bytes(locator, line.removesuffix(b"\r"))


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
            yield _too_long(intake, locator, line)
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
