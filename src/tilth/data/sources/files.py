"""Reads one input, as a stream: bytes in, outcomes (documents and verdicts) out.

    read_input(item, config) -> Iterator[Outcome], or read_rows: Iterator[Outcome | Rows]
        by the table of readers.py, by its kind:
        text, markdown, python, code   a document is the file, a paragraph or a line: see texts.py
        jsonl, csv, json, parquet      a document is a row: see rows.py, parquet_rows.py, shapes.py
        arrow                          rows as well: see arrow_rows.py
        html, pdf                      a document is what extraction makes of the file: see pages.py, data/extract
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
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tilth.data.document import Outcome, Rows
from tilth.data.extract import Extractors
from tilth.data.sources import archives, losses, streams
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.content import Content, in_archive, on_disk
from tilth.data.sources.excluding import RULE as EXCLUDED
from tilth.data.sources.excluding import Excluding
from tilth.data.sources.inputs import ARCHIVES, Input, kind_of
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.readers import READERS
from tilth.data.sources.tally import Tally
from tilth.data.sources.undecoded import Met
from tilth.data.sources.unusable import Unusable

READING = 19
"""Raise it when the same bytes are read otherwise: a part of the version of every task that reads inputs, so that each
of them is done anew. What a synthetic source was answered is kept: it was paid for, whatever its seeds are read as now.
"""


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
        read = _archive if item.kind in ARCHIVES else READERS[item.kind]
        try:
            yield from read(intake, on_disk(item), extractors)
        except streams.PackedError as error:
            yield intake.lose(item.locator, _note(intake, error), remedy=_remedy_of(error))


def _remedy_of(error: streams.PackedError) -> str:
    """Of a bomb its own; to what is damaged belongs the one that names how such files are tested."""
    return error.remedy if isinstance(error, streams.BombError) else ""


def _note(intake: Intake, error: streams.PackedError) -> Note:
    """By the file's locator: its path is this machine's affair, and the ledger is the same on all."""
    return Note(error.rule, "", intake.item.locator + error.message.removeprefix(str(intake.item.path)))


def _unfit(intake: Intake, error: losses.UnfitFileError) -> Outcome:
    place = intake.item.locator
    said = Note(error.rule, "", place + error.message.removeprefix(str(intake.item.path)))
    return replace(intake.lose(place, said), remedy=error.remedy)


_UNREAD = ("encrypted", "unsupported", "bomb")
"""Files of an archive that cannot be read for the way they are packed: bad rows of it. Others are passed over."""
_NESTED = "nested_archive"


def _archive(intake: Intake, content: Content, extractors: Extractors) -> Iterator[Outcome | Rows]:
    """The files of an archive; what is not read of it is said by name.

    Damage to the archive itself loses it from there on; a file in it that is lost is counted as a bad row is, whatever
    the file's kind. Where each file must be whole it is lost as one outside of archives is. An archive in it is told,
    and where there is nothing else it is all that the archive has: lost.
    """
    place, empty, tally = intake.item.locator, True, Tally(intake, "files")
    alone = "" if intake.item.within else PurePosixPath(place).name
    out = Excluding(intake.config.exclude, archive=alone)
    strict = intake.whole and intake.config.max_bad_rows < 1
    nested: tuple[str, Note] | None = None  # the first archive in it
    try:
        for entry in archives.entries(intake.item, content):
            empty = False
            refused = _refused(intake, entry, out)
            if refused is None:
                found = _entry(intake, entry, extractors)
                yield from found if strict else _counted(tally, found)
                continue
            locator = f"{place}!{entry.name}"
            said = refused._replace(detail=f"{locator}: {refused.detail}")
            if said.rule not in (*_UNREAD, _NESTED):
                yield intake.drop(locator, said)
            elif strict:
                yield intake.lose(locator, said, remedy=_to_unpack(intake, said.rule))
            elif said.rule == _NESTED:
                tally.odd(locator, said)
                if nested is not None:
                    yield intake.drop(locator, said)
                nested = nested or (locator, said)
            else:
                yield tally.bad(locator, said, remedy=_to_unpack(intake, said.rule))
    except archives.ArchiveError as error:
        why = error.why.removeprefix(f"{intake.item.path}: ")
        said = Note(error.rule, "", f"{place}{error.within}: {why}")
        yield intake.lose(place, said, remedy=_to_unpack(intake, error.rule))
    except streams.PackedError as error:
        yield intake.lose(place, _note(intake, error), remedy=_remedy_of(error))
    if nested is not None and not tally.rows:
        yield intake.lose(*nested, remedy=_to_unpack(intake, _NESTED))
        return
    if nested is not None:
        yield intake.drop(*nested)
    tally.judge()
    if empty:
        yield from intake.rest()


def _to_unpack(intake: Intake, rule: str) -> str:
    """What to do about an archive that is not read for this reason; of damage "", which all files have in common."""
    name = shlex.quote(intake.item.locator if intake.config.path_prefix else str(intake.item.path))
    unpack = f"unzip {name}" if intake.item.kind == "zip" else f"tar -xf {name}"
    return {
        "encrypted": f"unpack it (`{unpack}` asks for the password, `7z x {name}` for one of AES) and read its files",
        "unsupported": f"unpack it (`{unpack}` or `7z x {name}`) and read its files, or pack them again with `zip -r`",
        "bomb": "look at it: text does not grow so; if it is meant, unpack it yourself",
        "too_many_files": f"unpack it (`{unpack}`) and read its files, or make several archives of them",
        _NESTED: f"unpack it (`{unpack}`): archives in a folder are read",
    }.get(rule, "")


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
    if entry.refused is not None and entry.refused.rule not in _UNREAD:
        return entry.refused
    if pattern := out.by(PurePosixPath(outer.item.within, entry.name)):
        outer.unusable.excluded |= out.used
        return Note(EXCLUDED, "", f"`exclude: {pattern}` names it")
    if kind in ARCHIVES:
        return Note(_NESTED, "", "an archive in an archive, which is not read")
    if kind is None and config.format == "auto":
        return Note("unknown_suffix", "", f"its suffix is {Path(entry.name).suffix or 'missing'}")
    if kind is not None and config.format not in ("auto", kind):
        return Note("other_format", "", f"the recipe asks for {config.format}")
    return entry.refused


def _entry(outer: Intake, entry: archives.Entry, extractors: Extractors) -> Iterator[Outcome | Rows]:
    config, locator = outer.config, f"{outer.item.locator}!{entry.name}"
    kind = kind_of(entry.name)
    chosen = kind if config.format == "auto" else config.format
    assert chosen is not None
    path = Path(f"{outer.item.path}!{entry.name}")  # for what messages call it, and for its suffix
    item = replace(outer.item, kind=chosen, path=path, locator=locator)
    inner = Intake(item, config, outer.met, outer.unusable, among_many=outer.among_many, whole=outer.whole, entry=True)
    try:
        yield from READERS[chosen](inner, in_archive(entry.name, chosen, entry.pieces), extractors)
    except archives.ArchiveEndedError as error:
        error.within = f"!{entry.name}"
        raise
    except losses.UnfitFileError as error:
        yield _unfit(inner, error)
    except archives.ArchiveError as error:
        yield inner.lose(locator, Note(error.rule, "", f"{locator}: {error.why}"))
    except streams.PackedError as error:
        yield inner.lose(locator, Note(error.rule, "", f"{locator}: {error.message}"), remedy=_remedy_of(error))
    finally:
        inner.close()
