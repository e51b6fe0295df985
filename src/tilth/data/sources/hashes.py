"""The SHA-256 of a source's files, without reading again what has not changed.

    file_hash(path)                        what all sources ask; reads the file, unless `hashing` says otherwise
    hash_large(paths)                      the same of the large ones of many, side by side
    with hashing(by): …                    another answer for the time being
    RememberedHashes(note)                 from a sealed note, for files whose path, size and times are as they were

What is trusted: a file whose path, size, time of modification and time of change (ctime, which no program can set) are
those at which it was hashed holds the same bytes. A file that was written less than two seconds before it was hashed is
not remembered: it could change once more within the grain of its clock. Bytes that rot on the disk without any of these
changing are noticed when the file is next read, since readers compare what they read with the hash.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from pathlib import Path
from typing import Any

from tilth.core import progress
from tilth.core.environment import usable_cpus
from tilth.core.errors import IntegrityError, StorageError
from tilth.core.files import hash_file, read_manifest, read_sealed, write_sealed

FileHash = Callable[[Path], str]
_GRAIN = 2_000_000_000  # nanoseconds: FAT's clock ticks every two seconds
_PIECE, _LARGE = 1 << 20, 64 << 20
_WORTH_A_THREAD = 8 << 20
_VERSION = 1

# A variable of the context and not an argument: it would go through a dozen functions of which none looks at it.
_BY: ContextVar[FileHash] = ContextVar("_BY", default=hash_file)


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file of a source, by whoever was asked to give it."""
    return _BY.get()(path)


def hash_large(paths: Iterable[Path]) -> dict[Path, str]:
    """`file_hash` of those that are large, where there are several: side by side, in threads. Who cannot be read is
    left to be asked for by itself.
    """
    large = [path for path in paths if _size(path) >= _WORTH_A_THREAD]
    if len(large) < 2:
        return {}

    def one(asked: tuple[Path, Context]) -> str:
        path, context = asked
        with contextlib.suppress(OSError):
            return context.run(file_hash, path)
        return ""

    asked = [(path, copy_context()) for path in large]  # whom `hashing` asks, and who counts
    with ThreadPoolExecutor(min(usable_cpus(), len(large))) as pool:
        return {path: found for path, found in zip(large, pool.map(one, asked), strict=True) if found}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def hashing(by: FileHash) -> Iterator[None]:
    """Lets `by` answer all `file_hash` within."""
    token = _BY.set(by)
    try:
        yield
    finally:
        _BY.reset(token)


def verify_folder(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, after the hash of every file (remembered or read) was compared with it."""
    manifest = read_manifest(folder)
    for name, entry in manifest["files"].items():
        if file_hash(folder / name) != entry["sha256"]:
            raise IntegrityError(
                f"{folder / name} is not what was written: its SHA-256 differs from its manifest's",
                f"it was altered: remove {folder} and run the command that made it again",
            )
    return manifest


class RememberedHashes:
    """Hashes of files, kept in a sealed note; only what was asked for since it was opened is kept further."""

    def __init__(self, note: Path) -> None:
        self._note = note
        self._before = self._read()
        self._now: dict[str, list[Any]] = {}
        self._sizes: list[int] = []  # of files that had to be read; threads append to it

    @property
    def read_bytes(self) -> int:
        """Bytes of files that had to be read."""
        return sum(self._sizes)

    def _read(self) -> dict[str, list[Any]]:
        try:
            content = read_sealed(self._note) if self._note.is_file() else {}
        except (IntegrityError, StorageError):
            return {}  # a note is no more than the time that it saves
        return dict(content["files"]) if content.get("version") == _VERSION else {}

    def __call__(self, path: Path) -> str:
        """The hash of a file; `OSError` as it comes when it cannot be read."""
        key, began = str(path.absolute()), time.time_ns()
        state = _state(path)
        known = self._before.get(key)
        if known is not None and known[:-1] == state:
            self._now[key] = known
            return str(known[-1])
        if state[0] < _LARGE:
            digest = hash_file(path)
        else:
            with progress.measured("hashing", path.name, total=state[0]):
                digest = _hash(path)
        self._sizes.append(state[0])
        if _state(path) == state and state[1] < began - _GRAIN:
            self._now[key] = [*state, digest]
        return digest

    def save(self) -> None:
        """Writes what is known now, if that is not what was."""
        if self._now == self._before:
            return
        try:
            write_sealed(self._note, {"version": _VERSION, "files": dict(sorted(self._now.items()))})
        except StorageError as error:
            # Who may only read a workspace trains from it all the same, and reads the files again the next time.
            if getattr(error.__cause__, "errno", None) not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise


def _hash(path: Path) -> str:
    """`hash_file`, saying how far it is."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            progress.advance(len(piece))
    return digest.hexdigest()


def _state(path: Path) -> list[int]:
    at = path.stat()
    return [at.st_size, at.st_mtime_ns, at.st_ctime_ns]
