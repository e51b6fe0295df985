"""Files of sources are hashed once: what is trusted, and what is read again."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path

import pytest

from tilth.core import files
from tilth.core.config import parse
from tilth.core.errors import IntegrityError, StorageError
from tilth.core.files import new_folder
from tilth.data.sources import SourceConfig
from tilth.data.sources.hashes import (
    _WORTH_A_THREAD,
    RememberedHashes,
    hash_large,
    hashing,
    verify_folder,
)
from tilth.data.sources.listing import list_remembered


def write(path: Path, text: str, age: float = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time_ns() - int(age * 1e9)
    os.utime(path, ns=(then, then))
    return path


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def hashed(note: Path, *paths: Path) -> tuple[list[str], int]:
    """The hashes of files by a note, and how many bytes had to be read."""
    remembered = RememberedHashes(note)
    found = [remembered(path) for path in paths]
    remembered.save()
    return found, remembered.read_bytes


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.txt", "one"), write(tmp_path / "2.txt", "second")
    expected = [sha256("one"), sha256("second")]
    note = tmp_path / "note.json"
    assert hashed(note, one, two) == (expected, 9)
    assert hashed(note, one, two) == (expected, 0)
    write(two, "Second", age=59)
    assert hashed(note, one, two) == ([expected[0], sha256("Second")], 6)


def test_a_file_that_was_changed_and_dated_back_is_read_again(tmp_path: Path) -> None:
    path, note = write(tmp_path / "1.txt", "one"), tmp_path / "note.json"
    hashed(note, path)
    before = path.stat()
    path.write_text("eno")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_size == before.st_size
    assert hashed(note, path) == ([sha256("eno")], 3)


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    path, note = write(tmp_path / "1.txt", "one", age=0), tmp_path / "note.json"
    assert hashed(note, path)[1] == hashed(note, path)[1] == 3
    assert not note.exists(), "there was nothing to write down"


@pytest.mark.parametrize("place", [5, -20])
def test_an_altered_note_is_worth_nothing(tmp_path: Path, place: int) -> None:
    path, note = write(tmp_path / "1.txt", "one"), tmp_path / "note.json"
    hashed(note, path)
    content = bytearray(note.read_bytes())
    content[place] ^= 1
    note.write_bytes(content)
    assert hashed(note, path) == ([sha256("one")], 3)
    assert hashed(note, path)[1] == 0, "and is written anew"


def test_a_listing_is_the_same_with_and_without_a_memory(tmp_path: Path) -> None:
    for name in ("a.txt", "b/c.txt"):
        write(tmp_path / "texts" / name, name)
    source = parse(SourceConfig, {"path": "texts"})
    first = list_remembered(source, tmp_path, tmp_path / "work")
    [note] = (tmp_path / "work" / "listings").iterdir()
    before = note.stat().st_mtime_ns
    assert list_remembered(source, tmp_path, tmp_path / "work") == first and len(first) == 2
    assert note.stat().st_mtime_ns == before, "nothing new, nothing written"
    write(tmp_path / "texts" / "new.txt", "new")
    (tmp_path / "texts" / "a.txt").unlink()
    again = list_remembered(source, tmp_path, tmp_path / "work")
    assert [item.locator for item in again] == ["texts/b/c.txt", "texts/new.txt"]
    assert "a.txt" not in note.read_text(), "what is no longer asked for is forgotten"


def test_large_files_are_hashed_side_by_side(tmp_path: Path) -> None:
    texts = {f"{name}.txt": name * (_WORTH_A_THREAD + place) for place, name in enumerate("abc")}
    paths = [write(tmp_path / "texts" / name, text) for name, text in texts.items()]
    small = write(tmp_path / "texts" / "small.txt", "small")
    remembered = RememberedHashes(tmp_path / "note.json")
    with hashing(remembered):
        assert hash_large([*paths, small, tmp_path / "gone.txt"]) == {
            path: sha256(texts[path.name]) for path in paths
        }, "the small one, and the one that is gone, are asked for by themselves"
        assert hash_large([paths[0], small]) == {}, "one alone has no company"
    assert remembered.read_bytes == sum(map(len, texts.values()))
    source = parse(SourceConfig, {"path": "texts"})
    found = {item.locator: item.sha256 for item in list_remembered(source, tmp_path, tmp_path / "work")}
    assert found == {f"texts/{path.name}": sha256(path.read_text()) for path in [*paths, small]}


def test_a_folder_with_a_manifest_is_compared(tmp_path: Path) -> None:
    with new_folder(tmp_path / "f", {}) as folder:
        (folder / "x").write_text("x")
    assert verify_folder(tmp_path / "f")["files"].keys() == {"x"}
    (tmp_path / "f" / "x").write_text("y")
    with pytest.raises(IntegrityError, match="x is not what was written"):
        verify_folder(tmp_path / "f")


def test_who_may_only_read_a_workspace_reads_the_files_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, note = write(tmp_path / "1.txt", "one"), tmp_path / "listings" / "note.json"

    def refuse(number: int) -> None:
        def write(path: Path, *_: object) -> None:
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(files.disk, "write", write)

    for number in (errno.EACCES, errno.EROFS):
        refuse(number)
        assert hashed(note, path) == ([sha256("one")], 3)
    refuse(errno.ENOSPC)
    with pytest.raises(StorageError, match="the disk is full"):
        hashed(note, path)
