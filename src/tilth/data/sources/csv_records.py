"""CSV records out of lines, by the rules of the standard library's `csv` module.

Why not that module itself: it refuses cells of more than 131,072 characters unless a limit is changed for the whole
process, it does not say on which line a record begins, and it takes text, so that one wrong byte would lose the file.
The tests compare this reader with it, record by record.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tilth.data.sources import streams
from tilth.data.sources.swallowed import Sizes

_LOOKED_AT = 1 << 20  # bytes
_TALL = 100  # lines of a row
_TALL_AMONG_ONES, _ONES_FROM = 10, 200  # the same behind so many rows, each of which has had exactly one line
_FLAT = 1.1  # lines that rows have on the average, where nearly all have one
_FLAT_FROM = 10  # rows
_HELD = 20  # rows, or `streams.LARGEST_BLOCK` bytes, that wait until it is known how many lines rows have


def with_line_feeds(pieces: Iterable[bytes]) -> tuple[Iterator[bytes], bool]:
    """The pieces, with a line feed for each carriage return where these alone end the lines, as on old Macs and in some
    exports of today; and whether they do: of the first megabyte some do, and no line feed stands outside of quotes.
    """
    rest, held = iter(pieces), list[bytes]()
    while sum(map(len, held)) < _LOOKED_AT and (piece := next(rest, b"")):
        held.append(piece)
    outside = b"".join(held).split(b'"')[::2]
    alone = any(b"\r" in part for part in outside) and not any(b"\n" in part for part in outside)
    whole = itertools.chain(held, rest)
    return _ended_by_feeds(whole) if alone else whole, alone


def _ended_by_feeds(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """With line feeds for the carriage returns outside of quotes; what stands in quotes stays."""
    quotes = 0
    for piece in pieces:
        parts = piece.split(b'"')
        yield b'"'.join(p if (quotes + n) % 2 else p.replace(b"\r", b"\n") for n, p in enumerate(parts))
        quotes += len(parts) - 1


@dataclass(slots=True)
class Record:
    """One record: its cells as bytes, and the number of the line on which it begins.

    `cells` is empty for a blank line. `lines` are those that it spans. `too_long` is the length of a record that was
    left out, `open_quote` that of a last one whose quote is never closed.
    """

    line: int
    cells: list[bytes] = field(default_factory=list)
    lines: int = 1
    too_long: int = 0
    open_quote: int = 0


class Heights:
    """How many lines the rows of a file take, and which take in so many that a stray quote may have swallowed rows.

    Attributes:
        sizes: in lines, of those that can be used and did not.
    """

    def __init__(self) -> None:
        self.sizes, self._odd = Sizes(usual=1), 0

    def judged(self, rows: Iterable[Record], columns: int) -> Iterator[tuple[Record, bool]]:
        """The records, each with whether it spans a hundred lines or more in a file whose rows have one, but for one in
        ten; or ten and more, behind hundreds of which none had a second. One of the first ten waits for that, with
        those behind it, until ten others are known.
        """
        held, size = list[Record](), 0
        for record in rows:
            if held:
                held.append(record)
                size += sum(map(len, record.cells))
                others = self.sizes.rows + sum(_is_row(each, columns) and each.lines < _TALL for each in held)
                if others >= _FLAT_FROM or len(held) >= _HELD or size > streams.LARGEST_BLOCK:
                    yield from self._settled(held, columns)
                    held, size = [], 0
            elif self.sizes.rows < _FLAT_FROM and record.lines >= _TALL and _is_row(record, columns):
                held.append(record)
            else:
                yield record, _is_row(record, columns) and self._is_odd(record)
        yield from self._settled(held, columns)

    def _settled(self, held: list[Record], columns: int) -> Iterator[tuple[Record, bool]]:
        for record in held:
            if _is_row(record, columns) and record.lines < _TALL:
                self.sizes.usable(record.lines)
        yield from [(r, r.lines >= _TALL and _is_row(r, columns) and self._is_odd(r)) for r in held]

    def _is_odd(self, record: Record) -> bool:
        rows, lines = self.sizes.rows, self.sizes.total
        flat = rows >= _FLAT_FROM and lines <= _FLAT * rows and self._odd * 10 <= rows
        tall = _TALL_AMONG_ONES if rows >= _ONES_FROM and lines == rows else _TALL
        if record.lines >= tall and flat:
            self._odd += 1
            return True
        self.sizes.usable(record.lines)
        return False


def _is_row(record: Record, columns: int) -> bool:
    """Whether it can be used: it has a cell for each column, or is a blank line."""
    return not (record.too_long or record.open_quote) and len(record.cells) in (0, columns)


def records(lines: Iterable[tuple[int, bytes | int]], separator: bytes) -> Iterator[Record]:
    """The records of numbered lines (see `streams.lines`), with cells between `separator` (one byte)."""
    reader: _QuotedRecord | None = None
    for number, line in lines:
        if isinstance(line, int):  # a monster: what it belonged to is gone with it
            begun, height, size = (reader.line, reader.lines, reader.size) if reader else (number, 0, 0)
            yield Record(begun, lines=height + 1, too_long=size + line)
            reader = None
        elif b'"' not in line:
            if reader is not None:
                reader.within(line)
                continue
            line = line.removesuffix(b"\r")
            yield Record(number, line.split(separator) if line else [])
        else:
            reader = reader or _QuotedRecord(number, separator)
            reader.feed(line)
            if not reader.open:
                yield reader.record()
                reader = None
    if reader is not None:
        yield Record(reader.line, lines=reader.lines, open_quote=reader.size)


def ends(lines: Iterable[bytes], separator: bytes) -> Iterator[bool]:
    """Of each line whether a record ends with it."""
    reader: _QuotedRecord | None = None
    for line in lines:
        if b'"' in line:
            reader = reader or _QuotedRecord(0, separator)
            reader.feed(line)
            reader = reader if reader.open else None
        elif reader is not None:
            reader.within(line)
        yield reader is None


class _QuotedRecord:
    """Puts one record together from the lines that it spans.

    As in the `csv` module, a quote opens a cell only as its first byte, two quotes within are one, and what follows the
    closing quote up to the separator belongs to the cell as it is.
    """

    def __init__(self, line: int, separator: bytes) -> None:
        self.line, self.lines, self.size, self.open = line, 0, 0, False
        self.cells: list[bytes] = []
        self._separator = separator
        self._cell = bytearray()  # the quoted one that is open; of short lines, a list would take many times as much

    def feed(self, line: bytes) -> None:
        """Takes one more line; afterwards `open` says whether the record goes on."""
        self.lines += 1
        self.size += len(line) + 1
        at = 0
        if self.open:
            self._cell += b"\n"
            at = self._quoted(line, 0)
        while at <= len(line) and not self.open:
            if line.startswith(b'"', at):
                at = self._quoted(line, at + 1)
            else:
                at = self._plain(line, at)
        self._forget_if_too_long()

    def record(self) -> Record:
        """What was put together, once it is no longer `open`."""
        if self.size > streams.LONGEST_LINE:
            return Record(self.line, lines=self.lines, too_long=self.size)
        return Record(self.line, self.cells, self.lines)

    def within(self, line: bytes) -> None:
        """Takes one more line, without a quote, while a quoted cell is open."""
        self.lines += 1
        self.size += len(line) + 1
        self._cell += b"\n"
        self._cell += line
        self._forget_if_too_long()

    def _forget_if_too_long(self) -> None:
        if self.size > streams.LONGEST_LINE:  # only its end is looked for, so that its tail is not taken for rows
            self.cells, self._cell = [], bytearray()

    def _plain(self, line: bytes, at: int) -> int:
        """Takes bytes up to the next separator, closes the cell; returns where the next begins."""
        end = line.find(self._separator, at)
        last = end < 0
        end = len(line) if last else end
        self._cell += line[at:end].removesuffix(b"\r") if last else line[at:end]
        self.cells.append(bytes(self._cell))
        self._cell.clear()
        return end + 1

    def _quoted(self, line: bytes, at: int) -> int:
        """Takes bytes up to the closing quote; when the line ends first, the cell stays open."""
        while True:
            quote = line.find(b'"', at)
            if quote < 0:
                self._cell += line[at:]
                self.open = True
                return len(line) + 1
            if not line.startswith(b'""', quote):
                self._cell += line[at:quote]
                self.open = False
                return self._plain(line, quote + 1)
            self._cell += line[at : quote + 1]
            at = quote + 2
