"""What a pattern such as `**/*.txt` matches below a folder: what the standard library's `glob` does, but for links.

    matching(folder, parts) -> Matching      of a pattern cut at its slashes

`glob` goes through links to folders: out of the folder, and round in a ring, forty times or, of two rings, without end.
Here `**` enters none, and what another part matches only where it stays within the folder. And `glob` passes over
folders that cannot be read without a word: here they come back.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

GLOB_CHARACTERS = frozenset("*?[")
_EVERYTHING_BELOW = "**"
LINKED_FOLDER = "linked_folder", "a link to a folder"
LEAVES_FOLDER = "leaves_folder", "a link that leads out of the folder"
_Found = dict[str, bool]
_NOTHING_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


@dataclass(frozen=True, slots=True)
class Matching:
    """What a pattern matches, files and folders, and which of it a user sees.

    Attributes:
        visible: for each path whether it is matched without a hidden name that the pattern does not spell out.
        passed: links to folders that were not entered: rule and reason.
        refused: folders that cannot be read, though what is matched may lie there: whether they are visible, and why.
    """

    visible: dict[Path, bool]
    passed: dict[Path, tuple[str, str]]
    refused: dict[Path, tuple[bool, OSError]]


def matching(folder: Path, parts: Sequence[str]) -> Matching:
    """What lies below a folder by a pattern, and what was passed over on the way."""
    walk = _Walk(folder.resolve())
    found = {str(folder): True}
    for number, part in enumerate(parts, 1):
        found = walk.step(found, part, last=number == len(parts))
    passed = {path: why for path, why in walk.passed.items() if path not in walk.entered}
    refused = {Path(path): why for path, why in walk.refused.items()}
    return Matching({Path(path): seen for path, seen in found.items()}, passed, refused)


def leads_out(path: str | Path, root: Path) -> bool:
    """Whether a link leads out of a folder, whose real path `root` is."""
    return not Path(os.path.realpath(path)).is_relative_to(root)  # never raises, on a ring


@dataclass(slots=True)
class _Walk:
    root: Path
    passed: dict[Path, tuple[str, str]] = field(default_factory=dict)
    entered: set[Path] = field(default_factory=set)  # links to folders, by a part of their own
    refused: dict[str, tuple[bool, OSError]] = field(default_factory=dict)

    def step(self, found: _Found, part: str, *, last: bool) -> _Found:
        """What a part of the pattern matches in what was found before; of all but the last, folders."""
        out: _Found = {}
        for path, seen in found.items():
            for match, visible in self._below(path, part, seen, last=last):
                out[match] = out.get(match, False) or visible
        return out

    def _below(self, path: str, part: str, seen: bool, *, last: bool) -> Iterator[tuple[str, bool]]:
        if part == _EVERYTHING_BELOW:
            yield from self._everything(path, seen, files=last)
        elif not glob.has_magic(part):
            whole = os.path.join(path, part)  # noqa: PTH118 - a Path for each takes several times as long
            if self._is_there(whole, path, seen) and (last or self._entered(whole)):
                yield whole, seen
        else:
            entries = {entry.name: entry for entry in self._entries(path, seen)}
            for name in fnmatch.filter(entries, part):
                if last or (_is_folder(entries[name]) and self._entered(entries[name].path)):
                    yield entries[name].path, seen and (part.startswith(".") or not name.startswith("."))

    def _everything(self, path: str, seen: bool, *, files: bool) -> Iterator[tuple[str, bool]]:
        left = [(path, seen)]
        while left:
            folder, seen = left.pop()
            yield folder, seen
            for entry in self._entries(folder, seen):
                visible = seen and not entry.name.startswith(".")
                if not _is_folder(entry):
                    if files:
                        yield entry.path, visible
                elif not entry.is_symlink():
                    left.append((entry.path, visible))
                elif seen:
                    self.passed.setdefault(Path(entry.path), LINKED_FOLDER)

    def _entered(self, path: str) -> bool:
        """Whether a folder that a part by itself matches is gone into."""
        if not os.path.islink(path):  # noqa: PTH114
            return True
        if leads_out(path, self.root):
            self.passed[Path(path)] = LEAVES_FOLDER
            return False
        self.entered.add(Path(path))
        return True

    def _is_there(self, path: str, folder: str, seen: bool) -> bool:
        try:
            os.lstat(path)
        except OSError as error:
            self._refuse(folder, seen, error)
            return False
        return True

    def _entries(self, folder: str, seen: bool) -> list[os.DirEntry[str]]:
        """What lies in a folder; nothing where it is none."""
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except OSError as error:
            self._refuse(folder, seen, error)
            return []

    def _refuse(self, folder: str, seen: bool, error: OSError) -> None:
        if error.errno not in _NOTHING_THERE:
            self.refused[folder] = (seen or self.refused.get(folder, (False,))[0], error)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is one, or a link to one; a link that cannot be followed (round in a ring, or into a folder that must
    not be read) is none.
    """
    try:
        return entry.is_dir()
    except OSError:
        return False
