"""What killed runs left half-made is removed, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tilth.core import files
from tilth.core.errors import StorageError
from tilth.core.files import FolderLock, new_folder, remove_leftovers
from tilth.data.leftovers import clear_leftovers

KEY, MARK = "0123456789abcdef0123", "0123456789ab"


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(path: Path, content: bytes = b"half") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_half_made_results_go_and_are_counted(tmp_path: Path, dead: int) -> None:
    by = f"{dead}-0a1b2c3d.tmp"
    halves = [
        write(tmp_path / "tasks" / f".clean-{KEY}.{by}" / "edits.parquet", bytes(1000)).parent,
        write(tmp_path / "tasks" / f".held_out-{KEY}.7.tmp" / "x").parent,
        write(tmp_path / "tasks" / f".encode-{KEY}.old.tmp" / "train" / "x").parents[1],
        write(tmp_path / "datasets" / f".my-text.v2-{MARK}.{by}" / "ledger" / "x").parents[1],
        write(tmp_path / "prepared" / f".my-text-{KEY}.json.{by}"),
        write(tmp_path / "listings" / f".{KEY}{MARK}.json.{by}"),
        write(tmp_path / "downloads" / f".crawl-0123456789abcdef-0.{by}" / "pages.warc.gz").parent,
        write(tmp_path / "downloads" / "hub" / "a--b" / "c0ffee" / ".streams" / f".x.json.{by}"),
    ]
    stay = [
        write(tmp_path / "tasks" / f"clean-{KEY}" / "manifest.json"),
        write(tmp_path / "tasks" / ".mine.tmp"),
        write(tmp_path / "prepared" / f".my-text-{KEY}.json.{os.getpid()}-0a1b2c3d.tmp"),  # somebody is writing it
        write(tmp_path / "downloads" / "a.txt.part"),
        write(tmp_path / "downloads" / "crawl-0.work" / "journal.jsonl"),
        write(tmp_path / "downloads" / "hub" / ".notes.tmp"),
    ]
    cleared = clear_leftovers(tmp_path)
    assert sorted(cleared.paths) == sorted(halves) and not any(path.exists() for path in halves)
    assert all(path.exists() for path in stay) and cleared.size == 1000 + 7 * 4
    assert str(cleared).startswith("removed 8 half-made results (1,028 bytes) that a stopped run left in ")
    assert str(clear_leftovers(tmp_path)) == ""


def test_a_folder_of_downloads_that_somebody_holds_is_left_alone(tmp_path: Path, dead: int) -> None:
    half = write(tmp_path / "downloads" / f".records-0123456789abcdef.{dead}-0a1b2c3d.tmp" / "x").parent
    with FolderLock(tmp_path / "downloads", "the download folder"):
        assert clear_leftovers(tmp_path).paths == () and half.exists()
    assert clear_leftovers(tmp_path).paths == (half,)


def test_who_outlived_its_run_makes_nothing_whole_of_what_was_taken_away(tmp_path: Path) -> None:
    """A worker of a cluster may go on for a while; its half-made folder is removed under its hands."""
    final = tmp_path / f"clean-{KEY}"
    with pytest.raises(StorageError, match="its folder is gone"), new_folder(final) as folder:
        (folder / "a").write_text("text")
        remove_leftovers(tmp_path, rf"clean-{KEY}")
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("call", "left"), [(1, f".clean-{KEY}.7.tmp"), (2, f".clean-{KEY}.old.tmp")])
def test_removing_can_be_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, left: str) -> None:
    class Interrupted(files.Disk):
        calls = 0

        def remove(self, path: Path) -> None:
            self.calls += 1
            if self.calls == call:
                raise KeyboardInterrupt
            super().remove(path)

    write(tmp_path / f".clean-{KEY}.7.tmp" / "a")
    monkeypatch.setattr(files, "disk", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        remove_leftovers(tmp_path, rf"clean-{KEY}")
    monkeypatch.setattr(files, "disk", files.Disk())
    assert [path.name for path in tmp_path.iterdir()] == [left]
    remove_leftovers(tmp_path, rf"clean-{KEY}")
    assert list(tmp_path.iterdir()) == []
