"""One file from an address, whole or not at all, and never twice.

    fetch(url, sha256, folder) -> Path

What has come lies in `<file>.part` with a note of the server's version of it (`<file>.part.json`); after a kill or a
broken connection the next attempt asks for the rest (Range, If-Range: RFC 9110, sections 13.1.5 and 14). The file gets
its name only when its SHA-256 is the one that the recipe gives, so a server that mixes versions cannot do harm.

A busy server is left alone for as long as it asks (Retry-After), up to `LONGEST_WAIT`; for longer the download ends.
A server cannot fill the disk (`RESERVE` stays free), nor hold the run up by a trickle (`LEAST_RATE`; of the head:
clocked.py), nor send it on to an address of the private network that the recipe did not name.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tilth.core import progress
from tilth.core.errors import DataError, IntegrityError, StorageError
from tilth.core.files import FolderLock, disk, hash_file, read_json, storage_errors, write_json
from tilth.data.sources.clocked import CLOCKED
from tilth.data.sources.hashes import file_hash
from tilth.data.sources.retry import retry_after

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 6  # without progress worth the name
RESERVE = 256 << 20  # bytes of the disk that a download leaves free
LEAST_RATE = 1 << 10  # bytes a second, over `WATCHED` seconds; a slower server counts as one that failed
WATCHED = 60.0
BACKOFF = 0.5  # seconds before the second attempt; doubled for each further one
LONGEST_WAIT = 120.0  # seconds that a server may ask for before the next attempt (Retry-After)
_PIECE = 1 << 20
_REDIRECTS = 5
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class RefusedError(DataError):
    """The server answers that it will not give the file, now or later: `status` and its `reason`."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(
            f"cannot download {url}: the server answers {status} {reason}",
            "check the address in a browser, or download the file by hand and use `path:`",
        )
        self.status, self.reason = status, reason


class _AttemptError(Exception):
    """An attempt failed in a way that another may not.

    Attributes:
        wait: seconds that the server asks for before the next.
    """

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


def fetch(url: str, sha256: str, folder: Path) -> Path:
    """The file at `url`, in `folder` under a name made from hash and address; nothing is sent when it lies there.

    Args:
        url: http or https.
        sha256: 64 hex digits that the file must have.
        folder: made when missing; one process at a time downloads into it.

    Raises:
        DataError: the server refuses, never sends all of it, sends it too slowly, or sends another file (which is set
            aside, never used).
        StorageError: the disk refuses or has no room for it, or another process downloads into the folder.
    """
    target = folder / file_name(url, sha256)
    if target.is_file() and file_hash(target) == sha256:
        return target
    with FolderLock(folder, "the download folder"), storage_errors(target):
        part = target.with_name(f"{target.name}.part")
        with progress.measured("downloading", url):
            complete(url, part)
        if hash_file(part) != sha256:  # it may be two versions glued together: once more, from the first byte
            _start_over(part)
            with progress.measured("downloading", url):
                complete(url, part)
        _accept(url, part, target, sha256)
    return target


def file_name(url: str, sha256: str) -> str:
    """What a download is called."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    # Only the tail is kept, so that a long name keeps its suffix.
    return f"{sha256[:16]}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)[-100:] or 'file'}"


def _accept(url: str, part: Path, target: Path, sha256: str) -> None:
    found = hash_file(part)
    if found == sha256:
        disk.sync_file(part)
        disk.replace(part, target)
        disk.remove(_note_of(part))
        disk.sync_folder(target.parent)
        return
    aside = target.with_name(f"{target.name}.wrong")
    disk.replace(part, aside)
    disk.remove(_note_of(part))
    raise DataError(
        f"{url} is not the file that the recipe means: expected SHA-256 {sha256}, got {found}",
        f"look at what came ({aside}); if the file was replaced on purpose, put its SHA-256 into the recipe",
    )


def complete(url: str, part: Path) -> None:
    """Brings `part` to its full length, in as many attempts as bring something new; its hash is for the caller."""
    best, failures = _size(part), 0
    progress.had(best)
    while True:
        started = time.monotonic()
        try:
            return _attempt(url, part)
        except _AttemptError as error:
            # A byte now and then is no progress: it could go on for years.
            least = LEAST_RATE * (time.monotonic() - started)
            failures = 0 if _size(part) - best > least else failures + 1
            best = max(best, _size(part))
            if failures >= ATTEMPTS:
                raise DataError(
                    f"cannot download {url}: {error} (after {ATTEMPTS} attempts; {_size(part)} bytes are here)",
                    "check the network and the address; the same command goes on from the bytes that are here",
                ) from error
            if error.wait > LONGEST_WAIT:
                raise DataError(
                    f"cannot download {url}: {error}, and asks to wait {error.wait:g} seconds "
                    f"(more than {LONGEST_WAIT:g}; {_size(part)} bytes are here)",
                    "type the same command after that: it goes on from the bytes that are here",
                ) from error
            time.sleep(error.wait or BACKOFF * 2 ** max(failures - 1, 0))


def _attempt(url: str, part: Path) -> None:
    """One request for what is missing, put at the end of `part`; `_AttemptError` when something still is."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "tilth", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator := _read_note(part):
            request.add_header("If-Range", validator)
    try:
        with _network_errors():
            response = urllib.request.build_opener(_Redirects, *CLOCKED).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with closing(error):
            _refused(url, part, start, error)
        return
    except ValueError as error:
        raise DataError(
            f"cannot download {url}: it redirects to what is no address ({error})",
            "name the final address in the recipe, or download the file by hand and use `path:`",
        ) from error
    with response:
        total = _place(response, part, start)
        progress.expect(total or 0)
        progress.reach(_size(part))  # a server that knows no ranges begins anew
        _room_for(url, part, 0 if total is None else total - _size(part))
        for piece in _body(response):
            _room_for(url, part, len(piece))
            disk.append(part, piece)
            progress.advance(len(piece))
    found = _size(part)
    if total is not None and found != total:
        # Were it more, the next request would ask beyond the file's end and be told so (416): _refused starts over.
        raise _AttemptError(f"the server announced {total} bytes, and {found} came")


def _room_for(url: str, part: Path, size: int) -> None:
    """StorageError when so many bytes more would leave less than the reserve."""
    free = shutil.disk_usage(part.parent).free
    if size > free - RESERVE:
        raise StorageError(
            f"no room for {url} in {part.parent}: {size:,} bytes more, {free:,} are free, and {RESERVE:,} stay free",
            "make room or choose another folder, then type the same command: what has come is kept",
        )


def _body(response: Any) -> Iterator[bytes]:
    since, came = time.monotonic(), 0
    while True:
        with _network_errors():  # around the network alone: an error of the disk must not look like one of its
            piece = response.read1(_PIECE)  # what is there, so that a kill loses no more than what is under way
        if not piece:
            return
        yield piece
        came += len(piece)
        if (watched := time.monotonic() - since) >= WATCHED:
            if came < LEAST_RATE * watched:
                raise _AttemptError(f"only {came} bytes came in {watched:.0f} seconds")
            since, came = time.monotonic(), 0


@contextmanager
def _network_errors() -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError:
        raise  # an answer, if not the one that was hoped for
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _AttemptError(str(reason) or type(error).__name__) from error


def _place(response: Any, part: Path, start: int) -> int | None:
    """Makes `part` ready for the body of a response; returns the length that the file shall have, where it is said."""
    length = response.headers.get("Content-Length", "")
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if match and int(match[1]) == start:
            return int(match[2]) if match[2] != "*" else None
        _start_over(part)
        raise _AttemptError(f"the server sent another part of the file than was asked for (from byte {start})")
    _start_over(part)  # the whole file comes: the server knows no ranges, or the file is another one by now
    disk.append(part, b"")
    if validator := _validator(response):
        write_json(_note_of(part), {"if_range": validator})
    return int(length) if length.isdigit() else None


def _validator(response: Any) -> str:
    """What names the server's version of the file: a strong ETag, else the date (If-Range takes no weak ETag)."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(response.headers.get("Last-Modified", ""))


def _refused(url: str, part: Path, start: int, error: urllib.error.HTTPError) -> None:
    """What a status that is no success means: done, another attempt, or the end."""
    if error.code == 416 and start:
        if error.headers.get("Content-Range", "").replace(" ", "") == f"bytes*/{start}":
            return  # all of it is here already
        _start_over(part)
        raise _AttemptError("the part that is here is longer than the file")
    if error.code in _TRY_AGAIN:
        wait = retry_after(error.headers.get("Retry-After", "")) or 0.0
        raise _AttemptError(f"the server answers {error.code} {error.reason}", wait)
    raise RefusedError(url, error.code, error.reason)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, to http and https only, and never from https down to http."""

    max_redirections = _REDIRECTS
    max_repeats = 2

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and not (scheme == "http" and req.type == "http"):
            fp.close()
            allowed = "https" if req.type == "https" else "http or https"
            raise DataError(
                f"{req.full_url} redirects to {newurl}, which is not {allowed}",
                "name the final address in the recipe",
            )
        if _is_private(newurl) and not _is_private(f"//{req.origin_req_host}"):
            fp.close()
            raise DataError(
                f"{req.full_url} redirects to {newurl}, which is an address of this machine or its private network",
                "if that is meant, name the final address in the recipe",
            )
        fp.close()  # its body is nobody's, and would be read to its end, which may never come
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_private(url: str) -> bool:
    """Whether the host of an address is this machine, or one that only a private network reaches. What has no address
    here (behind a proxy, say) counts as public: nothing of ours can be reached by it.
    """
    addresses = _addresses(urlsplit(url).hostname or "")
    return any(not address.is_global or address.is_multicast for address in addresses)


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return []
    addresses = [ipaddress.ip_address(text) for text in sorted(found)]
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _start_over(part: Path) -> None:
    disk.remove(part)
    disk.remove(_note_of(part))


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> str:
    try:
        note = read_json(_note_of(part))
    except IntegrityError:
        return ""  # without it the range is asked for bare; the hash decides
    return str(note.get("if_range", "")) if isinstance(note, dict) else ""
