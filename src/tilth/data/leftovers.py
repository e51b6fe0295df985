"""What a run that was killed left half-made in a workspace, removed at the start of the next.

    clear_leftovers(workspace) -> Leftovers

For whoever holds the workspace's lock: what lies in `tasks` and `datasets` is then nobody's. Notes in `prepared` and
`listings` are also written without it, as a run begins, so those of a process that still runs stay. A folder of
downloads has a lock of its own; while somebody holds it, nothing in it is touched.

What has come of a download (`*.part`, a crawl's `.work`) is not half-made but half-way: it stays, and is gone on with.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tilth.core.errors import StorageError
from tilth.core.files import FolderLock, is_leftover, remove_whole

_OURS = {
    "tasks": r"[a-z_]+-[0-9a-f]{20}",
    "datasets": r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{12}",
    "prepared": r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{20}\.json",
    "listings": r"[0-9a-f]{32}\.json",
}
_ANY = r".+"
_MAKER = re.compile(r"\.(\d+)(?:-[0-9a-f]{8})?\.tmp$")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What was removed.

    Attributes:
        paths: files and folders.
        size: their bytes.
    """

    paths: tuple[Path, ...]
    size: int

    def __str__(self) -> str:
        """A note for people; empty where there was nothing."""
        if not self.paths:
            return ""
        count, places = len(self.paths), sorted({path.parent.name for path in self.paths})
        what = f"{count} half-made result{'s' if count > 1 else ''} ({self.size:,} bytes)"
        return f"removed {what} that a stopped run left in {', '.join(places)}; what it had finished is used"


def clear_leftovers(workspace: Path) -> Leftovers:
    """Removes what is half-made, and says what it was."""
    found: list[Path] = []
    size = 0
    with ExitStack() as locks:
        for path in [*_in_workspace(workspace), *_in_downloads(workspace / "downloads", locks)]:
            size += _size(path)
            remove_whole(path)
            found.append(path)
    return Leftovers(tuple(found), size)


def _in_workspace(workspace: Path) -> Iterator[Path]:
    for name, pattern in _OURS.items():
        for path in sorted((workspace / name).glob(".*.tmp")):
            shared = name in ("prepared", "listings") and _runs(path)
            if is_leftover(path.name, pattern) and not shared:
                yield path


def _in_downloads(downloads: Path, locks: ExitStack) -> Iterator[Path]:
    """Those of folders that nobody works in; the locks are held until they are removed."""
    free: dict[Path, bool] = {}
    for path in sorted(downloads.rglob(".*.tmp")):
        if is_leftover(path.name, _ANY) and _MAKER.search(path.name) and not _runs(path):
            inside = [folder for folder in path.parents if folder.is_relative_to(downloads)]
            owner = next((folder for folder in inside if (folder / ".lock").exists()), None)
            if owner is not None and owner not in free:
                free[owner] = _taken(owner, locks)
            if owner is None or free[owner]:
                yield path


def _taken(folder: Path, locks: ExitStack) -> bool:
    try:
        locks.enter_context(FolderLock(folder, "the download folder"))
    except StorageError:
        return False
    return True


def _runs(path: Path) -> bool:
    """Whether the process that made it still runs on this machine."""
    maker = _MAKER.search(path.name)
    if maker is None:
        return False
    try:
        os.kill(int(maker[1]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return sum(file.lstat().st_size for file in files)
