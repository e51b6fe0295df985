"""Files of rows, JSON Lines and CSV: one row, one document, and a count of the rows that are none.

    read_jsonl(intake, pieces)       one JSON object a line
    read_csv(intake, pieces)         comma or tab separated, with quoted cells that may hold line ends

A row that cannot be used is dropped with its rule and its place, and the rest goes on; when too many cannot, the file
is not what the recipe thinks, and `Tally` stops the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources import streams
from tilth.data.sources.csv_records import Record, records
from tilth.data.sources.inputs import split_suffixes
from tilth.data.sources.intake import Intake, Note, without_surrogates

_JUDGED_FROM = 100  # rows; a share of fewer says little
_JUDGED_EVERY = 10_000


class Tally:
    """Counts rows, good and bad, and raises when the bad ones are too many."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._rows = 0
        self._bad: list[Note] = []  # the first few
        self._bad_rows = 0

    def good(self) -> None:
        """One more row that can be used (or that is empty, which is no fault)."""
        self._rows += 1
        self._look()

    def bad(self, locator: str, note: Note) -> Outcome:
        """One more row that cannot be used; its outcome."""
        self._rows += 1
        self._bad_rows += 1
        if len(self._bad) < 3:
            self._bad.append(note)
        self._look()
        return self._intake.drop(locator, note)

    def _look(self) -> None:
        # The share is judged at the file's end; now and then before, so that a large wrong file stops early.
        if self._rows % _JUDGED_EVERY == 0 or (self._rows == _JUDGED_FROM and self._bad_rows == _JUDGED_FROM):
            self.judge()

    def judge(self) -> None:
        """Raises DataError when all rows are bad, or more than `max_bad_rows` of at least 100."""
        limit = self._intake.config.max_bad_rows
        too_many = self._rows >= _JUDGED_FROM and self._bad_rows > limit * self._rows
        if not too_many and not (self._rows and self._bad_rows == self._rows and limit < 1):
            return
        first = "; ".join(f"{note.detail} ({note.rule})" for note in self._bad)
        raise DataError(
            f"{self._intake.item.path}: {self._bad_rows} of {self._rows} rows cannot be used. The first: {first}",
            f"check `format:` and `field: {self._intake.config.field}`, mend the file, or raise `max_bad_rows:` "
            f"(now {limit:g})",
        )


def read_jsonl(intake: Intake, pieces: Iterable[bytes]) -> Iterator[Outcome]:
    """The outcomes of a JSON Lines file, line by line."""
    tally = Tally(intake)
    for number, line in streams.lines(pieces):
        locator = f"{intake.item.locator}:{number}"
        if isinstance(line, int):
            yield tally.bad(locator, too_long(locator, line))
        elif not line.strip():
            tally.good()
            yield intake.drop(locator, Note("empty", "0", f"{locator}: no text"))
        else:
            text, notes = intake.decode(line, locator)
            found = _field(text, intake.config.field, locator)
            if isinstance(found, Note):
                yield tally.bad(locator, found)
                continue
            tally.good()
            found, lone = without_surrogates(found, locator)
            yield intake.from_text(locator, found, *notes, *lone)
    tally.judge()


def _field(line: str, field: str, locator: str) -> str | Note:
    """The text that a JSON line holds, or why it holds none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Note("not_json", "", f"{locator}: {str(error) or 'nested too deep'}")
    if not isinstance(value, dict):
        return Note("no_field", type(value).__name__, f"{locator}: the line holds {type(value).__name__}, no keys")
    if field not in value:
        keys = ", ".join(map(repr, list(value)[:8])) or "none"
        return Note("no_field", "", f"{locator}: no {field!r}; the keys are {keys}")
    if not isinstance(value[field], str):
        kind = type(value[field]).__name__
        return Note("not_text", kind, f"{locator}: {field!r} holds {kind}, not a text")
    return str(value[field])


def read_csv(intake: Intake, pieces: Iterable[bytes]) -> Iterator[Outcome]:
    """The outcomes of a CSV file (tab separated when its suffix is `.tsv`); its first record names the columns."""
    separator = b"\t" if split_suffixes(intake.item.path.name)[0] == ".tsv" else b","
    rows = records(streams.lines(pieces), separator)
    header = next(rows, None)
    if header is None:
        return
    columns = _columns(intake, header)
    column = columns.index(intake.config.field)
    tally = Tally(intake)
    for record in rows:
        locator = f"{intake.item.locator}:{record.line}"
        if record.open_quote > streams.LONGEST_LINE:
            raise DataError(
                f"{intake.item.path}:{record.line}: a quote is opened here and never closed; "
                f"it takes in all the rest of the file ({record.open_quote} bytes)",
                "mend that row: double the quotes within a cell, and put the cell into quotes",
            )
        fault = _fault(record, len(columns), locator)
        if fault is not None:
            yield tally.bad(locator, fault)
        else:
            tally.good()
            yield intake.from_bytes(locator, record.cells[column] if record.cells else b"")
    tally.judge()


def _columns(intake: Intake, header: Record) -> list[str]:
    field, path = intake.config.field, intake.item.path
    columns = [cell.decode("utf-8", "replace").strip() for cell in header.cells]
    if columns.count(field) == 1:
        return columns
    shown = ", ".join(map(repr, columns[:20])) or "none"
    if field in columns:
        raise DataError(f"{path}:{header.line}: two columns are called {field!r}", "rename one of them in the file")
    semicolons = "; the cells look separated by ';', which must be ',' (or a tab in a .tsv)" if ";" in shown else ""
    raise DataError(
        f"{path}:{header.line}: no column {field!r}; the columns are {shown}",
        f"name the column that holds the text with `field:`{semicolons}",
    )


def _fault(record: Record, columns: int, locator: str) -> Note | None:
    if record.too_long:
        return too_long(locator, record.too_long)
    if record.open_quote:
        size = str(record.open_quote)
        return Note("open_quote", size, f"{locator}: a quote is opened and never closed, {size} bytes to the end")
    if record.cells and len(record.cells) != columns:
        return Note("cells", str(len(record.cells)), f"{locator}: {len(record.cells)} cells, the header has {columns}")
    return None


def too_long(locator: str, length: int) -> Note:
    """The note on a line or row that is beyond what is held in memory."""
    return Note("too_long", str(length), f"{locator}: {length} bytes, more than {streams.LONGEST_LINE} are not read")
