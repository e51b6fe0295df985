"""The disk: every operation that changes it, what it refuses in our words, and paths that stay where they belong.

    disk                            one method an operation, so that a test can fail, or exit at, the k-th
    with storage_errors(path): …    the disk's refusals as a StorageError
    hash_file(path)                 SHA-256
    safe_join(root, *parts)         a path that cannot leave its root

What is to be durable is written by `files.py`, which is the only one that knows the order of these operations.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tilth.core.errors import IntegrityError, StorageError, TilthError

_SYNCED_TOGETHER = 8
"""Files: who asks a journal while it commits for another waits for the next commit, which is for all of them."""


class _Known(NamedTuple):
    state: tuple[int, ...]
    sha256: str
    synced: bool


class Disk:
    """Every operation that changes the disk, one method each."""

    def __init__(self) -> None:
        self._known: dict[Path, _Known] = {}

    def write(self, path: Path, chunks: Iterable[bytes | memoryview], *, sync: bool = True) -> tuple[int, str]:
        """Writes a new file; returns its size and SHA-256 (of the bytes given, not read back).

        Args:
            sync: fsync it. Else it is left to the `sync_files` of the folder that it is made in.
        """
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk) if isinstance(chunk, bytes) else chunk.nbytes
            file.flush()
            if sync:
                os.fsync(file.fileno())
            self._known[path] = _Known(file_state(os.fstat(file.fileno())), digest.hexdigest(), sync)
        return size, digest.hexdigest()

    def known_hash(self, path: Path) -> str | None:
        """The SHA-256 of a file that `write` or `link` made, when nothing has changed it since; told until its folder
        is synced.
        """
        known = self._known.get(path)
        return known.sha256 if known is not None and known.state == file_state(path.stat()) else None

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

    def make_folder(self, path: Path, *, sync: bool = True) -> None:
        """Makes a folder and its parents; it may exist.

        Args:
            sync: fsync what names those that were made. Else it is left to the commit of the folder around it.
        """
        made = list(itertools.takewhile(lambda place: not place.is_dir(), (path, *path.parents)))
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # though its parent is there: a file system that takes none, such as /proc
            raise OSError(errno.EPERM, "nothing can be made there", str(path)) from error
        for place in reversed(made if sync else []):
            with contextlib.suppress(PermissionError):  # a folder that may be written and not read
                self.sync_folder(place.parent)

    def rename(self, old: Path, new: Path) -> None:
        """Renames, atomically, within one file system."""
        old.rename(new)

    def replace(self, old: Path, new: Path) -> None:
        """Renames a file over an existing one, atomically."""
        self._known.pop(old, None)
        old.replace(new)

    def link(self, old: Path, new: Path, sha256: str | None = None) -> None:
        """Gives a file a second name; a copy where the file system has no links.

        Args:
            sha256: of the file, where it is known; it lies on the disk then, and `known_hash` tells it of a link.
        """
        try:
            os.link(old, new)
        except OSError:
            shutil.copyfile(old, new)
        else:
            if sha256 is not None:
                self._known[new] = _Known(file_state(new.stat()), sha256, synced=True)

    def sync_file(self, path: Path) -> None:
        """Forces a file that a library wrote to disk."""
        self._sync(path)

    def sync_files(self, paths: Iterable[Path]) -> None:
        """Forces files to disk that do not lie there already, several at a time."""
        known = [(path, self._known.pop(path, None)) for path in paths]
        late = [path for path, one in known if one is None or not one.synced or one.state != file_state(path.stat())]
        if len(late) == 1:  # as of most tasks: a thread costs more than the call
            self._sync(late[0])
            return
        try:
            with ThreadPoolExecutor(_SYNCED_TOGETHER) as pool:
                for _ in pool.map(self._sync, late):
                    pass
        except RuntimeError:  # no memory for a further thread
            for path in late:
                self._sync(path)

    def sync_folder(self, path: Path) -> None:
        """Forces a folder's entries to disk: without it a rename can be lost with the power."""
        self._sync(path)

    def touch(self, path: Path) -> None:
        """Dates a file or a folder to now, where it may be."""
        with contextlib.suppress(OSError):
            os.utime(path)

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


def file_state(of: os.stat_result) -> tuple[int, ...]:
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


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose another folder, or make this one writable"),
    errno.EIO: "look after the disk, or choose another folder",
}
_AGAIN = "then type the same command: what was finished is kept"


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the disk's refusals into a StorageError that names the place, and the space left where that is why."""
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
            raise unreadable(Path(error.filename), error) from error  # something that was to be read, on the way
        raise _refused(error, path) from error


def _refused(error: OSError, path: Path) -> StorageError:
    # An error without a name is a library's, which puts a sentence of its own around the system's.
    reason = error.strerror if error.filename else os.strerror(error.errno or 0)
    said = f"cannot write {error.filename or path}: {'the disk is full' if error.errno == errno.ENOSPC else reason}"
    if error.errno in _FULL:
        existing = next((p for p in [path, *path.parents] if os.path.exists(p)), Path("/"))  # noqa: PTH110 - never raises
        free = shutil.disk_usage(existing).free / 2**30
        return StorageError(f"{said} ({free:.2f} GiB free)", f"make room or choose another folder, {_AGAIN}")
    if error.errno in _IN_THE_WAY:
        named = error.filename2 or error.filename  # of a renaming its target
        wanted = Path(named) if isinstance(named, str) else path
        # The first of them that is no folder: what is below it cannot be there.
        stands = next((p for p in [*reversed(wanted.parents), wanted] if os.path.lexists(p) and not p.is_dir()), None)
        if stands is not None:
            said = f"cannot write {wanted}: {'it' if stands == wanted else stands} is a file, not a folder"
            return StorageError(said, f"name a folder, or move that file away, {_AGAIN}")
        return StorageError(
            f"cannot write {wanted}: a folder is in the way", f"move it away, or choose another folder, {_AGAIN}"
        )
    return StorageError(said, f"{_REMEDIES.get(error.errno or 0, 'choose another folder')}, {_AGAIN}")


def _may_be_within(name: str | bytes | int, folder: Path) -> bool:
    """Whether what is refused is in the folder, or is the folder, or one above it that was to be made first."""
    if not isinstance(name, str):
        return True
    refused, folder = Path(name).absolute(), folder.absolute()
    return refused.is_relative_to(folder) or folder.is_relative_to(refused)


def require_utf8(path: Path) -> None:
    """StorageError for a path that is not UTF-8: Arrow and safetensors open none."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise StorageError(f"the path {str(path)!r} is not UTF-8", "choose another folder") from None


def unreadable(path: Path, error: OSError) -> TilthError:
    """A file that may not be read is not damaged; one that cannot be is as good as gone."""
    told = f"cannot read {path}: {error.strerror}"
    if isinstance(error, PermissionError):
        return StorageError(told, "make it readable for this user")
    return IntegrityError(told, "the folder is not whole: make it again")


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_join(root: Path, *parts: str) -> Path:
    """`root/parts…`, refused when it would leave `root`: a name from data or network must not choose where we write."""
    joined = (root / Path(*parts)).resolve()
    if not joined.is_relative_to(root.resolve()):
        raise StorageError(
            f"the name {'/'.join(parts)!r} leads out of {root}", "rename it so that it stays inside the folder"
        )
    return joined
