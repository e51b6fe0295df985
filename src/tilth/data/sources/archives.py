"""The files in an archive, one after another as they stand in it; nothing is unpacked to disk.

    entries(item, content) -> Entry(name, pieces, refused)

zip (stored, deflate, bzip2) is read by its directory, tar as a stream (in any packing that `streams.py` knows). An
archive is bounded in files, in bytes and in how much it grows. Refused, with a rule: names that are absolute or hold
`..` (`unsafe_name`), links (`link`), devices and pipes (`device`), sparse files (`sparse`), hidden ones (`hidden`), a
name that comes again (`duplicate_name`), what needs a password (`encrypted`) or an unknown method (`unsupported`), and
files that grow more than text does (`bomb`).
"""

from __future__ import annotations

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from tilth.core import progress
from tilth.data.document import in_utf8
from tilth.data.sources import streams
from tilth.data.sources.content import Content
from tilth.data.sources.inputs import Input
from tilth.data.sources.notes import Note

MOST_FILES = 1_000_000
MOST_BYTES = 1 << 40
_LONGEST_HEADER = 1 << 16  # of a tar entry: its long name, its attributes
_BITE = 1 << 13  # bytes of a tar entry that are read at a time: those that the archive ends in are lost
_ENTRY_BOMB = 64 << 20  # bytes from which on the ratio of one zip entry is judged
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2}  # LZMA takes whatever memory its header names


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive: its name, and its bytes or why they are not read."""

    name: str
    pieces: Iterator[bytes]
    refused: Note | None = None


class ArchiveError(Exception):
    """The archive, or the entry that is being read, is not what it should be: `rule` and `why` say how."""

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(rule, why)
        self.rule, self.why, self.within = rule, why, ""


class ArchiveEndedError(ArchiveError):
    """Nothing more can be read of the archive, from the midst of a file in it; `within` names that file."""


def entries(item: Input, content: Content) -> Iterator[Entry]:
    """The files of an archive; each is to be read before the next is taken.

    Raises:
        ArchiveError: nothing more can be read of the archive; from an entry's `pieces` of that entry, or of the archive
            as well where it is an ArchiveEndedError.
        PackedError: nothing more can be read, of what the archive as a whole is packed in.
    """
    seen: set[str] = set()
    found = _zip_entries(content) if item.kind == "zip" else _tar_entries(content)
    for number, entry in enumerate(found, 1):
        if number > MOST_FILES:
            raise ArchiveError("too_many_files", f"more than {MOST_FILES} files; the rest is not read")
        refused = _refused_name(entry.name) or entry.refused
        name = entry.name if refused else "/".join(part for part in _parts(entry.name) if part not in ("", "."))
        if refused is None and name in seen:
            refused = Note("duplicate_name", "", "a file of this name stands in the archive before")
        seen.add(name)
        yield Entry(name, iter(()) if refused else entry.pieces, refused)


def _parts(name: str) -> list[str]:
    return re.split(r"[/\\]", name)


def _refused_name(name: str) -> Note | None:
    parts = _parts(name)
    if not name or parts[0] == "" or re.match(r"[A-Za-z]:", name) or ".." in parts or "\0" in name:
        return Note("unsafe_name", "", "the name leads out of the archive")
    if any(part == "__MACOSX" or (part.startswith(".") and part != ".") for part in parts):
        return Note("hidden", "", "a hidden file, or in a hidden folder")
    return None


def _zip_entries(content: Content) -> Iterator[Entry]:
    with content.whole() as file:
        size = file.seek(0, 2)
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, OverflowError) as error:
            raise ArchiveError("damaged", f"no zip archive: {error}") from error
        with archive:
            _refuse_bomb(sum(info.file_size for info in archive.infolist()), size)
            for info in archive.infolist():
                if not info.is_dir():
                    yield _zip_entry(archive, info)
                progress.advance(info.compress_size)


def _refuse_bomb(grown: int, size: int) -> None:
    # What the directory says holds: no more is read of an entry. Entries that share bytes are counted each.
    if grown > MOST_BYTES or (grown > streams.BOMB_BYTES and grown > streams.BOMB_RATIO * size):
        raise ArchiveError("bomb", f"{size} bytes that become {grown}")


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    mode = info.external_attr >> 16
    kind = mode & 0o170000
    refused = None
    if kind == 0o120000:
        refused = Note("link", "", "a link")
    elif kind not in (0, 0o100000):
        refused = Note("device", "", "no regular file")
    elif info.flag_bits & 1:
        refused = Note("encrypted", "", "it needs a password")
    elif info.compress_type not in _METHODS:
        refused = Note("unsupported", str(info.compress_type), f"packed by method {info.compress_type}")
    elif info.file_size > _ENTRY_BOMB and info.file_size > streams.BOMB_RATIO * info.compress_size:
        refused = Note("bomb", str(info.file_size), f"{info.compress_size} bytes that become {info.file_size}")
    return Entry(info.orig_filename, _zip_pieces(archive, info), refused)


def _zip_pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as file:
            yield from iter(lambda: file.read(streams.PIECE), b"")
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError("damaged", str(error) or type(error).__name__) from error


_tar: Any = tarfile  # the methods below have an argument of that name


class _Header(tarfile.TarInfo):
    """A tar entry's header, with three faults that the standard library lets pass."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> _Header:
        try:
            return super().fromtarfile(tarfile)
        except (_tar.InvalidHeaderError, _tar.TruncatedHeaderError) as error:
            raise _tar.ReadError(str(error)) from error  # it would take that for the archive's end

    def _proc_member(self, tarfile: Any) -> Any:
        held = self.type in (_tar.GNUTYPE_LONGNAME, _tar.GNUTYPE_LONGLINK, _tar.XHDTYPE, _tar.XGLTYPE, b"X")
        if held and self.size > _LONGEST_HEADER:  # it would be read into memory
            raise _tar.ReadError(f"a header of {self.size} bytes")
        if self.type == _tar.GNUTYPE_SPARSE:  # and so would the map of its holes, to whatever end that has
            raise _tar.ReadError("a sparse file")
        return super()._proc_member(tarfile)  # type: ignore[misc]

    def _proc_gnusparse_10(self, *_: Any) -> None:
        raise _tar.ReadError("a sparse file")


def _tar_entries(content: Content) -> Iterator[Entry]:
    stream: Any = streams.Pieces(content.pieces)
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header, errorlevel=0) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps them all
                if not member.isdir():
                    yield _tar_entry(archive, member)
                _pass_over(archive, member)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise ArchiveError("damaged", f"{str(error) or type(error).__name__}; what follows is not read") from error
    while stream.read(streams.PIECE):  # to the end, where its hash is compared
        pass


def _pass_over(archive: Any, member: tarfile.TarInfo) -> None:
    """Goes on to where the next header is said to stand, but for a byte, which `next` reads. It would go there by
    itself, and on past the archive's end: for days, where a header states 2**60 bytes.
    """
    left = archive.offset - 1 - archive.fileobj.tell()
    while left > 0:
        took = len(archive.fileobj.read(min(left, streams.PIECE)))
        if not took:
            raise tarfile.ReadError(
                f"it ends within {ascii(member.name)[:200]}, a file of {member.size} bytes by its header"
            )
        left -= took


def _tar_entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    name = in_utf8(member.name)
    refused = None
    if member.issym() or member.islnk():
        refused = Note("link", "", f"a link to {ascii(member.linkname)[:200]}")
    elif member.issparse():
        refused = Note("sparse", "", "a sparse file")
    elif not member.isreg():
        refused = Note("device", "", "no regular file")
    elif member.size > MOST_BYTES:
        refused = Note("bomb", str(member.size), f"{member.size} bytes")
    return Entry(name, _tar_pieces(archive, member), refused)


def _tar_pieces(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    file: BinaryIO | Any = archive.extractfile(member)
    held, size = list[bytes](), 0
    try:
        while piece := file.read(_BITE):
            held.append(piece)
            size += len(piece)
            if size >= streams.PIECE:
                yield b"".join(held)
                held, size = [], 0
    except (tarfile.TarError, streams.PackedError) as error:
        if held:
            yield b"".join(held)
        rule, why = (error.rule, error.message) if isinstance(error, streams.PackedError) else ("damaged", str(error))
        raise ArchiveEndedError(rule, f"{why}; what follows is not read") from error
    if held:
        yield b"".join(held)
