"""Reads one input, as a stream: bytes in, outcomes (documents and verdicts) out.

    read_input(item, config) -> Iterator[Outcome], or read_rows: Iterator[Outcome | Rows]
        text, markdown, python, code   a document is the file, a paragraph or a line
        jsonl, csv, json, parquet      a document is a row: see rows.py, parquet_rows.py, shapes.py
        arrow                          rows as well: see arrow_rows.py
        html, pdf                      a document is what extraction makes of the file: see data/extract
        warc                           a document is a record: see web/documents.py
        zip, tar                       each file in it, by these same readers: see archives.py
        hub_stream                     a Parquet file that is not on this machine: see hub_stream.py
        synthetic_…                    what a model wrote: see synthetic/answers.py
        topics, module, questions      the embedded Python documentation: see python_docs.py, python_questions.py

Memory stays bounded by the longest line or the largest block (see streams.py). Locators: `path` for a whole file,
`path#bytes=a-b` (first and last byte, as HTTP counts them) for a part of a large one, `path#row=n` for a row of JSON or
Parquet, `path:line` for the rest; `archive.zip!inner/path` for a file in an archive; of WARC see web/documents.py.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tilth.core.words import plural
from tilth.data.document import Outcome, Rows, Verdict
from tilth.data.extract import BROKEN_PAGE, Extractors
from tilth.data.sources import archives, losses, python_docs, streams
from tilth.data.sources.arrow_rows import read_arrow
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.content import Content, gathered, in_archive, on_disk
from tilth.data.sources.cookie import as_declared
from tilth.data.sources.excluding import RULE as EXCLUDED
from tilth.data.sources.excluding import Excluding
from tilth.data.sources.inputs import ARCHIVES, Input, kind_of, split_suffixes
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.languages import LANGUAGES
from tilth.data.sources.parquet_rows import read_parquet
from tilth.data.sources.plain import plain_lines
from tilth.data.sources.python_questions import read_questions
from tilth.data.sources.rows import read_csv, read_json, read_jsonl, too_long
from tilth.data.sources.tally import Tally
from tilth.data.sources.undecoded import Met
from tilth.data.sources.unusable import Unusable

READING = 6
"""Raise it when the same bytes are read otherwise: a part of the version of every task that reads inputs, so that each
of them is done anew. What a synthetic source was answered is kept: it was paid for, whatever its seeds are read as now.
"""


def _reader_that_opens(kind: str) -> Callable[[Intake], Iterator[Outcome | Rows]] | None:
    """The reader of a kind that is no stream of bytes; what belongs to it alone is imported when it is met."""
    if kind == "hub_stream":
        from tilth.data.sources.hub_stream import read_hub_stream

        return read_hub_stream
    if kind in ("synthetic_documents", "synthetic_pairs"):
        from tilth.data.sources.synthetic.answers import read_synthetic

        return read_synthetic
    return {"topics": python_docs.read, "module": python_docs.read, "questions": read_questions}.get(kind)


def read_input(
    item: Input,
    config: SourceConfig,
    extractors: Extractors | None = None,
    *,
    among_many: bool = False,
    unusable: Unusable | None = None,
) -> Iterator[Outcome]:
    """The outcomes of `read_rows`, one for each document."""
    for found in read_rows(item, config, extractors, among_many=among_many, unusable=unusable):
        if isinstance(found, Rows):
            yield from map(Outcome, found)
        else:
            yield found


def read_rows(
    item: Input,
    config: SourceConfig,
    extractors: Extractors | None = None,
    *,
    among_many: bool = False,
    met: Met | None = None,
    unusable: Unusable | None = None,
    whole: bool = False,
) -> Iterator[Outcome | Rows]:
    """What one file of a source holds, in its order: the same for the same bytes, always. Documents of which nothing is
    said may come many at once.

    Args:
        extractors: processes that parse HTML and PDF, to be used for several files; by default its own.
        among_many: a file that is truncated or damaged, lacks the column or has too many bad rows gives an outcome
            that says so (`loses`) instead of an error: whoever reads all files judges how many may (losses.py).
        met: where bytes that are not UTF-8 are counted, and
        unusable: where files with rows that cannot be used are.
        whole: as a file of an exam must be: no few bad rows pass, a PDF that lacks a page is damaged, and a file in an
            archive is judged as one by itself.

    Raises:
        DataError: the file cannot be opened, changed since it was listed, is truncated or damaged, lacks the column, or
            has more unusable rows than `config.max_bad_rows` allows (at 1, all but the first two are counted instead).
            Outcomes may have been given out before.
    """
    intake = Intake(item, config, met, unusable, among_many=among_many, whole=whole)
    try:
        for found in _read(intake, extractors):
            if isinstance(found, Outcome) and found.loses and not among_many and config.max_bad_rows < 1:
                raise losses.damaged(item, found)
            yield found
    except losses.UnfitFileError as error:
        if not among_many:
            raise
        yield _unfit(intake, error)
    finally:
        intake.close()


def _read(intake: Intake, extractors: Extractors | None) -> Iterator[Outcome | Rows]:
    item, config = intake.item, intake.config
    with contextlib.ExitStack() as stack:
        extractors = extractors or stack.enter_context(Extractors(config.extract))
        reader = _reader_that_opens(item.kind)
        if reader is not None:
            yield from reader(intake)
        elif item.kind in ARCHIVES:
            yield from _archive(intake, on_disk(item), extractors)
        else:
            try:
                yield from _file(intake, on_disk(item), extractors)
            except streams.BombError as error:
                yield intake.drop(item.locator, _note(intake, error))
            except streams.PackedError as error:
                yield intake.lose(item.locator, _note(intake, error))


def _note(intake: Intake, error: streams.PackedError) -> Note:
    """By the file's locator: its path is this machine's affair, and the ledger is the same on all."""
    return Note(error.rule, "", intake.item.locator + error.message.removeprefix(str(intake.item.path)))


def _unfit(intake: Intake, error: losses.UnfitFileError) -> Outcome:
    place = intake.item.locator
    said = Note(error.rule, "", place + error.message.removeprefix(str(intake.item.path)))
    return replace(intake.lose(place, said), remedy=error.remedy)


def _file(intake: Intake, content: Content, extractors: Extractors) -> Iterator[Outcome | Rows]:
    kind = intake.item.kind
    if kind in ("python", "code"):
        language = LANGUAGES.get(split_suffixes(intake.item.path.name)[0], "python" if kind == "python" else "")
        intake.meta = {"language": language} if language else {}
    if kind == "warc":
        from tilth.data.sources.web.documents import read_warc

        with content.whole() as file:
            yield from read_warc(intake, file, extractors.of, in_place=content.in_place)
    elif kind == "html" or kind == "pdf":
        yield _extracted(intake, content, extractors)
    elif kind == "parquet" or kind == "arrow":
        with content.whole() as file:
            yield from read_parquet(intake, file) if kind == "parquet" else read_arrow(intake, file)
    else:
        text = streams.as_utf8(content.pieces)
        if text.bom:
            intake.note_file(Note("bom", text.bom, f"{intake.item.locator}: byte order mark removed"))
            intake.undecoded.marked = True
        elif intake.meta.get("language") == "python":
            text = as_declared(intake, text)
        first = next(text.pieces, b"")
        intake.undecoded.begin(first[: 64 << 10])
        intake.undecoded.packed = not content.in_place
        yield from _text(intake, replace(text, pieces=itertools.chain([first], text.pieces)))
    yield from intake.rest()


def _text(intake: Intake, text: streams.Utf8) -> Iterator[Outcome | Rows]:
    kind, document = intake.item.kind, intake.config.document
    if kind == "jsonl":
        yield from read_jsonl(intake, text.pieces)
    elif kind == "csv":
        yield from read_csv(intake, text.pieces)
    elif kind == "json":
        yield from read_json(intake, text.pieces)
    elif document == "file":
        yield from _whole(intake, text)
    elif document == "paragraph":
        yield from _paragraphs(intake, text.pieces)
    else:
        yield from _lines(intake, text.pieces)


_UNREAD = ("broken", "crashed", "timeout", "memory", "too_deep")
"""Of a page or PDF: the file is not read. One that is empty, needs a password or is too large is read as what it is."""
_Said = TypeVar("_Said", Note, Verdict)
_CAPS = {"timeout": "seconds", "memory": "memory"}


def _more_room(config: SourceConfig, rule: str) -> str:
    """What to do about a page or PDF that needs more of what `extract:` gives."""
    if rule not in _CAPS:
        return ""
    key = _CAPS[rule]
    now = getattr(config.extract, key)
    return (
        f"raise `extract: {{{key}: …}}` (now {now if isinstance(now, int) else f'{now:g}'}), take such files away, "
        f"or let them pass with a higher `max_bad_rows:` (now {config.max_bad_rows:g})"
    )


def _extracted(intake: Intake, content: Content, extractors: Extractors) -> Outcome:
    """A page or PDF as a document; `meta` has its title and date where it states them."""
    item, most = intake.item, intake.config.extract.max_bytes
    raw = gathered(content.pieces, most)
    if isinstance(raw, int):
        return intake.drop(item.locator, Note("too_large", str(raw), f"{item.locator}: {raw} bytes, more than {most}"))
    found = extractors.of("html" if item.kind == "html" else "pdf").extract(raw, item.locator)
    notes = [Note(*fault) for fault in found.faults]
    if found.text is None and notes[-1].rule in _UNREAD:
        return intake.lose(item.locator, *notes, remedy=_more_room(intake.config, notes[-1].rule))
    pages = [note.detail.removeprefix(f"{item.locator}: ").rstrip(".") for note in notes if note.rule == BROKEN_PAGE]
    lacks_pages = intake.whole and bool(pages)
    if lacks_pages:
        notes = _pages_last(notes)
    if found.text is None and lacks_pages:
        return intake.lose(item.locator, *notes, remedy=_more_room(intake.config, notes[-1].rule))
    if pages and not lacks_pages:
        more = f", and {len(pages) - 1} more like that" if len(pages) > 1 else ""
        said = f"{item.locator}: {plural(len(pages), 'page')} cannot be read: {pages[0]}{more}"
        intake.unusable.take_pages(len(pages), said)
    if found.text is None:
        return intake.drop(item.locator, *notes)
    meta = {key: value for key, value in (("title", found.title), ("date", found.date)) if value}
    made = intake.from_page(item.locator, found.text, *notes, meta=meta, license=found.license)
    return replace(made, verdicts=tuple(_pages_last(made.verdicts)), loses=True) if lacks_pages else made


def _pages_last(said: Sequence[_Said]) -> list[_Said]:
    """With the first page that is lost at the end: the last says what is wrong with a file."""
    pages = [one for one in said if one.rule == BROKEN_PAGE]
    return [one for one in said if one.rule != BROKEN_PAGE] + pages[::-1]


_OF_THE_SOURCE = ("encrypted", "unsupported", "bomb")
"""Files of an archive that are not read and count all the same, as they do in a folder. Others are passed over."""


def _archive(intake: Intake, content: Content, extractors: Extractors) -> Iterator[Outcome | Rows]:
    """The files of an archive; what is not read of it is said by name.

    Damage to the archive itself loses it from there on; a file in it that is lost is counted as a bad row is, whatever
    the file's kind. Where each file must be whole it is lost as one outside of archives is.
    """
    place, empty, tally = intake.item.locator, True, Tally(intake, "files")
    alone = "" if intake.item.within else PurePosixPath(place).name
    out = Excluding(intake.config.exclude, archive=alone)
    try:
        for entry in archives.entries(intake.item, content):
            empty = False
            refused = _refused(intake, entry, out)
            if refused is None:
                found = _entry(intake, entry, extractors)
                yield from found if intake.whole and intake.config.max_bad_rows < 1 else _counted(tally, found)
                continue
            locator = f"{place}!{entry.name}"
            yield intake.drop(locator, refused._replace(detail=f"{locator}: {refused.detail}"))
            if refused.rule in _OF_THE_SOURCE:
                tally.good()
    except archives.ArchiveError as error:
        lost = intake.lose if error.rule == "damaged" else intake.drop
        why = error.why.removeprefix(f"{intake.item.path}: ")
        yield lost(place, Note(error.rule, "", f"{place}{error.within}: {why}"))
    except streams.BombError as error:
        yield intake.drop(place, _note(intake, error))
    except streams.PackedError as error:
        yield intake.lose(place, _note(intake, error))
    tally.judge()
    if empty:
        yield from intake.rest()


def _counted(tally: Tally, found: Iterable[Outcome | Rows]) -> Iterator[Outcome | Rows]:
    """What a file in an archive holds; when it cannot be read to its end that is its own affair, not the archive's."""
    whole = True
    for one in found:
        if isinstance(one, Outcome) and one.loses:
            said = one.verdicts[-1]
            if whole:
                tally.bad(said.detail.partition(": ")[0], Note(said.rule, said.value, said.detail), remedy=one.remedy)
            whole = False
            yield replace(one, loses=False)
        else:
            yield one
    if whole:
        tally.good()


def _refused(outer: Intake, entry: archives.Entry, out: Excluding) -> Note | None:
    """Why a file in an archive is not read, whatever is in it."""
    config, kind = outer.config, kind_of(entry.name)
    if entry.refused is not None:
        return entry.refused
    if pattern := out.by(PurePosixPath(outer.item.within, entry.name)):
        outer.unusable.excluded.add(pattern)
        return Note(EXCLUDED, "", f"`exclude: {pattern}` names it")
    if kind in ARCHIVES:
        return Note("nested_archive", "", "an archive in an archive")
    if kind is None and config.format == "auto":
        return Note("unknown_suffix", "", f"its suffix is {Path(entry.name).suffix or 'missing'}")
    if kind is not None and config.format not in ("auto", kind):
        return Note("other_format", "", f"the recipe asks for {config.format}")
    return None


def _entry(outer: Intake, entry: archives.Entry, extractors: Extractors) -> Iterator[Outcome | Rows]:
    config, locator = outer.config, f"{outer.item.locator}!{entry.name}"
    kind = kind_of(entry.name)
    chosen = kind if config.format == "auto" else config.format
    assert chosen is not None
    path = Path(f"{outer.item.path}!{entry.name}")  # for what messages call it, and for its suffix
    item = replace(outer.item, kind=chosen, path=path, locator=locator)
    inner = Intake(item, config, outer.met, outer.unusable, among_many=outer.among_many, whole=outer.whole, entry=True)
    try:
        yield from _file(inner, in_archive(entry.name, chosen, entry.pieces), extractors)
    except archives.ArchiveEndedError as error:
        error.within = f"!{entry.name}"
        raise
    except losses.UnfitFileError as error:
        yield _unfit(inner, error)
    except archives.ArchiveError as error:
        yield inner.lose(locator, Note(error.rule, "", f"{locator}: {error.why}"))
    except streams.BombError as error:
        yield inner.drop(locator, Note(error.rule, "", f"{locator}: {error.message}"))
    except streams.PackedError as error:
        yield inner.lose(locator, Note(error.rule, "", f"{locator}: {error.message}"))
    finally:
        inner.close()


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
        return intake.drop(locator, too_long(locator, line))
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
