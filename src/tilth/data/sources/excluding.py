"""What `exclude:` of a source leaves out of its files.

    Excluding(patterns, folder).by(path)    the pattern that names a file, or a folder above it; None: it stays
                               .unused      patterns that have named nothing yet
    note_of(name, patterns, prefix, places) what is said of these
    idle_patterns(name, patterns, read)     the same where archives had to be read first

A pattern is one as in `path`: `*`, `?` and `[…]` within a name, `**` for any folders, from the source's folder on. An
archive is a folder like others: `**/a.csv` goes through it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath, PurePosixPath
from typing import Any

_ANY_FOLDERS = "**"
_HERE = PurePosixPath()
RULE = "excluded"


class Excluding:
    """The patterns of a source, and which of them have named something.

    Args:
        folder: the source's, which they begin in.
    """

    def __init__(self, patterns: Sequence[str], folder: PurePath = _HERE) -> None:
        self._folder = folder
        self._left = {pattern: tuple(pattern.split("/")) for pattern in patterns}
        self._used = set[str]()

    def by(self, path: PurePath) -> str | None:
        """The first pattern that names a file or folder, or a folder that it is in."""
        parts = self._parts(path)
        found = [pattern for pattern, own in self._left.items() if _names(own, parts)]
        self._used |= {*found}
        return found[0] if found else None

    def passed(self, path: PurePath) -> None:
        """A file or folder that is left out for another reason: a pattern that leads to it, or below it, is no typo."""
        parts = self._parts(path)
        self._used |= {pattern for pattern, own in self._left.items() if _names(own, parts) or _below(own, parts)}

    def _parts(self, path: PurePath) -> tuple[str, ...]:
        return path.relative_to(self._folder).parts if self._left else ()  # of many files, only where it is asked for

    @property
    def unused(self) -> tuple[str, ...]:
        """Those that have named nothing."""
        return tuple(pattern for pattern in self._left if pattern not in self._used)


def _names(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether a pattern matches a place, or a folder above it."""
    if not pattern:
        return True
    if pattern[0] == _ANY_FOLDERS:
        return _names(pattern[1:], parts) or (bool(parts) and _names(pattern, parts[1:]))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _names(pattern[1:], parts[1:])


def _below(pattern: tuple[str, ...], folder: tuple[str, ...]) -> bool:
    """Whether the first names of a pattern are those of a folder. Any folder at all may be on the way of `**`."""
    return len(pattern) > len(folder) and all(map(fnmatch.fnmatchcase, folder, pattern))


def note_of(name: str, unused: Iterable[str], prefix: str, places: Iterable[str]) -> tuple[str, ...]:
    """What should be said of patterns of the source `name` that leave nothing out, and what they may have meant.

    Args:
        prefix: the source's folder as the recipe writes it.
        places: of the files that are read, below it.
    """
    places = [*places]

    def meant(pattern: str) -> str:
        inside = pattern.removeprefix(f"{prefix}/") if prefix else pattern
        for other in (inside, f"**/{pattern}", f"**/{inside}"):
            if other != pattern and any(_names(tuple(other.split("/")), tuple(place.split("/"))) for place in places):
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
