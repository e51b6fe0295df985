"""WARC records to documents.

    read_warc(intake, file, parser_of) -> Iterator[Outcome]

    response      an HTTP answer with status 200: HTML and PDF go through the extraction seam, text is taken as it is
    resource      the same without HTTP
    conversion    plain text, as in WET files
    revisit       the text is elsewhere: said so, unless what it refers to is a document of this file and address
    the rest      (request, metadata, warcinfo) describes, and is no document

`meta` has `url`, `fetched` (WARC-Date) and `content_type`; of a page also `title` and `date`, where it states them.
A document's locator is `FILE!ADDRESS`: the same address stands in many files of a source, and each is read without the
others. In a crawl, and among the records of an index, it stands in one file alone: there it is the address. A further
record of the same address in one file gets its date behind it.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol

from tilth.core import progress
from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.extract.charset import decoded, marked
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.web.http_message import TooLargeError, content_type, parse_response
from tilth.data.sources.web.warc import Broken, Record, bare, read_records

Kind = Literal["html", "pdf"]
LARGEST_PAGE = 64 << 20  # decompressed
_PARSED: dict[str, Kind] = {"text/html": "html", "application/xhtml+xml": "html", "application/pdf": "pdf"}
_NOT_ON_THE_WEB = {"utf-7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "unicode-escape", "undefined"}
_DESCRIBES = {"request", "metadata", "warcinfo", "continuation"}


class Page(Protocol):
    """What extraction gives: `tilth.data.extract.Extracted`."""

    @property
    def text(self) -> str | None: ...
    @property
    def title(self) -> str | None: ...
    @property
    def date(self) -> str | None: ...
    @property
    def license(self) -> str | None: ...
    @property
    def faults(self) -> Sequence[tuple[str, str, str]]: ...


class Parser(Protocol):
    """What extracts pages: `tilth.data.extract.Extractor`."""

    def extract(self, raw: bytes, locator: str, *, charset: str | None = None) -> Page:
        """The page's text, or the faults that say why there is none."""


ParserOf = Callable[[Kind], Parser]
"""The parser for `html` or `pdf`; asked for when such a page comes, so that a WET file needs none."""


def read_warc(intake: Intake, file: BinaryIO, parser_of: ParserOf, *, in_place: bool = True) -> Iterator[Outcome]:
    """The outcomes of one WARC or WET file, in its order.

    Args:
        file: its bytes, plain or of gzip members.
        in_place: whether it is the file of the source itself, so that reading it is progress.

    Raises:
        DataError: it cannot be read.
    """
    reader, said = _Reader(intake, parser_of), 0
    try:
        for found in read_records(file):
            yield from reader.outcomes(found)
            if in_place:
                progress.advance(file.tell() - said)
                said = file.tell()
    except OSError as error:
        reason = error.strerror or str(error)
        path = intake.item.path
        raise DataError(f"cannot read {path}: {reason}", "check that the file is there and readable") from error
    yield from reader.rest()


class _Revisit(NamedTuple):
    """A record without its text: where it stands, and the record that has the text.

    Attributes:
        names: of that record, as `_names` gives them.
        told: at which address and when.
    """

    url: str
    date: str
    offset: int
    names: frozenset[bytes]
    told: tuple[str, str]


class _Reader:
    """Takes the records of one file in their order."""

    def __init__(self, intake: Intake, parser_of: ParserOf) -> None:
        self._intake, self._parser_of = intake, parser_of
        self._before = "" if intake.item.pages_once else f"{intake.item.locator}!"
        self._seen: set[bytes] = set()
        self._records = 0
        self._first_fault: Broken | None = None
        self._texts: dict[bytes, tuple[str, str]] = {}  # address and date of what became a document, by its names
        self._revisits: list[_Revisit] = []  # those whose text had not been read at their address by then

    def outcomes(self, found: Record | Broken) -> Iterator[Outcome]:
        """What one record gives: mostly one outcome, none for a record that describes another."""
        self._records += isinstance(found, Record) or found.rule == "too_large"  # which has a head, and is passed over
        if isinstance(found, Broken):
            self._first_fault = self._first_fault or found
            place = f"{self._intake.item.locator}#byte={found.offset}"
            name = f", {found.url}" if found.url else ""
            yield self._intake.drop(place, Note(f"warc_{found.rule}", "", f"{place}{name}: {found.detail}"))
        elif fault := found.digest_fault():
            locator = self._locator(found)
            yield self._intake.drop(locator, Note("warc_digest", "", f"{locator}: damaged: {fault}"))
        elif found.kind == "revisit":
            self._note_revisit(found)
        elif found.kind not in _DESCRIBES:
            outcome = self._outcome(found, self._locator(found))
            if outcome.document is not None:
                names = _names(found.headers.get("warc-record-id", ""), found.url, found.date)
                self._texts |= dict.fromkeys(names, (found.url, found.date))
            yield outcome

    def _note_revisit(self, found: Record) -> None:
        headers = found.headers
        when = headers.get("warc-refers-to-date", "")
        url = bare(headers.get("warc-refers-to-target-uri", "")) or found.url
        names = _names(headers.get("warc-refers-to", ""), url, when)
        revisit = _Revisit(found.url, found.date, found.offset, names, (url, when))
        if self._text_of(revisit)[0] != found.url:
            self._revisits.append(revisit)

    def _text_of(self, revisit: _Revisit) -> tuple[str | None, str]:
        """Address and date of the document with its text, so far as one was read."""
        return next((self._texts[name] for name in sorted(revisit.names) if name in self._texts), (None, ""))

    def rest(self) -> Iterator[Outcome]:
        """The revisits whose text is not read at their address, and a word on a file without any record.

        They come last: then each gets a locator that no document of the file has.
        """
        for revisit in self._revisits:
            (url, when), (read, date) = revisit.told, self._text_of(revisit)
            if read == revisit.url:
                continue
            locator = self._locator(revisit)
            where = "which record that is it does not say"
            if revisit.names:
                where = f"which is {'not ' if read is None else ''}read from this file"
            if read is not None:
                url, when = read, date
            of = "" if url == revisit.url else f"{url} "
            why = f"{locator}: the same as {of}at {when or 'an earlier crawl'}, {where}"
            yield self._intake.drop(locator, Note("revisit", when, why))
        if self._first_fault is not None and not self._records:
            place = self._intake.item.locator
            why = f"{place}: no WARC record can be read in it: {self._first_fault.detail}"
            yield self._intake.lose(place, Note("no_record", "", why))

    def _locator(self, record: Record | _Revisit) -> str:
        if not record.url:
            return f"{self._intake.item.locator}#byte={record.offset}"
        page, date = f"{self._before}{record.url}", record.date
        for locator in (page, f"{page} {date}", f"{page} {date} #byte={record.offset}"):
            key = _short(locator)
            if key not in self._seen:
                break
        self._seen.add(key)
        return locator

    def _outcome(self, record: Record, locator: str) -> Outcome:
        notes = []
        if cut := record.headers.get("warc-truncated"):
            notes.append(Note("warc_truncated", cut, f"{locator}: whoever fetched it cut it off ({cut})"))
        payload = _payload(record, locator)
        if isinstance(payload, Note):
            return self._intake.drop(locator, payload)
        kind, charset, raw = payload
        meta = {"url": record.url, "fetched": record.date, "content_type": kind}
        if kind in _PARSED:
            return self._extracted(_PARSED[kind], raw, locator, charset, meta, notes)
        if kind.startswith("text/"):
            text, faults = _decoded(raw, charset, locator)
            return self._intake.from_page(locator, text, *notes, *faults, meta=meta)
        why = f"{locator}: no text can be had from {kind or 'a page without a type'}"
        return self._intake.drop(locator, Note("content_type", kind, why))

    def _extracted(
        self, kind: Kind, raw: bytes, locator: str, charset: str | None, meta: dict[str, Any], notes: list[Note]
    ) -> Outcome:
        page = self._parser_of(kind).extract(raw, locator, charset=charset)
        said = [*notes, *(Note(*fault) for fault in page.faults)]
        if page.text is None:
            assert page.faults
            return self._intake.drop(locator, *said)
        stated = {"title": page.title, "date": page.date}
        meta |= {key: value for key, value in stated.items() if value}
        return self._intake.from_page(locator, page.text, *said, meta=meta, license=page.license)


def _names(record_id: str, url: str, date: str) -> frozenset[bytes]:
    """What a record is called by another: its id, its address and date."""
    return frozenset(map(_short, [*filter(None, [record_id]), *([f"{url} {date}"] if date else [])]))


def _short(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _decoded(raw: bytes, charset: str | None, locator: str) -> tuple[str, list[Note]]:
    name = marked(raw) or _text_encoding(charset)
    text, faults = decoded(raw, name)
    bad = [Note(fault.rule, fault.value, f"{locator}: {fault.detail}") for fault in faults]
    return text, bad if name == "utf-8" else [Note("charset", name, f"{locator}: recoded from {name}"), *bad]


def _text_encoding(charset: str | None) -> str:
    """Python's name of a charset of texts; UTF-8 where none is stated, or none of that name is known."""
    try:
        name = codecs.lookup(charset or "utf-8").name
        b"".decode(name)  # LookupError for those that are no encodings of text
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if name == "ascii" or name in _NOT_ON_THE_WEB else name


def _payload(record: Record, locator: str) -> tuple[str, str | None, bytes] | Note:
    """`(content type, charset, bytes)` of a record, or why there is nothing to read."""
    if record.kind == "conversion":
        return "text/plain", None, record.block
    if record.kind == "resource":
        return *content_type(record.headers.get("content-type", "")), record.block
    if record.kind != "response":
        return Note("warc_kind", record.kind, f"{locator}: a record of the kind {record.kind!r}")
    if not record.headers.get("content-type", "application/http").lower().startswith("application/http"):
        return Note("not_http", "", f"{locator}: not an answer over HTTP ({record.headers['content-type']})")
    try:
        response = parse_response(record.block)
        if response.status != 200:
            return Note("status", str(response.status), f"{locator}: the server answered {response.status}")
        return *content_type(response.header("content-type")), response.payload(LARGEST_PAGE)
    except TooLargeError:
        return Note("too_large", "", f"{locator}: more than {LARGEST_PAGE} bytes when it is decompressed")
    except ValueError as error:
        return Note("bad_response", "", f"{locator}: {error}")
