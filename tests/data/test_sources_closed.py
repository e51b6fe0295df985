"""Folders below a source that must not be read: never passed over in silence, and `exclude:` leaves them out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.test_sources_listing import listed, rules, write
from tilth.core.errors import DataError


def close(monkeypatch: pytest.MonkeyPatch, folder: Path, *, listed: bool = False) -> None:
    """Lets the system refuse what it refuses in a folder without rights: who tests as root may read every one.

    Args:
        listed: its names can be read, as with the rights `r--`.
    """

    def refusing(real: Callable[..., Any], refused: Callable[[str], bool]) -> Callable[..., Any]:
        def asked(path: Any, *given: Any, **named: Any) -> Any:
            if not isinstance(path, int) and refused(os.fsdecode(path)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fsdecode(path))
            return real(path, *given, **named)

        return asked

    def below(path: str) -> bool:
        return path.startswith(f"{folder}{os.sep}")

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), below))
    scanned = below if listed else lambda path: path == str(folder) or below(path)
    monkeypatch.setattr(os, "scandir", refusing(os.scandir, scanned))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("a.txt", "c [1]/b.txt", "c [1]/deep/b.txt", "x/c.txt", "x/deep/c.txt"):
        write(tmp_path / "notes" / name)
    return tmp_path


@pytest.mark.parametrize(
    "path", ["notes", "notes/**/*.txt", "notes/*/*.txt", "notes/**", "notes/**/deep/*", "notes/*/c.txt"]
)
def test_a_folder_that_must_not_be_read_is_named_and_can_be_left_out(
    home: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    closed = home / "notes" / "c [1]"
    others = [item.locator for item in listed(home, path=path, exclude=["c [[]1]"])]
    close(monkeypatch, closed)
    with pytest.raises(DataError) as caught:
        listed(home, path=path, name="mine")
    assert caught.value.message == f"source mine: cannot read the folder {closed}: Permission denied"
    assert caught.value.remedy == (
        "give yourself the right to read it, or leave it out by the source's `exclude: ['c [[]1]']`"
    )
    found = listed(home, path=path, exclude=["c [[]1]"])
    assert [item.locator for item in found] == others != []
    assert rules(found) == {"notes/c [1]": "excluded"} and not found.notes


@pytest.mark.parametrize("path", ["notes", "notes/*.txt", "notes/**/*.txt"])
def test_the_folder_of_a_source_must_be_readable(home: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    close(monkeypatch, home / "notes")
    with pytest.raises(DataError, match=r"cannot read the folder .*/notes: Permission denied") as caught:
        listed(home, path=path, exclude=["x"])
    assert caught.value.remedy == "give yourself the right to read it"


def test_a_file_in_such_a_folder_is_named_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close(monkeypatch, home / "notes" / "x", listed=True)
    for path in ("notes/x/c.txt", "notes/x", "notes", "notes/**/*.txt"):
        with pytest.raises(DataError, match=r"cannot read .*/x/(c\.txt|deep): Permission denied"):
            listed(home, path=path, format="text")


@pytest.mark.parametrize("path", ["notes", "notes/**/*.txt"])
def test_a_hidden_folder_need_not_be_readable(home: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    write(home / "notes" / ".trash" / "d.txt")
    close(monkeypatch, home / "notes" / ".trash")
    found = listed(home, path=path)
    assert len(found) == 5 and rules(found) == {"notes/.trash": "hidden"}
    with pytest.raises(DataError, match="cannot read the folder"):
        listed(home, path="notes/.trash/**/*.txt")


def test_a_disk_that_fails_is_no_empty_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def failing(path: Any) -> Any:
        if os.fspath(path) == str(home / "notes" / "x"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    for path in ("notes", "notes/**/*.txt"):
        with pytest.raises(DataError, match=r"/x: Input/output error") as caught:
            listed(home, path=path)
        assert caught.value.remedy.startswith("look after the disk, or leave it out")
