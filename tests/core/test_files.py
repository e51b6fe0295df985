"""What stands at its final name is whole; every changed byte is noticed; nothing leaves its folder."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tilth.core import files
from tilth.core.errors import IntegrityError, StorageError


class Failing(files.Disk):
    """A disk on which the k-th change fails."""

    def __init__(self, at: int, code: int = errno.ENOSPC) -> None:
        super().__init__()
        self.left, self.code = at, code

    def _count(self, path: Path) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code), str(path))

    def write(self, path: Path, chunks: Iterable[bytes | memoryview], *, sync: bool = True) -> tuple[int, str]:
        self._count(path)
        return super().write(path, chunks, sync=sync)

    def rename(self, old: Path, new: Path) -> None:
        self._count(old)
        super().rename(old, new)

    def replace(self, old: Path, new: Path) -> None:
        self._count(old)
        super().replace(old, new)

    def sync_folder(self, path: Path) -> None:
        self._count(path)
        super().sync_folder(path)

    def sync_files(self, paths: Iterable[Path]) -> None:
        paths = list(paths)
        self._count(paths[0])
        super().sync_files(paths)


def fill(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.bin").write_bytes(bytes(range(256)))
    (folder / "sub" / "b.txt").write_text("text")


def test_a_place_that_is_a_folder_is_named_as_it_was_typed(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    with pytest.raises(StorageError, match=r"cannot write \S*/else: a folder is in the way"):
        files.write_file(tmp_path / "else", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["else"]


def test_write_file_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x"
    files.write_file(path, b"one")
    digest = files.write_file(path, [b"tw", memoryview(b"o")])
    assert path.read_bytes() == b"two" and digest == files.hash_file(path)
    assert [p.name for p in path.parent.iterdir()] == ["x"]


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    files.write_file(path, b"old")
    for operation in (1, 2):
        monkeypatch.setattr(files, "disk", Failing(operation))
        with pytest.raises(StorageError, match=r"No space left on device.*GiB free"):
            files.write_file(path, b"new")
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_folder_where_a_file_should_be_is_named_without_the_space_left(tmp_path: Path) -> None:
    (tmp_path / "x" / "in it").mkdir(parents=True)
    with pytest.raises(StorageError, match=rf"cannot write {tmp_path}/x: a folder is in the way\n") as caught:
        files.write_file(tmp_path / "x", b"new")
    assert caught.value.remedy.startswith("move it away, or choose another folder")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for operation in range(1, 30):
        final = tmp_path / f"f{operation}"
        failing = Failing(operation)
        monkeypatch.setattr(files, "disk", failing)
        try:
            with files.new_folder(final, {"n": 1}) as folder:
                fill(folder)
        except StorageError:
            pass
        monkeypatch.setattr(files, "disk", files.Disk())
        if failing.left > 0:
            assert operation > 6, "the loop met every operation of a commit"
            break
        if final.exists():
            assert files.verify_manifest(final)["n"] == 1
    else:
        pytest.fail("there are more operations than the loop covers")


def test_all_of_a_folder_lies_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    real, rename = os.fsync, files.Disk.rename

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    def named(self: files.Disk, old: Path, new: Path) -> None:
        late = {path.name for path in (old, *old.rglob("*")) if path.stat().st_ino not in synced}
        assert late == {"linked"}, "which lay there before"
        rename(self, old, new)

    before = tmp_path / "before"
    sha256 = files.write_file(before, b"of another folder")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(files.Disk, "rename", named)
    with files.new_folder(tmp_path / "f") as folder:
        fill(folder)
        files.disk.write(folder / "late", [b"x"], sync=False)
        files.disk.write(folder / "changed", [b"x"])
        (folder / "changed").write_bytes(b"other")
        synced.discard((folder / "changed").stat().st_ino)
        (folder / "shard").mkdir()
        files.disk.write(folder / "shard" / "tokens", [b"x"], sync=False)
        files.write_manifest(folder / "shard")
        files.disk.link(before, folder / "linked", sha256)
    assert files.verify_manifest(tmp_path / "f")["files"]["linked"]["sha256"] == sha256


def test_a_new_folder_is_named_on_the_disk_by_every_folder_above_it(tmp_path: Path, synced: list[int]) -> None:
    with files.new_folder(tmp_path / "a" / "b" / "f") as folder:
        above = [place.stat().st_ino for place in (tmp_path, tmp_path / "a")]
        assert synced == above, "from the outermost on"
        files.disk.make_folder(folder / "c" / "d", sync=False)
        assert synced == above, "what has no name yet is synced when it gets one"
    assert synced[-1] == (tmp_path / "a" / "b").stat().st_ino


@pytest.mark.parametrize("replace_damaged", [False, True])
def test_the_second_of_two_equal_folders_gives_way(tmp_path: Path, replace_damaged: bool) -> None:
    final = tmp_path / "f"
    for text in ("first", "second"):
        with files.new_folder(final, replace_damaged=replace_damaged) as folder:
            (folder / "x").write_text(text)
    assert (final / "x").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def cut_short(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"")


def flipped(folder: Path) -> None:
    (folder / "sub" / "b.txt").write_text("tezt")


def without_manifest(folder: Path) -> None:
    (folder / files.MANIFEST).unlink()


DAMAGES = [cut_short, flipped, without_manifest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_gives_way_to_a_whole_one(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    final = tmp_path / "f"
    for number in range(2):
        with files.new_folder(final, {"number": number}, replace_damaged=True) as folder:
            fill(folder)
        if number == 0:
            damage(final)
    assert files.verify_manifest(final)["number"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_somebodys_folder_is_in_the_way_and_stays(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    final = tmp_path / "f"
    with files.new_folder(final) as folder:
        fill(folder)
    damage(final)
    before = {path: path.read_bytes() for path in final.rglob("*") if path.is_file()}
    with (
        pytest.raises(StorageError, match=rf"cannot write {final}: a folder is in the way\n"),
        files.new_folder(final) as folder,
    ):
        fill(folder)
    assert {path: path.read_bytes() for path in final.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_failing_disk_leaves_of_a_replaced_folder_a_whole_one_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for operation in range(1, 30):
        final = tmp_path / str(operation) / "f"
        with files.new_folder(final, {"n": 1}) as folder:
            fill(folder)
        flipped(final)
        failing = Failing(operation)
        monkeypatch.setattr(files, "disk", failing)
        with contextlib.suppress(StorageError), files.new_folder(final, {"n": 2}, replace_damaged=True) as folder:
            fill(folder)
        monkeypatch.setattr(files, "disk", files.Disk())
        files.remove_leftovers(final.parent, "f")
        left = [path.name for path in final.parent.iterdir()]
        if failing.left > 0:
            assert operation > 8 and files.verify_manifest(final)["n"] == 2, "the loop met every operation"
            return
        assert left in ([], ["f"]), "nothing has a name that no one would remove"
        if left and files.read_manifest(final)["n"] == 2:
            files.verify_manifest(final)
    pytest.fail("there are more operations than the loop covers")


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    final = tmp_path / "f"
    with files.new_folder(final, {"count": 10}) as folder:
        fill(folder)
    for path in [p for p in final.rglob("*") if p.is_file()]:
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(IntegrityError):
                files.verify_manifest(final)
        path.write_bytes(whole[:-1])
        with pytest.raises(IntegrityError):
            files.verify_manifest(final)
        path.write_bytes(whole)
    assert files.verify_manifest(final)["count"] == 10


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a/../../../x"])
def test_names_cannot_leave_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError):
        files.safe_join(tmp_path, name)


def test_links_cannot_leave_their_folder(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(StorageError):
        files.safe_join(tmp_path / "root", "link", "x")
    assert files.safe_join(tmp_path / "root", "a", "b").name == "b"


def hold(folder: str, ready: object, done: object) -> None:
    with files.FolderLock(Path(folder), "the folder"):
        ready.set()  # type: ignore[attr-defined]
        done.wait(20)  # type: ignore[attr-defined]


def test_a_folder_is_for_one_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), ready, done))
    process.start()
    assert ready.wait(20)
    with (
        pytest.raises(StorageError, match=f"in use by process {process.pid}"),
        files.FolderLock(tmp_path, "the folder"),
    ):
        pass
    process.kill()  # the system lets go of the lock of a dead process
    process.join()
    with files.FolderLock(tmp_path, "the folder"):
        pass


def test_a_folder_that_was_moved_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "run" / "steps.jsonl"
    with pytest.raises(StorageError, match="its folder is gone"), files.storage_errors(path):
        files.disk.append(path, b"{}")
    (tmp_path / "run").mkdir()
    with pytest.raises(FileNotFoundError), files.storage_errors(path):
        path.read_bytes()  # a file that is missing where its folder is not is a bug, and stays one


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no folder")
def test_a_place_where_nothing_can_be_made() -> None:
    place = Path("/proc/tilth")
    with (
        pytest.raises(StorageError, match="cannot write /proc/tilth: nothing can be made"),
        files.storage_errors(place),
    ):
        files.disk.make_folder(place)


def test_a_file_that_cannot_be_read_is_no_bug(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "whole") as folder:
        (folder / "a").write_text("seed")
    manifest = files.read_manifest(tmp_path / "whole")
    (tmp_path / "whole" / "a").unlink()
    with pytest.raises(IntegrityError, match=r"cannot read .*/a: No such file"):
        files.verify_file(tmp_path / "whole", "a", manifest)
    (tmp_path / "b.json").mkdir()
    with pytest.raises(IntegrityError, match=r"cannot read .*b.json: Is a directory"):
        files.read_json(tmp_path / "b.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(IntegrityError, match="is damaged"):
        files.read_json(tmp_path / "deep.json")


def test_a_path_that_is_not_utf_8_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    with pytest.raises(StorageError, match="is not UTF-8"), files.FolderLock(folder, "the workspace"):
        pass
    assert not folder.exists()


def test_a_disk_without_locks_is_not_said_to_be_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with pytest.raises(StorageError, match=r"cannot lock .*No locks available"), files.FolderLock(tmp_path, "it"):
        pass


def test_a_file_that_may_not_be_read_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    def refuse(name: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(name))

    with pytest.raises(StorageError, match="cannot read") as caught, files.new_folder(tmp_path / "made" / "here"):
        refuse(tmp_path / "source.txt")
    assert "readable" in caught.value.remedy
    with pytest.raises(StorageError, match="cannot write"), files.new_folder(tmp_path / "made" / "here") as folder:
        refuse(folder / "tokens.bin")


@pytest.mark.parametrize("below", ["rows", "rows/x", "rows/x/y"])
def test_of_several_folders_to_be_made_the_first_that_cannot_be_is_unwritable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    mkdir = os.mkdir

    def refuse(path: Path, *given: int) -> None:
        if Path(path).parent == tmp_path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        mkdir(path, *given)

    monkeypatch.setattr(os, "mkdir", refuse)  # root may write everywhere
    said, lock = r"cannot write .*/rows: Permission denied", files.FolderLock(tmp_path / below, "it")
    with pytest.raises(StorageError, match=said) as caught, lock:
        pass
    assert "make this one writable" in caught.value.remedy
