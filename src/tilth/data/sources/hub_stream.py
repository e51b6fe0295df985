"""Parquet files on the hub by range requests: only the column that is wanted crosses the network, no file is kept.

    read_hub_stream(intake)       what a Parquet file holds, its row groups in order

What that costs, and says so here: the bytes are not compared with the file's SHA-256, for most of them never come. What
holds them together is the commit in the address, the size that each answer names, and Parquet's own structure. Without
the network such a part cannot be read again once its task's result is gone. Who wants the bytes verified and kept
leaves `streaming` out. What is asked for again after a kill is the group of files (`data.shard_bytes`) under way.
"""

from __future__ import annotations

import importlib
import io
import re
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from tilth.core.errors import DataError
from tilth.core.files import read_json
from tilth.data.document import Outcome, Rows
from tilth.data.sources.hub_client import Hub
from tilth.data.sources.intake import Intake
from tilth.data.sources.parquet_rows import read_parquet

PIECE = 4 << 20
ATTEMPTS = 5
BACKOFF = 0.5
_TIMEOUT = 30.0
_TRY_AGAIN = {408, 429, 500, 502, 503, 504}


class _AttemptError(Exception):
    """An attempt failed in a way that another may not."""


def read_hub_stream(intake: Intake) -> Iterator[Outcome | Rows]:
    """The outcomes of a Parquet file on the hub.

    Raises:
        DataError: the hub cannot be reached or sends something else, or the file is no Parquet with that column.
    """
    note = read_json(intake.item.path)
    hub = Hub(note["dataset"])
    with RangeFile(hub, note["name"], note["commit"], intake.item.size) as remote:
        yield from read_parquet(intake, cast(BinaryIO, remote))


class RangeFile(io.RawIOBase):
    """A file on the hub as a seekable stream; holds one piece of it. All its errors are `DataError`s: one of the
    network must not pass for damage of the file, which is counted and lets the rest go on.
    """

    def __init__(self, hub: Hub, name: str, commit: str, size: int) -> None:
        super().__init__()
        self.address, self.size = hub.address(name, commit), size
        self._hub, self._commit = hub, commit
        self._at = self._first = 0
        self._piece = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes from where the stream stands: all of them, unless the file ends."""
        end = self.size if size is None or size < 0 else min(self._at + size, self.size)
        if end <= self._at:
            return b""
        have = self._first <= self._at and end <= self._first + len(self._piece)
        if not have:
            self._piece = self._fetch(self._at, min(max(end, self._at + PIECE), self.size))
            self._first = self._at
        data = self._piece[self._at - self._first : end - self._first]
        self._at = end
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _fetch(self, start: int, end: int) -> bytes:
        """Bytes [start, end), the missing ones asked for again when the connection breaks."""
        data, failures = bytearray(), 0
        while len(data) < end - start:
            before = len(data)
            try:
                with self._hub.errors(self._commit):
                    for piece in self._answer(start + before, end):
                        data += piece
                fault = "the answer is short"
            except _AttemptError as error:
                fault = str(error) or type(error).__name__
            failures = 0 if len(data) > before else failures + 1
            if failures >= ATTEMPTS:
                raise DataError(
                    f"cannot read bytes {start}-{end - 1} of {self.address}: {fault}",
                    "check the network; the same command goes on with this file",
                )
            if failures:
                time.sleep(BACKOFF * 2 ** (failures - 1))
        return bytes(data)

    def _answer(self, start: int, end: int) -> Iterator[bytes]:
        import httpx2

        try:
            yield from self._range(start, end)
        except (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.TimeoutException) as error:
            raise _AttemptError(str(error) or type(error).__name__) from error

    def _range(self, start: int, end: int) -> Iterator[bytes]:
        utils: Any = importlib.import_module("huggingface_hub.utils")
        headers = {**self._hub.headers(), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        # Not the library's own retrying stream: it cannot be left in the middle of a body.
        with utils.get_session().stream("GET", self.address, headers=headers, timeout=_TIMEOUT) as response:
            if response.status_code in _TRY_AGAIN:
                raise _AttemptError(f"the hub answers {response.status_code}")
            utils.hf_raise_for_status(response)
            said = response.headers.get("Content-Range", "")
            match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", said.strip())
            if response.status_code != 206 or match is None:
                raise DataError(f"{self.address}: the server sends no ranges", "leave `streaming:` out")
            if int(match[1]) != start or int(match[2]) >= end or match[3] not in ("*", str(self.size)):
                raise DataError(
                    f"{self.address}: asked for bytes {start}-{end - 1} of {self.size}, the server sends {said!r}",
                    "leave `streaming:` out: a whole file is compared with its hash",
                )
            left = int(match[2]) - start + 1
            for piece in response.iter_raw(1 << 16):
                if len(piece) > left:
                    raise DataError(f"{self.address}: more bytes than announced", "leave `streaming:` out")
                left -= len(piece)
                yield piece
