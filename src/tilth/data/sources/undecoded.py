"""Bytes that are not UTF-8: how many each file has, and whether they read as Windows-1252 (of which Latin-1's letters
are a part), or as UTF-16 without its mark.

    Undecoded().take(raw)     a text of one file that is not UTF-8; `begin(raw)` how a file begins
    said_of(undecoded) -> …   what a task keeps of its files
    note(source, found)       the sentence about a source's files

Each such byte becomes U+FFFD, and with it the letter is lost: a file in another encoding loses its accents one by one,
and no rule stops it. `tilth.data.windows_1252` tells that encoding from others.
UTF-16 without a byte order mark is told by its NULs, one beside each letter of a Latin alphabet; no other text has any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilth.core.words import plural
from tilth.data.windows_1252 import NEARLY_ALL, Tally, tally

NO_TEXT = 0.1
"""Of the bytes: what has more that are no UTF-8 is no text, or text in another encoding."""
NAMED = 3
"""Files that are named, of each task and in each sentence."""
NULS = 0.01
"""Of the bytes: text of one byte a letter has no more NULs."""
WINDOWS_1252 = "Windows-1252 (Latin-1)"
_ICONV = "`iconv -f {} -t UTF-8 FILE > NEW`"
REMEDY = _ICONV.format("WINDOWS-1252")


@dataclass
class Undecoded:
    """What was met in one file.

    Attributes:
        count: bytes that are no UTF-8.
        sensible: those of them that would make sense in Windows-1252.
        others: bytes that UTF-8 takes for characters beyond ASCII, but for the first of each, in texts that were looked
            at one by one: recoding would spoil them.
        size: bytes of the texts that are not UTF-8.
        nuls: their NULs; besides: those of them that stand at every second byte, of texts where nearly all do.
        lean: by how many more NULs stand at odd places than at even ones, where files begin. Texts do not tell: they
            are cut at the byte of a line's end, and begin with the NUL of that in either order of bytes.
        marked: it begins with a byte order mark, and was read as that says: what is amiss is no other encoding.
    """

    count: int = 0
    sensible: int = 0
    others: int = 0
    size: int = 0
    nuls: int = 0
    beside: int = 0
    lean: int = 0
    marked: bool = False

    def begin(self, raw: bytes) -> None:
        """The first bytes of a file, UTF-8 or not."""
        self.lean += raw[1::2].count(0) - raw[::2].count(0)

    def take(self, raw: bytes) -> None:
        """One more text of the file that is not UTF-8 throughout."""
        first, second = raw[::2].count(0), raw[1::2].count(0)
        self.nuls += first + second
        self.beside += max(first, second) if min(first, second) <= (1 - NEARLY_ALL) * max(first, second) else 0
        found = tally(raw)
        self.count += found.bad
        self.sensible += found.sensible
        self.others += found.others
        self.size += len(raw)

    @property
    def is_windows_1252(self) -> bool:
        """Whether nearly all that is not ASCII makes sense as such."""
        found = Tally(self.count, self.sensible, self.others)
        return found.is_windows_1252 and self.nuls <= NULS * self.size

    @property
    def utf_16(self) -> str | None:
        """By name the UTF-16 that it looks like, without a mark: one of two bytes, mostly, is NUL."""
        if self.beside * 4 < self.size:
            return None
        return "UTF-16LE" if self.lean >= 0 else "UTF-16BE"

    @property
    def called(self) -> str | None:
        """The encoding that it looks like."""
        if self.marked:
            return None
        return WINDOWS_1252 if self.is_windows_1252 else self.utf_16

    @property
    def is_no_text(self) -> bool:
        """Whether more than a tenth of it is no UTF-8, and is not known by another name."""
        return self.count > NO_TEXT * self.size and self.called is None


def said_of(found: Mapping[str, Undecoded]) -> dict[str, Any]:
    """{files, bytes, first, no_text} of files by their locators; `first` names some, each with the encoding that it
    looks like, those that look like one first; `no_text` some that do not look like text.
    """
    first = sorted(found, key=lambda name: found[name].called is None)[:NAMED]
    return {
        "files": len(found),
        "bytes": sum(one.count for one in found.values()),
        "first": [[name, found[name].called] for name in first],
        "no_text": [name for name, one in found.items() if one.is_no_text][:NAMED],
    }


def note(source: str, found: Sequence[Mapping[str, Any]]) -> str | None:
    """What should be said of a source, of whose files `said_of` was kept by several tasks; None: nothing."""
    files, count = (sum(one[key] for one in found) for key in ("files", "bytes"))
    if not files:
        return None
    first = sorted((each for one in found for each in one["first"]), key=lambda each: not each[1])[:NAMED]
    lost = f"{plural(count, 'byte')} of {plural(files, 'file')} {'is' if count == 1 else 'are'} not UTF-8"
    told = f"{source}: {lost}, and became U+FFFD"
    drop = "`invalid_utf8: drop` leaves such documents out"
    if odd := [name for one in found for name in one["no_text"]][:NAMED]:
        looks, are = ("does not look", "is") if len(odd) == 1 else ("do not look", "are")
        drop = (
            f"{', '.join(odd)} {looks} like text, or {are} in another encoding (a tenth of it is lost, or more); {drop}"
        )
    if not (known := [each for each in first if each[1]]):
        return f"{told}, in {', '.join(name for name, _ in first)}{_and_more(files - len(first))}; {drop}"
    return f"{told}: {_known(known)}{_and_more(files - len(known))}; {_remedies(known)} keeps these characters, {drop}"


def _known(files: Sequence[tuple[str, str]]) -> str:
    """Which files look like which encoding."""
    said = []
    for encoding, names in _by_encoding(files).items():
        unmarked = "" if encoding == WINDOWS_1252 else " without a byte order mark"
        said.append(f"{', '.join(names)} {'looks' if len(names) == 1 else 'look'} like {encoding}{unmarked}")
    return ", ".join(said)


def _remedies(files: Sequence[tuple[str, str]]) -> str:
    lines = [REMEDY if encoding == WINDOWS_1252 else _ICONV.format(encoding) for encoding in _by_encoding(files)]
    return " or ".join(lines)


def _by_encoding(files: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, encoding in files:
        found.setdefault(encoding, []).append(name)
    return found


def _and_more(files: int) -> str:
    return f" (and {files:,} more)" if files > 0 else ""
