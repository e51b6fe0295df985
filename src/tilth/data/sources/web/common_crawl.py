"""WARC and WET files from a server that gives ranges, whole or record by record, resumed after a kill.

    bring_files(config, root, folder) -> [(path below `base`, local file, or the error of one that is not to be had)]
    bring_records(config, index, folder) -> Path      a folder: records.warc.gz, fates.jsonl

Common Crawl publishes no hashes, so the first download of a file decides: its SHA-256 is noted, and a file that differs
from it later is refused. A range is taken when it has the length that was asked for and begins a gzip member.
"""

from __future__ import annotations

import gzip
import json
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.core import progress
from tilth.core.config import fingerprint
from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import (
    FolderLock,
    disk,
    hash_file,
    new_folder,
    read_sealed,
    remove_leftovers,
    storage_errors,
    write_sealed,
)
from tilth.core.progress import Meter
from tilth.data.sources.hashes import file_hash, verify_folder
from tilth.data.sources.inputs import kind_of
from tilth.data.sources.losses import JUDGED_FROM
from tilth.data.sources.url import RefusedError, complete
from tilth.data.sources.web.archive import Archive, Place, write_fates
from tilth.data.sources.web.config import CommonCrawlConfig
from tilth.data.sources.web.courier import AGENT, patiently
from tilth.data.sources.web.exchange import Answer, Fault, Limits, exchange
from tilth.data.sources.web.frontier import Fate
from tilth.data.sources.web.journal import Journal, damaged
from tilth.data.sources.web.urls import normalize
from tilth.data.sources.web.warc import LARGEST_RECORD

VERSION = 1
RECORDS = "records.warc.gz"
_MOST_LIST_BYTES = 1 << 30
_TIMEOUT, _DEADLINE = 30.0, 600.0


def bring_files(config: CommonCrawlConfig, root: Path, folder: Path) -> list[tuple[str, Path | RefusedError]]:
    """The files of `config.paths`, in `folder`; nothing is sent for those that lie there. Of one that the server
    refuses its error comes in the file's place; where that is so of many from the first on, no more are asked for.

    Raises:
        DataError: a path is none, or the server never sends all of a file; it refuses all.
        IntegrityError: a file is not what first came.
    """
    listed = config.paths if not isinstance(config.paths, str) else _paths(root / Path(config.paths).expanduser())
    paths = list(dict.fromkeys(listed or []))[: config.max_files]
    found: list[tuple[str, Path | RefusedError]] = []
    with progress.measured("downloading", config.base, "file", len(paths)) as meter:
        for path in paths:
            url = _url(config, path)
            if kind_of(path) != "warc":
                raise DataError(f"{path} is no WARC or WET file by its name", "list .warc(.gz) or .wet(.gz) files")
            size = meter.size
            found.append((path, _file_or_refusal(url, folder)))
            (meter.add if meter.size > size else meter.had)(1)
            if len(found) in (JUDGED_FROM, len(paths)):
                _something_came(found)
    return found


def _something_came(found: list[tuple[str, Path | RefusedError]]) -> None:
    refused = [file for _, file in found if isinstance(file, RefusedError)]
    if len(refused) == len(found):
        of = f"; so are the first {len(found)} files of the list" if len(found) > 1 else ""
        raise DataError(f"{refused[0].message}{of}", "check `common_crawl.paths` and `base:` in a browser")


def _file_or_refusal(url: str, folder: Path) -> Path | RefusedError:
    try:
        return _whole_file(url, folder)
    except RefusedError as error:
        return error


def _url(config: CommonCrawlConfig, path: str) -> str:
    url = normalize(config.base + path.lstrip("/"))
    if url is None or not url.startswith(config.base):
        raise DataError(f"the path {path!r} leads out of {config.base}", "list paths below it, or set `base:`")
    return url


def _paths(path: Path) -> list[str]:
    lines = _text(path).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(_MOST_LIST_BYTES + 1)
        if len(raw) > _MOST_LIST_BYTES:
            raise DataError(f"{path} holds more than {_MOST_LIST_BYTES} bytes", "divide it into several sources")
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}", "give a readable UTF-8 file, plain or .gz") from error


def _whole_file(url: str, folder: Path) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", url.rpartition("/")[2])[-100:]
    target = folder / f"{fingerprint(url)[:16]}-{name}"
    note = target.with_name(f"{target.name}.sha256.json")
    if note.is_file() and target.is_file():
        if file_hash(target) != read_sealed(note)["sha256"]:
            raise IntegrityError(f"{target} is not what came from {url}", "it was altered: remove it, and run again")
        return target
    with FolderLock(folder, "the download folder"), storage_errors(target):
        part = target.with_name(f"{target.name}.part")
        if not target.is_file():
            complete(url, part)
            disk.sync_file(part)
            disk.replace(part, target)
            disk.remove(part.with_name(f"{part.name}.json"))
            disk.sync_folder(folder)
        write_sealed(note, {"url": url, "sha256": hash_file(target)})
    return target


@dataclass(frozen=True, slots=True)
class _Range:
    path: str
    offset: int
    length: int

    @property
    def name(self) -> str:
        """As one writes it in a shell or a log."""
        return f"{self.path}#bytes={self.offset}-{self.offset + self.length - 1}"


def bring_records(config: CommonCrawlConfig, index: Path, folder: Path) -> Path:
    """The records that an index names, in its order, in a folder that appears when all of them were asked for.

    Raises:
        DataError: a line of the index is none, no record came, or the server cannot be reached (the same command goes
            on).
    """
    ranges = list(_ranges(index))
    key = fingerprint([VERSION, config.base, [[one.path, one.offset, one.length] for one in ranges]])[:16]
    final = folder / f"records-{key}"
    work = folder / f"{final.name}.work"
    with FolderLock(folder, "the download folder"), storage_errors(final):
        remove_leftovers(folder, r"records-[0-9a-f]{16}")
        if not final.exists():
            disk.make_folder(work)
            with progress.measured("downloading", config.base, "record", len(dict.fromkeys(ranges))) as meter:
                _bring_all(config, ranges, work, final, meter)
        disk.remove(work)
    verify_folder(final)
    return final


def _ranges(index: Path) -> Iterator[_Range]:
    for number, line in enumerate(_text(index).splitlines(), 1):
        if line.strip():
            yield _range(line, f"{index}:{number}")


def _range(line: str, place: str) -> _Range:
    remedy = 'write {"warc": "crawl-data/…", "offset": 0, "length": 1234} on each line'
    try:
        # An index of Common Crawl has `filename`, its numbers as texts, and key and time before the braces.
        fields = json.loads(line[line.index("{") :])
        found = _Range(str(fields.get("warc") or fields["filename"]), int(fields["offset"]), int(fields["length"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{place}: no record of an index: {type(error).__name__} {error}", remedy) from None
    if found.offset < 0 or not 0 < found.length <= LARGEST_RECORD:
        raise DataError(f"{place}: offset {found.offset}, length {found.length}: no range of a record", remedy)
    return found


def _bring_all(config: CommonCrawlConfig, ranges: list[_Range], work: Path, final: Path, meter: Meter) -> None:
    journal, archive = Journal(work / "journal.jsonl"), Archive(work / RECORDS)
    fates = []
    for one in dict.fromkeys(ranges):
        event = journal.next()
        if event is None:
            event = _bring(config, one, archive)
            journal.append(event)
            meter.add(1, event.get("size", 0))
        elif event["range"] != one.name:
            raise damaged(journal.path, f"it goes on with {event['range']}, not {one.name}")
        else:
            meter.had(1)
        if "size" in event:
            archive.end = event["at"] + event["size"]
        fates.append(Fate(one.name, event["rule"], event["value"], event["detail"]))
    if not archive.end:
        disk.remove(work)
        first = fates[0] if fates else Fate("the index", "empty")
        raise DataError(f"no record came: {first.words}", "check the index")
    archive.cut()
    counts = Counter(fate.rule for fate in fates)
    with new_folder(final, {"kind": "records", "fates": dict(sorted(counts.items()))}) as folder:
        disk.write(folder / RECORDS, _pieces(archive))
        write_fates(folder, fates, {})


def _pieces(archive: Archive) -> Iterator[bytes]:
    for at in range(0, archive.end, 1 << 20):
        yield archive.read(Place(at, min(1 << 20, archive.end - at)))


def _bring(config: CommonCrawlConfig, one: _Range, archive: Archive) -> dict[str, Any]:
    url = _url(config, one.path)
    headers = {"User-Agent": AGENT, "Range": f"bytes={one.offset}-{one.offset + one.length - 1}"}
    limits = Limits(_TIMEOUT, _DEADLINE, one.length, cut=True)

    def once() -> Answer:  # the recipe names this host, whatever its address
        return exchange(url, headers, limits, allow_private=True, wanted=_partial)

    try:
        answer = patiently(once, time.sleep)
    except Fault as fault:
        if fault.rule != "status":
            raise DataError(
                f"cannot fetch {one.name} from {config.base}: {fault.rule}: {fault.detail}",
                "check the network and `base:`; the same command goes on with this record",
            ) from None
        return {"range": one.name, "rule": "status", "value": fault.value, "detail": fault.detail}
    return {"range": one.name, **_judged(answer, one, archive)}


def _partial(status: int, headers: tuple[tuple[str, str], ...]) -> Fault | None:
    if status == 206 or status in (429, 500, 502, 503, 504):
        return None
    why = "the server gives whole files, no ranges" if status == 200 else "the server does not give it"
    return Fault("status", str(status), why)


def _judged(answer: Answer, one: _Range, archive: Archive) -> dict[str, Any]:
    if answer.status != 206:
        return {"rule": "status", "value": str(answer.status), "detail": "the server does not give it"}
    if len(answer.body) != one.length or answer.cut:
        return {"rule": "bad_range", "value": str(len(answer.body)), "detail": f"not the {one.length} bytes asked for"}
    if not answer.body.startswith(b"\x1f\x8b"):
        return {"rule": "no_record", "value": "", "detail": "no gzip member begins there"}
    place = archive.append(answer.body)
    return {"rule": "fetched", "value": "206", "detail": "", "at": place.at, "size": place.size}
