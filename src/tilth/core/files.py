"""The only durable writer: what stands at its final name is whole, on disk, and hashed.

    write_file(path, chunks)              atomic: temporary file, fsync, rename, fsync of the folder
    with new_folder(final) as folder: …   a whole folder at once: filled aside, manifest last, renamed when done
    write_manifest(folder)                size and SHA-256 of every file of a folder
    FolderLock(folder)                    one process per folder

What is written so is read by `verify.py`; the single operations, and what the disk refuses, are in `disk.py`. All that
the others need of the three is imported from here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tilth.core.disk import Disk, disk, hash_file, require_utf8, safe_join, storage_errors
from tilth.core.errors import StorageError
from tilth.core.verify import (
    MANIFEST,
    read_json,
    read_manifest,
    read_sealed,
    seal,
    verify_file,
    verify_manifest,
    verify_once,
)

<<<<<<< HEAD
MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_SEAL_BYTES = len('\n  "seal": ""\n}\n') + 64


class Disk:
    """Every operation that changes the disk, one method each."""

    def __init__(self) -> None:
        self._hashes: dict[Path, tuple[tuple[int, ...], str]] = {}

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> tuple[int, str]:
        """Writes and fsyncs a new file; returns its size and SHA-256 (of the bytes given, not read back)."""
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk) if isinstance(chunk, bytes) else chunk.nbytes
            file.flush()
            os.fsync(file.fileno())
            self._hashes[path] = _state(os.fstat(file.fileno())), digest.hexdigest()
        return size, digest.hexdigest()

    def take_hash(self, path: Path) -> str | None:
        """The SHA-256 of a file that `write` or `link` made, when nothing has changed it since; it is told once."""
        state, sha256 = self._hashes.pop(path, (None, None))
        return sha256 if sha256 is not None and state == _state(path.stat()) else None

    def append(self, path: Path, data: bytes) -> None:
        """Appends to a file in one write, as long as there is room for it."""
        with path.open("ab", buffering=0) as file:
            while data:  # a disk that is nearly full takes a part of it, and says so only the next time
                data = data[file.write(data) :]

    def truncate(self, path: Path, size: int) -> None:
        """Cuts a file to `size` bytes, durably."""
        with path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def make_folder(self, path: Path) -> None:
        """Makes a folder and its parents; it may exist."""
        path.mkdir(parents=True, exist_ok=True)

    def rename(self, old: Path, new: Path) -> None:
        """Renames, atomically, within one file system."""
        old.rename(new)

    def replace(self, old: Path, new: Path) -> None:
        """Renames a file over an existing one, atomically."""
        self._hashes.pop(old, None)
        old.replace(new)

    def link(self, old: Path, new: Path, sha256: str | None = None) -> None:
        """Gives a file a second name; a copy where the file system has no links.

        Args:
            sha256: of the file, where it is known; it lies on the disk then, and `take_hash` tells it of a link.
        """
        try:
            os.link(old, new)
        except OSError:
            shutil.copyfile(old, new)
        else:
            if sha256 is not None:
                self._hashes[new] = _state(new.stat()), sha256

    def sync_file(self, path: Path) -> None:
        """Forces a file that a library wrote to disk."""
        self._sync(path)

    def sync_folder(self, path: Path) -> None:
        """Forces a folder's entries to disk: without it a rename can be lost with the power."""
        self._sync(path)

    def remove(self, path: Path) -> None:
        """Removes a file or a folder with all in it."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    @staticmethod
    def _sync(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _state(of: os.stat_result) -> tuple[int, ...]:
    """What changes when a file does."""
    return of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns


disk = Disk()

_DISK_FAULTS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EFBIG,
}


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the disk's refusals into a StorageError that names the place and the space left."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT and error.filename and not Path(error.filename).parent.exists():
            raise StorageError(
                f"cannot write {error.filename}: its folder is gone",
                "it was moved or removed meanwhile: bring it back, then type the same command",
            ) from error
        if error.errno not in _DISK_FAULTS:
            raise
        if isinstance(error, PermissionError) and error.filename and not _may_be_within(error.filename, path.parent):
            raise _unreadable(Path(error.filename), error) from error  # something that was to be read, on the way
        existing = next((p for p in [path, *path.parents] if os.path.exists(p)), Path("/"))  # noqa: PTH110 - never raises
        free = shutil.disk_usage(existing).free / 2**30
        raise StorageError(
            f"cannot write {error.filename or path}: {error.strerror} ({free:.2f} GiB free)",
            "make room or choose another folder, then type the same command: what was finished is kept",
        ) from error


def _may_be_within(name: str | bytes | int, folder: Path) -> bool:
    return not isinstance(name, str) or Path(name).absolute().is_relative_to(folder.absolute())


def require_utf8(path: Path) -> None:
    """StorageError for a path that is not UTF-8: Arrow and safetensors open none."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise StorageError(f"the path {str(path)!r} is not UTF-8", "choose another folder") from None
=======
__all__ = [
    "MANIFEST",
    "Disk",
    "FolderLock",
    "commit_folder",
    "disk",
    "free_name",
    "hash_file",
    "is_leftover",
    "new_folder",
    "read_json",
    "read_manifest",
    "read_sealed",
    "remove_leftovers",
    "remove_whole",
    "require_utf8",
    "safe_join",
    "storage_errors",
    "verify_file",
    "verify_manifest",
    "verify_once",
    "write_file",
    "write_json",
    "write_manifest",
    "write_sealed",
]
>>>>>>> 7a3be69e981ede44637cee5365e2cdf98bbe8d0e


def write_file(path: Path, data: bytes | Iterable[bytes | memoryview]) -> str:
    """Writes `path` durably and atomically: readers see the old file or the new one, whole. Returns its SHA-256."""
    temporary = _aside(path)
    with storage_errors(path):
        disk.make_folder(path.parent)
        try:
            _, digest = disk.write(temporary, [data] if isinstance(data, bytes) else data)
            disk.replace(temporary, path)
            disk.sync_folder(path.parent)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    return digest


def write_json(path: Path, value: Any) -> str:
    """Writes a value as indented JSON, durably and atomically."""
    return write_file(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """A value as indented JSON."""
    # A lone surrogate (a path or an option that is not UTF-8) has no encoding; as an escape it has.
    return (json.dumps(value, indent=2, ensure_ascii=not _encodable(value)) + "\n").encode()


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def new_folder(final: Path, facts: dict[str, Any] | None = None) -> Iterator[Path]:
    """A folder that appears at `final` whole or not at all.

    The body fills a temporary folder beside `final` (and may add to `facts`); then every file is fsynced and hashed
    into the manifest, the folder is renamed and its parent fsynced. When `final` exists by then, another process did
    the same work: ours is dropped.
    """
    temporary = _aside(final)
    with storage_errors(final):
        disk.make_folder(temporary)
        try:
            yield temporary
            commit_folder(temporary, final, facts)
        except Exception:
            disk.remove(temporary)
            raise


def _aside(path: Path) -> Path:
    """Where `path` is made: `.NAME.PID-XXXXXXXX.tmp` beside it. Two nodes may have a process of the same number."""
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


_LEFTOVER = r"\.(?:\d+(?:-[0-9a-f]{8})?|old)\.tmp"


def is_leftover(name: str, of: str) -> bool:
    """Whether a file name is that of something half-made, or half-removed, by this module, where what it would have
    been called matches the pattern `of`.
    """
    return re.fullmatch(rf"\.(?:{of}){_LEFTOVER}", name) is not None


def remove_leftovers(folder: Path, of: str) -> None:
    """Removes what processes that were killed left half-made in `folder`; for whoever holds the folder's lock.

    Args:
        of: a pattern of the names that tilth writes there. What is called otherwise is not ours, and stays.
    """
    for path in [path for path in folder.glob(".*.tmp") if is_leftover(path.name, of)]:
        remove_whole(path)


def remove_whole(path: Path) -> None:
    """Removes a file, or a folder that is renamed first: half of it must not bear the name of a whole one, nor be made
    whole by a process that outlived the one that started it.
    """
    with storage_errors(path):
        if path.is_dir():
            halves = re.fullmatch(rf"\.(.+){_LEFTOVER}", path.name)
            gone = path.with_name(f".{halves[1] if halves else path.name}.old.tmp")
            if gone != path:
                disk.remove(gone)
                with contextlib.suppress(FileNotFoundError):  # that process has given it its name, or removed it
                    disk.rename(path, gone)
            path = gone
        disk.remove(path)


def free_name(path: Path, suffix: str) -> Path:
    """`NAME.suffix` beside `path`, or `NAME.suffix-1` and so on where that is taken."""
    number, aside = 0, path.with_name(f"{path.name}.{suffix}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{suffix}-{number}")
    return aside


def commit_folder(temporary: Path, final: Path, facts: dict[str, Any] | None = None) -> None:
    """Fsyncs and hashes all files of `temporary`, writes the manifest, renames to `final`, fsyncs the parent."""
    write_manifest(temporary, facts)
    for folder in sorted(path for path in temporary.rglob("*") if path.is_dir()):
        disk.sync_folder(folder)
    disk.sync_folder(temporary)
    try:
        disk.rename(temporary, final)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        disk.remove(temporary)
    disk.sync_folder(final.parent)


def write_manifest(folder: Path, facts: dict[str, Any] | None = None) -> None:
    """Writes `manifest.json` of a folder that has no name yet: `facts`, and of every other file, fsynced here, size and
    SHA-256.
    """
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST):
        known = disk.take_hash(path)
        if known is None:
            disk.sync_file(path)
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": known or hash_file(path)}
    # Not write_file, which would make the folder again when it was taken away meanwhile, and call nothing whole.
    temporary = _aside(folder / MANIFEST)
    disk.write(temporary, [seal({**(facts or {}), "files": files})])
    disk.replace(temporary, folder / MANIFEST)


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Writes a mapping as JSON with the hash of its own content in it, durably and atomically."""
    write_file(path, seal(content))


class FolderLock:
    """Holds a folder for one process; released by the system when the process ends, however it ends.

    Args:
        what: how messages call the folder.
        wait: wait until the folder is free, instead of a StorageError that names the process that holds it.
    """

    def __init__(self, folder: Path, what: str, *, wait: bool = False) -> None:
        self.path, self.what, self.wait = folder / ".lock", what, wait
        self._file: Any = None

    def __enter__(self) -> FolderLock:
        require_utf8(self.path.parent)
        with storage_errors(self.path):
            disk.make_folder(self.path.parent)
            self._file = self.path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if self.wait else fcntl.LOCK_NB))
        except OSError as error:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            if not isinstance(error, BlockingIOError):  # some network disks have no locks
                raise StorageError(f"cannot lock {self.path}: {error.strerror}", "choose another folder") from error
            raise StorageError(
                f"{self.what} {self.path.parent} is in use by process {owner}",
                "wait for that process, stop it, or name another folder",
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
