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
from tilth.core.errors import IntegrityError, StorageError
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


def write_file(path: Path, data: bytes | Iterable[bytes | memoryview]) -> str:
    """Writes `path` durably and atomically: readers see the old file or the new one, whole. Returns its SHA-256."""
    temporary = _aside(path)
    with storage_errors(path):
        disk.make_folder(path.parent)
        try:
            _, digest = disk.write(temporary, [data] if isinstance(data, bytes) else data)
            disk.replace(temporary, path)
            disk.sync_folder(path.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if str(error.filename) == str(temporary):  # nobody typed that name
                error.filename = str(path)
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
def new_folder(final: Path, facts: dict[str, Any] | None = None, *, replace_damaged: bool = False) -> Iterator[Path]:
    """A folder that appears at `final` whole or not at all.

    The body fills a temporary folder beside `final` (and may add to `facts`); then every file is fsynced and hashed
    into the manifest, the folder is renamed and its parent fsynced. When `final` exists by then, and is whole, another
    process did the same work: ours is dropped.

    Args:
        replace_damaged: a folder at `final` that is not whole gives way, for results that are made again from what
            they were made of; else it may be somebody's, and StorageError says that it is in the way.
    """
    temporary = _aside(final)
    with storage_errors(final):
        disk.make_folder(final.parent)
        disk.make_folder(temporary, sync=False)
        try:
            yield temporary
            commit_folder(temporary, final, facts, replace_damaged=replace_damaged)
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


def commit_folder(
    temporary: Path, final: Path, facts: dict[str, Any] | None = None, *, replace_damaged: bool = False
) -> None:
    """Fsyncs and hashes all files of `temporary`, writes the manifest, renames to `final`, fsyncs the parent. What
    stands there already is met as `new_folder` says.
    """
    write_manifest(temporary, facts)
    disk.sync_files(_files_of(temporary))
    for folder in sorted(path for path in temporary.rglob("*") if path.is_dir()):
        disk.sync_folder(folder)
    disk.sync_folder(temporary)
    _give_name(temporary, final, replace_damaged)
    disk.sync_folder(final.parent)


def _give_name(temporary: Path, final: Path, replace_damaged: bool) -> None:
    try:
        disk.rename(temporary, final)
        return
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    if _is_whole(final):
        disk.remove(temporary)
        return
    if not replace_damaged:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(temporary), None, str(final))
    damaged = _aside(final)  # a name that is removed as half-made, should we be killed before we do it
    with contextlib.suppress(FileNotFoundError):  # another process has moved it away
        disk.rename(final, damaged)
    _give_name(temporary, final, replace_damaged)
    disk.remove(damaged)


def _is_whole(folder: Path) -> bool:
    try:
        verify_manifest(folder)
    except IntegrityError:
        return False
    return True


def write_manifest(folder: Path, facts: dict[str, Any] | None = None) -> None:
    """Writes `manifest.json` of a folder that has no name yet: `facts`, and of every other file size and SHA-256.

    Whoever gives the folder its name forces all of it to disk before: see `commit_folder`.
    """
    files = {}
    for path in _files_of(folder):
        if path != folder / MANIFEST:
            sha256 = disk.known_hash(path) or hash_file(path)
            files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": sha256}
    # Not write_file, which would make the folder again when it was taken away meanwhile, and call nothing whole.
    disk.write(folder / MANIFEST, [seal({**(facts or {}), "files": files})], sync=False)


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


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
