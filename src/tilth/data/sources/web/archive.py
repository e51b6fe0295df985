"""What a crawl keeps: its records, and what became of every URL.

Archive(path)                  records at the end of one file while the crawl goes on, cut back after a kill
answer_records(…)              request, response and metadata of one page, as gzip members
write_segments(…)              the records of the pages in the order of their URLs, in files of about `SEGMENT` bytes
write_fates / read_fates       fates.jsonl: one line for each URL, sorted
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tilth.core.files import disk
from tilth.data.sources.web.exchange import Answer
from tilth.data.sources.web.frontier import Fate
from tilth.data.sources.web.journal import damaged
from tilth.data.sources.web.warc import make_record, sha1_label

SEGMENT = 8 << 20
"""Bytes of a file of pages, about: the unit in which they are read in parallel."""
FATES = "fates.jsonl"
_NOT_MODIFIED = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"


@dataclass(frozen=True, slots=True)
class Place:
    """Where records lie in a file."""

    at: int
    size: int


class Archive:
    """One growing file; what lies behind `end` was written by an attempt that was killed before it noted it."""

    def __init__(self, path: Path) -> None:
        self.path, self.end = path, 0
        self._ready = False

    def append(self, data: bytes) -> Place:
        """Puts records at the end, durably."""
        self.cut()
        place = Place(self.end, len(data))
        disk.append(self.path, data)
        disk.sync_file(self.path)
        self.end += len(data)
        return place

    def cut(self) -> None:
        """Takes away what lies behind `end`, the first time; IntegrityError when the file is shorter."""
        if self._ready:
            return
        size = self.path.stat().st_size if self.path.is_file() else 0
        if size < self.end:
            raise damaged(self.path, f"{size} bytes, the journal knows of {self.end}")
        if size > self.end:
            disk.truncate(self.path, self.end)
        self._ready = True

    def read(self, place: Place) -> bytes:
        """The records that lie there."""
        with self.path.open("rb") as file:
            file.seek(place.at)
            return file.read(place.size)


def now() -> str:
    """The time, as WARC writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def answer_records(url: str, level: int, answer: Answer, refers_to: dict[str, str] | None = None) -> bytes:
    """The records of one exchange.

    Args:
        refers_to: of an answer 304: `WARC-Refers-To` and the like of the response that is still good.
    """
    date = now()
    head = f"HTTP/1.1 {answer.status} {answer.reason}\r\n" + "".join(
        # The chunks are undone: what says that there are some must not stay.
        f"{'X-Crawl-' if key.lower() == 'transfer-encoding' else ''}{key}: {value}\r\n"
        for key, value in answer.headers
    )
    block = head.encode("latin-1", "replace") + b"\r\n" + answer.body
    fields = {"WARC-IP-Address": answer.address, "WARC-Payload-Digest": sha1_label(answer.body)}
    kind = "response"
    if refers_to is not None:
        kind, fields = "revisit", {**fields, "WARC-Profile": _NOT_MODIFIED, **refers_to}
    if answer.cut:
        fields["WARC-Truncated"] = "length"
    record_id, main = make_record(kind, url, date, block, "application/http; msgtype=response", fields)
    tied = {"WARC-Concurrent-To": record_id}
    _, request = make_record("request", url, date, answer.request, "application/http; msgtype=request", tied)
    _, about = make_record("metadata", url, date, f"level: {level}\r\n".encode(), "application/warc-fields", tied)
    return request + about + main


def _warcinfo(contact: str, date: str, name: str) -> bytes:
    fields = {"software": "tilth", "format": "WARC File Format 1.1", "robots": "obey", "operator": contact}
    block = "".join(f"{key}: {value}\r\n" for key, value in fields.items()).encode()
    return make_record("warcinfo", "", date, block, "application/warc-fields", {"WARC-Filename": name})[1]


def write_segments(
    folder: Path, stem: str, archive: Archive, places: Sequence[tuple[str, Place]], contact: str
) -> dict[str, tuple[str, int]]:
    """Copies records into `<stem>-00000.warc.gz` …, in the order given; returns `{url: (file, offset)}`."""
    date, found = now(), {}
    for number, group in enumerate(_groups(places)):
        name = f"{stem}-{number:05d}.warc.gz"
        first = _warcinfo(contact, date, name)
        at = len(first)
        for url, place in group:
            found[url] = name, at
            at += place.size
        disk.write(folder / name, _chunks(first, archive, [place for _, place in group]))
    return found


def _chunks(first: bytes, archive: Archive, places: Iterable[Place]) -> Iterator[bytes]:
    yield first
    for place in places:
        yield archive.read(place)


def _groups(places: Sequence[tuple[str, Place]]) -> Iterator[list[tuple[str, Place]]]:
    group: list[tuple[str, Place]] = []
    size = 0
    for item in places:
        group.append(item)
        size += item[1].size
        if size >= SEGMENT:
            yield group
            group, size = [], 0
    if group:
        yield group


def write_fates(folder: Path, fates: Iterable[Fate], more: dict[str, dict[str, Any]]) -> None:
    """Writes one line for each URL, sorted; `more` is what else is noted of some. Only a sitemap is said to be one."""
    ordered = sorted(fates, key=lambda fate: (fate.url, fate.rule))
    rows = ({**_row(fate), **more.get(fate.url, {})} for fate in ordered)
    disk.write(folder / FATES, ((json.dumps(row, separators=(",", ":")) + "\n").encode() for row in rows))


def _row(fate: Fate) -> dict[str, Any]:
    row = asdict(fate)
    return row if fate.sitemap else {key: value for key, value in row.items() if key != "sitemap"}


def read_fates(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of `fates.jsonl`."""
    with (folder / FATES).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
