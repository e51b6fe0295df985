"""What `exclude:` of a source leaves out of its files.

    Excluding(patterns, folder).by(path)    the pattern that names a file, or a folder above it; None: it stays
                               .topmost(path)  the folder that goes with all below it
                               .used        patterns that have named something, each of several that name the same
                               .unused      those that have named nothing yet
    note_of(name, patterns, prefix, places) what is said of these
    idle_patterns(name, patterns, read)     the same where archives had to be read first

A pattern is one as in `path`: `*`, `?` and `[…]` within a name, `**` for any folders, from the source's folder on. An
archive is a folder like others: `**/a.csv` goes through it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

_ANY_FOLDERS = "**"
_HERE = PurePosixPath()
RULE = "excluded"


class Excluding:
    """The patterns of a source, and which of them have named something.

    Args:
        folder: the source's, which they begin in.
        archive: the name of the one that is the source, if one is; a pattern may begin with it, as below a folder.
    """

    def __init__(self, patterns: Sequence[str], folder: PurePath = _HERE, archive: str = "") -> None:
        self._folder = folder
        inside = f"{archive}/" if archive else ""
        self._left = {pattern: pattern.removeprefix(inside).split("/") for pattern in patterns}
        self.used = set[str]()

    def by(self, path: PurePath) -> str | None:
        """The first pattern that names a file or folder, or a folder that it is in."""
        parts = self._parts(path)
        found = [pattern for pattern, own in self._left.items() if _names(own, parts)]
        self.used |= {*found}
        return found[0] if found else None

    def topmost(self, path: Path) -> Path:
        """Of a place that is named the first folder on the way to it that is, else the place."""
        above = [one for one in path.parents if one != self._folder and one.is_relative_to(self._folder)]
        return next((one for one in reversed(above) if self.by(one)), path)

    def passed(self, path: PurePath) -> None:
        """A file or folder that is left out for another reason: a pattern that leads to it, or below it, is no typo."""
        parts = self._parts(path)
        self.used |= {pattern for pattern, own in self._left.items() if _names(own, parts) or _below(own, parts)}

    def _parts(self, path: PurePath) -> tuple[str, ...]:
        return path.relative_to(self._folder).parts if self._left else ()  # of many files, only where it is asked for

    @property
    def unused(self) -> tuple[str, ...]:
        """Those that have named nothing."""
        return tuple(pattern for pattern in self._left if pattern not in self.used)


def _names(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a pattern matches a place, or a folder above it."""
    return len(pattern) in _come_to(pattern, parts)


def _below(pattern: Sequence[str], folder: Sequence[str]) -> bool:
    """Whether a pattern goes on below a folder that it names: any folder at all is on the way of `**`."""
    return any(
        n + 1 < len(pattern) and pattern[n] != _ANY_FOLDERS and fnmatch.fnmatchcase(folder[-1], pattern[n])
        for n in _come_to(pattern, folder[:-1])
    )


def _come_to(pattern: Sequence[str], parts: Sequence[str]) -> set[int]:
    """How many names of a pattern lead to a place, in each way that they can: all of them, where a folder above is
    named already. At once, for the ways of several `**` multiply.
    """
    used = _passing({0}, pattern)
    for part in parts:
        stayed = {n for n in used if n == len(pattern) or pattern[n] == _ANY_FOLDERS}
        used = _passing(stayed | {n + 1 for n in used - stayed if fnmatch.fnmatchcase(part, pattern[n])}, pattern)
    return used


def _passing(used: set[int], pattern: Sequence[str]) -> set[int]:
    """With those that come after a `**`, which may stand for no folder."""
    for n, name in enumerate(pattern):
        if n in used and name == _ANY_FOLDERS:
            used.add(n + 1)
    return used


def note_of(name: str, unused: Iterable[str], prefix: str, places: Iterable[str]) -> tuple[str, ...]:
    """What should be said of patterns of the source `name` that leave nothing out, and what they may have meant.

    Args:
        prefix: the source's folder as the recipe writes it.
        places: of the files that are read, below it.
    """
    places = [*places]

    def meant(pattern: str) -> str:
        inside = pattern.removeprefix(f"{prefix}/") if prefix else pattern
        for other in (inside, *(f"{_ANY_FOLDERS}/{one}" for one in (pattern, inside) if not one.startswith("**"))):
            if other != pattern and any(_names(other.split("/"), place.split("/")) for place in places):
                return f"; did you mean `{other}`? Patterns begin in the source's folder, and `*` stays within a name"
        return "; check it for a typo, or take it out"

    return tuple(f"{name}: `exclude: {pattern}` leaves nothing out{meant(pattern)}" for pattern in unused)


def idle_patterns(name: str, unused: Iterable[str], read: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """What should be said of patterns that name no file of a source, nor one in its archives.

    Args:
        read: of all that was read of it `Unusable.plain`.
    """
    named = {pattern for one in read for pattern in one.get("excluded", ())}
    return note_of(name, [pattern for pattern in unused if pattern not in named], "", [])
