"""Files of rows, JSON Lines, JSON and CSV: one row, one document, and a count of the rows that are none.

    read_jsonl(intake, pieces)       one JSON object a line
    read_json(intake, pieces)        a list of objects or texts, objects one after another, or a list inside an object
    read_csv(intake, pieces)         separated by `separator:`, with quoted cells that may hold line ends

A row that cannot be used is dropped with its rule and its place, and the rest goes on; when too many cannot, the file
is not what the recipe thinks, and `Tally` (tally.py) stops the run.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tilth.core.faults import short
from tilth.core.words import plural
from tilth.data.document import Outcome, Rows
from tilth.data.sources import json_rows, streams
from tilth.data.sources.config import SEPARATORS
from tilth.data.sources.csv_records import Heights, Record, records, with_line_feeds
from tilth.data.sources.inputs import split_suffixes
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.losses import UnfitFileError
from tilth.data.sources.messages import BEYOND_TEXT
from tilth.data.sources.plain_json import plain_texts
from tilth.data.sources.shapes import Shape, conversation_in, shape_of
from tilth.data.sources.swallowed import FAR_LARGER, Sizes, beginnings
from tilth.data.sources.tally import NO_LINES, Tally, like

_SEPARATORS = ";\t|,"  # that exports write
_SEPARATOR_LINE = re.compile(rb'"?sep=([\x20-\x7e\t])"?\1*\r?', re.IGNORECASE)  # quoted and filled up by some
_BLANK_LINES = 100  # before the line that names the separator
_FEW_LINES = 8  # are not worth the call of a parser
_GO_ON = "`max_bad_rows: 1` takes what stands before it and goes on"
_BETWEEN = 2  # bytes, between two rows of a list
_MEND_JSON = "mend the file there (a comma, quote or bracket that is missing or too many)"
_MEND_CSV = "mend that row: double the quotes within a cell, and put the cell into quotes"


def read_jsonl(intake: Intake, pieces: Iterable[bytes]) -> Iterator[Outcome | Rows]:
    """The outcomes of a JSON Lines file, line by line; where nothing is to be said of lines, many documents at once."""
    tally, shape, number = Tally(intake), shape_of(intake.config), 1
    for block in streams.whole_lines(pieces):
        if isinstance(block, int):
            locator = f"{intake.item.locator}:{number}"
            yield tally.bad(locator, too_long(locator, block))
            number += 1
            continue
        for found in _of_block(tally, shape, block, number):
            yield found
            number += len(found) if isinstance(found, Rows) else 1
    tally.judge()


def _of_block(tally: Tally, shape: Shape, block: bytes, number: int, pieces: int = 16) -> Iterator[Outcome | Rows]:
    """What the lines of a block are, from the line `number` on; an odd line makes its piece slow, not all."""
    rows = _plain(tally.intake, shape, block, number)
    if rows is not None:
        tally.good(len(rows))
        yield rows
        return
    lines = streams.split_lines(block)
    each = -(-len(lines) // pieces)
    if shape.text is None or pieces == 1 or each < _FEW_LINES:
        yield from (_line(tally, shape, line, n) for n, line in enumerate(lines, number))
        return
    for first in range(0, len(lines), each):
        piece = b"\n".join(lines[first : first + each])
        yield from _of_block(tally, shape, piece, number + first, pieces=1)


def _plain(intake: Intake, shape: Shape, block: bytes, number: int) -> Rows | None:
    """The documents on the lines of a block, where nothing is to be said of any."""
    texts = plain_texts(block, shape.text) if shape.text is not None and intake.takes_rows else None
    return None if texts is None else intake.rows(texts, range(number, number + len(texts)))


def _line(tally: Tally, shape: Shape, line: bytes, number: int) -> Outcome:
    locator = f"{tally.intake.item.locator}:{number}"
    notes = []
    if line.startswith(codecs.BOM_UTF8):  # of a file that another was put behind
        line = line.removeprefix(codecs.BOM_UTF8)
        notes.append(Note("bom", "utf-8", f"{locator}: byte order mark removed"))
    if line.strip():
        return _json_row(tally, shape, line, locator, *notes)
    tally.good()
    return tally.intake.drop(locator, *notes, Note("empty", "0", f"{locator}: no text"))


def read_json(intake: Intake, pieces: Iterable[bytes]) -> Iterator[Outcome]:
    """The outcomes of a JSON file: the items of a list (or of the list at `records`), or one object."""
    tally, shape, number, sizes = Tally(intake), shape_of(intake.config), 0, Sizes()
    path = tuple(intake.config.records.split(".")) if intake.config.records else ()
    broken: json_rows.MalformedError | None = None
    counted = _Counted(pieces)
    found = json_rows.rows(counted, path)
    while True:
        locator = f"{intake.item.locator}#row={number + 1}"
        try:
            row = next(found, None)
        except json_rows.MalformedError as error:
            broken = error
            # A text, and more behind it, is no file of settings.
            of_many = bool(path) or number > 1 or (number == 1 and not tally.too_many_with(0))
            sizes.weigh(tally, _MEND_JSON)
            about = sizes.rows_in(size := counted.to_the_end() - error.at)
            yield _not_read(tally, error, size, number, about, of_many=of_many)
            break
        if row is None:
            break
        number += 1
        if isinstance(row, int):
            inside = "name the key under which its rows stand with `records:`" if number == 1 and not path else ""
            sizes.unusable(row, locator, note := too_long(locator, row))
            yield tally.bad(locator, note, remedy=inside)
        else:
            outcome = _json_row(tally, shape, row, locator)
            if bad := [Note(v.rule, v.value, v.detail) for v in outcome.verdicts if v.rule == "not_json"]:
                sizes.unusable(len(row), locator, bad[0], beginnings(row))
            else:
                sizes.usable(len(row) + _BETWEEN)
            yield outcome
    sizes.weigh(tally, _MEND_JSON)
    if path and not number and broken is None:
        place = intake.item.locator
        yield tally.bad(place, Note("no_records", "", f"{place}: nothing stands at {intake.config.records!r}"))
    # One object by itself may be anything, such as the settings of a program: it is counted.
    if path or number > 1 or (broken and broken.listed) or tally.misses_all:
        tally.judge()
    else:
        tally.tell()


class _Counted:
    """Pieces of a file, and how many bytes they have."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._size = iter(pieces), 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._size += len(piece)
            yield piece

    def to_the_end(self) -> int:
        """The bytes of all of them, those that nobody took too."""
        return self._size + sum(len(piece) for piece in self._pieces)


def _not_read(
    tally: Tally, error: json_rows.MalformedError, size: int, number: int, rows: int, *, of_many: bool
) -> Outcome:
    """The rest of a JSON file whose borders are wrong: so many bytes, behind `number` rows. Where a list ends with the
    file the file is damaged; else the rest counts for as many `rows` as fill it at the size of those before.

    Raises:
        UnfitFileError: these are too many, or in bytes more than any row may be.
    """
    intake = tally.intake
    about = f", about {plural(rows, 'row')} of the size of those before" if number and not error.cut else ""
    place = f"#row={number + 1}"
    cut = " (its list has no end: the file is cut off, or a quote or bracket is never closed)" if error.cut else ""
    said = f"{error}{cut}; what follows is not read ({plural(size, 'byte')}{about})"
    note = Note("not_json", str(size), f"{intake.item.locator}{place}: {said}")
    if error.cut:
        remedy = f"get the file again, or mend it there; {_GO_ON}"
        return intake.lose(intake.item.locator + place, note, remedy=remedy)
    lost = size > streams.LONGEST_LINE and intake.config.max_bad_rows < 1
    if (of_many or error.listed) and (lost or tally.too_many_with(rows)):
        raise UnfitFileError(
            f"{intake.item.path}{place}: {said}",
            f"{_MEND_JSON}; {_GO_ON}",
            "not_json",
        )
    outcome = tally.bad(intake.item.locator + place, note)
    if rows > 1 and (of_many or error.listed):
        tally.took_in(rows - 1, intake.item.locator + place, note, _MEND_JSON)
    return outcome


def _json_row(tally: Tally, shape: Shape, raw: bytes, locator: str, *before: Note) -> Outcome:
    text, notes = tally.intake.decode(raw, locator)
    try:
        value = _AS_SPELLED.decode(text) if shape.writes_numbers else json.loads(text)
    except (ValueError, RecursionError) as error:
        size = f", in {plural(len(raw), 'byte')}" if tally.intake.item.kind == "json" else ""  # it may be many rows
        fault = Note("not_json", "", f"{locator}: {str(error) or 'nested too deep'}{size}")
        return tally.bad(locator, fault, remedy=_of_whole_json(tally, raw) or _within_text(error))
    if isinstance(value, str) and tally.intake.item.kind == "json" and len(shape.columns) == 1:
        value = {shape.columns[0]: value}  # a list of texts
    if not isinstance(value, dict):
        kind = "float" if isinstance(value, float) else type(value).__name__
        fault = Note("no_field", kind, f"{locator}: it holds {kind}, no keys")
        return tally.bad(locator, fault, remedy=_of_whole_json(tally, raw))
    return shaped(tally, shape, value, locator, *before, *notes)


class _Spelled(float):
    """A number that is written as it stood there: a price of 1.10, or more digits than a float has."""

    __slots__ = ("_spelling",)
    _spelling: str

    def __new__(cls, spelling: str) -> _Spelled:
        number = super().__new__(cls, spelling)
        number._spelling = spelling
        return number

    def __repr__(self) -> str:
        return self._spelling


_AS_SPELLED = json.JSONDecoder(parse_float=_Spelled)


def _of_whole_json(tally: Tally, raw: bytes) -> str:
    """What to do where the first line of JSON Lines begins a list, or an object that goes on behind it."""
    begins = tally.intake.item.kind == "jsonl" and not tally.rows and (raw.lstrip()[:1] == b"[" or raw.strip() == b"{")
    return NO_LINES if begins else ""


def _within_text(error: Exception) -> str:
    """What to do about a fault within a text, where no comma, quote or bracket need be wrong."""
    said = str(error)
    if said.startswith("Invalid control character"):
        return "write a tab or line end within a text as `\\t` or `\\n` (or close the quote before it)"
    return "write a backslash within a text as `\\\\`" if said.startswith("Invalid \\") else ""


def shaped(tally: Tally, shape: Shape, row: Mapping[str, Any], locator: str, *notes: Note) -> Outcome:
    """The outcome of one row with its columns."""
    made = shape.make(row, locator)
    if isinstance(made, Note) and made.rule == BEYOND_TEXT:
        return tally.left_out(locator, made)
    if isinstance(made, Note):
        return tally.bad(locator, made, row)
    if made.text.strip():
        tally.good()
        tally.holds_more(locator, row, made.text)
    else:
        tally.empty(row)
    return tally.intake.from_text(locator, made.text, *notes, *made.notes, meta=made.meta)


def read_csv(intake: Intake, pieces: Iterable[bytes]) -> Iterator[Outcome]:
    """The outcomes of a CSV file; its first record, behind a line such as `sep=;`, names the columns."""
    pieces, alone = with_line_feeds(pieces)
    if alone:
        place = intake.item.locator
        intake.note_file(Note("line_ends", "cr", f"{place}: its lines end in carriage returns alone"))
    rows, header, separator = _begun(streams.lines(pieces), intake.config.separator, intake.item.path.name)
    if header is None:
        return
    shape, tally, heights = shape_of(intake.config), Tally(intake), Heights()
    if header.open_quote:
        _judge_the_rest(tally, header, heights.sizes.rows_in(header.lines))
    columns = _columns(intake, header, shape, separator)
    if isinstance(columns, Note):
        yield intake.lose(intake.item.locator, columns)
        return
    only = columns.index(shape.columns[0]) if intake.config.template is None and intake.config.map is None else None
    tallest = 0
    for record, odd in heights.judged(rows, len(columns)):
        locator = f"{intake.item.locator}:{record.line}"
        if (fault := _fault(record, len(columns), locator)) is not None:
            if record.open_quote:
                if intake.item.goes_on and record.lines <= FAR_LARGER * tallest:
                    break  # it closes behind the sample, most likely
                yield _open_quote(tally, heights.sizes, record, locator, fault)
                break
            heights.sizes.unusable(record.lines, locator, fault)
            yield tally.bad(locator, fault)
            continue
        tallest = max(tallest, record.lines)
        notes = [tally.odd(locator, _many_lines(locator, record))] if odd else []
        if only is not None or not record.cells:
            cell = record.cells[only or 0] if record.cells else b""
            if cell.strip() or not record.cells:
                tally.good()
            else:
                tally.empty()
            yield intake.from_bytes(locator, cell, *notes)
        else:
            wanted = {*shape.columns, *shape.optional}
            cells = zip(columns, record.cells, strict=True)
            found = {name: intake.decode(cell, f"{locator}, {name!r}") for name, cell in cells if name in wanted}
            notes += [note for _, faults in found.values() for note in faults]
            yield shaped(tally, shape, {name: text for name, (text, _) in found.items()}, locator, *notes)
    if not tally.rows:
        yield intake.drop(intake.item.locator, Note("empty", "0", f"{intake.item.locator}: a header, and no row"))
    heights.sizes.weigh(tally, _MEND_CSV)
    tally.judge()


def csv_head(lines: Iterable[bytes], separator: str | None, name: str) -> tuple[int, str] | None:
    """How many lines the header of a CSV file takes with all before it, and what stands between its cells; None: there
    is no such header. Arguments as of `_begun`.
    """
    _, header, found = _begun(enumerate(lines, 1), separator, name)
    if header is None or header.open_quote or header.too_long:
        return None
    return header.line - 1 + header.lines, found


def _begun(
    lines: Iterator[tuple[int, bytes | int]], separator: str | None, name: str
) -> tuple[Iterator[Record], Record | None, str]:
    """The records behind the one that names the columns, that one, and what stands between cells.

    Args:
        separator: what the recipe says of it. name: of the file.
    """
    lines, separator = _separated(lines, separator, name)
    rows = records(lines, separator.encode())
    # Tables are exported below blank lines.
    return rows, next((record for record in rows if not _is_blank(record)), None), separator


def _separated(
    lines: Iterator[tuple[int, bytes | int]], separator: str | None, name: str
) -> tuple[Iterator[tuple[int, bytes | int]], str]:
    """What stands between cells: what the recipe says, the first line (`sep=;`, which Excel reads and tools write for
    it, and which is no record), or the suffix; and the lines that are left.
    """
    before = []  # blank lines, and the first that is none
    for line in itertools.islice(lines, _BLANK_LINES):
        before.append(line)
        if isinstance(line[1], int) or line[1].strip():
            break
    first = before[-1] if before else None
    said = _SEPARATOR_LINE.fullmatch(first[1]) if first is not None and isinstance(first[1], bytes) else None
    by_file = said[1].decode() if said is not None and said[1].decode() in SEPARATORS else ""
    rest = lines if by_file else itertools.chain(before, lines)
    by_suffix = "\t" if split_suffixes(name)[0] == ".tsv" else ","
    return rest, separator or by_file or by_suffix


def _is_blank(record: Record) -> bool:
    return not (record.too_long or record.open_quote or any(cell.strip() for cell in record.cells))


def _open_quote(tally: Tally, sizes: Sizes, record: Record, locator: str, fault: Note) -> Outcome:
    """The last record of a file, whose quote is never closed: it counts for the rows that it takes in."""
    sizes.weigh(tally, _MEND_CSV)
    rows = sizes.rows_in(record.lines)
    _judge_the_rest(tally, record, rows)
    outcome = tally.bad(locator, fault)
    if rows > 1:
        tally.took_in(rows - 1, locator, fault, _MEND_CSV)
    return outcome


def _judge_the_rest(tally: Tally, record: Record, rows: int) -> None:
    """Raises UnfitFileError where an open quote takes in the rest of a file, about so many rows, and these are too many
    or, in bytes, more than any row may be.
    """
    lost = record.open_quote > streams.LONGEST_LINE and tally.intake.config.max_bad_rows < 1
    if lost or tally.too_many_with(rows):
        raise UnfitFileError(
            f"{tally.intake.item.path}:{record.line}: a quote is opened here and never closed; it takes in all the "
            f"rest of the file ({record.open_quote} bytes, {plural(record.lines, 'line')})",
            f"{_MEND_CSV}; {_GO_ON}",
            "open_quote",
        )


def _many_lines(locator: str, record: Record) -> Note:
    said = f"a row takes in {record.lines} lines within quotes, the others one: a stray quote may have swallowed rows"
    return Note("many_lines", str(record.lines), f"{locator}: {said}")


def _columns(intake: Intake, header: Record, shape: Shape, separator: str) -> list[str] | Note:
    """The names of the columns; where they are not those that the recipe names, an error, or a note that says so."""
    place = f"{intake.item.path}:{header.line}"
    columns = [cell.decode("utf-8", "replace").strip() for cell in header.cells]
    wanted = [*shape.columns, *shape.optional]
    twice = [name for name in wanted if columns.count(name) > 1]
    missing = [name for name in shape.columns if name not in columns]
    if twice:
        why, remedy = f"two columns are called {twice[0]!r}", "rename one of them in the file"
    elif missing:
        shown = ", ".join(map(short, columns[:20])) or "none"
        why = f"no column {missing[0]!r}; the columns are {shown}"
        remedy = _separated_otherwise(missing, columns, separator) or column_remedy(missing[0], columns)
    else:
        return columns
    if intake.config.max_bad_rows == 1:
        return Note("other_schema", "", f"{intake.item.locator}: {why}")
    remedy = f"{remedy}; `max_bad_rows: 1` counts such files and goes on"
    raise UnfitFileError(f"{place}: {why}", remedy, "other_schema")


def _separated_otherwise(missing: Sequence[str], columns: Sequence[str], separator: str) -> str:
    """What to do where something else stands between the cells of a header: more of them, or those that are missing."""
    if not columns:
        return ""
    line = separator.join(columns)
    cut = {other: [name.strip(' "') for name in line.split(other)] for other in _SEPARATORS if other != separator}
    likely = max(cut, key=lambda other: (set(missing) <= set(cut[other]), len(cut[other])))
    names = cut[likely]
    absent = [name for name in missing if name not in names]
    if absent and len(names) <= len(columns):
        return ""
    then = f", and then: {column_remedy(absent[0], names)}" if absent else ""
    return f"the cells look separated by {likely!r}: write `separator: {json.dumps(likely)}`{then}"


def column_remedy(missing: str, columns: Sequence[str], within: Sequence[str] = ()) -> str:
    """What to do where a file has no column of that name; `within` are the places inside of others that it has."""
    meant = like(missing, columns) or next((place for place in within if place.endswith(f".{missing}")), None)
    guess = f"did you mean `{meant}`? " if meant else ""
    if not meant and (answers := conversation_in(columns)):
        return f"{answers}, for one column as text `field:`"
    return f"{guess}name the column that holds the text with `field:`, or several with `template:` or `map:`"


def _fault(record: Record, columns: int, locator: str) -> Note | None:
    within = f", in {plural(record.lines, 'line')} within quotes" if record.lines > 1 else ""
    if record.too_long:
        return too_long(locator, record.too_long, within)
    if record.open_quote:
        size = str(record.open_quote)
        lines = plural(record.lines, "line")
        rest = f"a quote is opened and never closed, {size} bytes and {lines} to the end"
        return Note("open_quote", size, f"{locator}: {rest}")
    if record.cells and len(record.cells) != columns:
        said = f"{len(record.cells)} cells, the header has {columns}{within}"
        return Note("cells", str(len(record.cells)), f"{locator}: {said}")
    return None


def too_long(locator: str, length: int, within: str = "") -> Note:
    """The note on a line or row that is beyond what is held in memory."""
    said = f"{length} bytes, more than {streams.LONGEST_LINE} are not read{within}"
    return Note("too_long", str(length), f"{locator}: {said}")
