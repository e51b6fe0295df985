"""Bytes that are not UTF-8: how many each file has, and whether they read as Windows-1252 (of which Latin-1's letters
are a part), or as UTF-16 without its mark.

    Undecoded().take(raw)     a text of one file that is not UTF-8; `begin(raw)` how a file begins
    Met().plain() -> …        what a task keeps of its files, the entries of its archives and its pages
    note(source, found)       the sentence about a source's files; `note_of_pages` that about its pages

Each such byte becomes U+FFFD, and with it the letter is lost: a file in another encoding loses its accents one by one,
and no rule stops it. `tilth.data.windows_1252` tells that encoding from others.
UTF-16 without a byte order mark is told by every second byte, which says the alphabet: NUL for Latin and for spaces, 4
for Cyrillic. Such text need not have a byte that is no UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilth.core.words import plural
from tilth.data.windows_1252 import NEARLY_ALL, Tally, tally

NO_TEXT = 0.1
"""Of the bytes: what has more that are no UTF-8 is no text, or text in another encoding."""
NAMED = 3
"""Files that are named, of each task and in each sentence."""
NULS = 0.01
"""Of the bytes: text of one byte a letter has no more NULs."""
ALPHABET = 0.9
"""Of the letters of a text: those that are of its alphabet, or of ASCII; the others are dashes and curly quotes."""
WINDOWS_1252 = "Windows-1252 (Latin-1)"
_ICONV = "`iconv -f {} -t UTF-8 FILE > NEW`"
REMEDY = _ICONV.format("WINDOWS-1252")


@dataclass(slots=True)
class Undecoded:
    """What was met in one file, or one entry of an archive.

    Attributes:
        count: bytes that are no UTF-8.
        sensible: those of them that would make sense in Windows-1252.
        others: bytes that UTF-8 takes for characters beyond ASCII, but for the first of each, in texts that were looked
            at one by one: recoding would spoil them.
        size: bytes of the texts that are not UTF-8.
        nuls: their NULs.
        utf_16: by name the UTF-16 that the file looks like where it begins, without a mark. Texts do not tell: they are
            cut at the byte of a line's end, and begin with the NUL of that in either order of bytes.
        marked: it begins with a byte order mark, and was read as that says: what is amiss is no other encoding.
        packed: it has to be unpacked before it can be recoded.
    """

    count: int = 0
    sensible: int = 0
    others: int = 0
    size: int = 0
    nuls: int = 0
    utf_16: str | None = None
    marked: bool = False
    packed: bool = False

    def begin(self, raw: bytes) -> None:
        """The first bytes of a file, UTF-8 or not."""
        even, odd = raw[::2], raw[1::2]
        if _is_alphabet(odd, even):
            self.utf_16 = "UTF-16LE"
        elif _is_alphabet(even, odd):
            self.utf_16 = "UTF-16BE"

    def take(self, raw: bytes) -> None:
        """One more text of the file that is not UTF-8 throughout."""
        self.nuls += raw.count(0)
        found = tally(raw)
        self.count += found.bad
        self.sensible += found.sensible
        self.others += found.others
        self.size += len(raw)

    @property
    def is_windows_1252(self) -> bool:
        """Whether nearly all that is not ASCII makes sense as such."""
        found = Tally(self.count, self.sensible, self.others)
        return self.count > 0 and found.is_windows_1252 and self.nuls <= NULS * self.size

    @property
    def called(self) -> str | None:
        """The encoding that it looks like."""
        if self.marked:
            return None
        return self.utf_16 or (WINDOWS_1252 if self.is_windows_1252 else None)

    @property
    def is_no_text(self) -> bool:
        """Whether more than a tenth of it is no UTF-8, and is not known by another name."""
        return self.count > NO_TEXT * self.size and self.called is None


def _is_alphabet(high: bytes, low: bytes) -> bool:
    """Whether these bytes say the alphabet of letters, and those which letter it is: nearly all NUL, for ASCII, or one
    and the same value below 0x20. The ends of lines are none: a text has spaces as well.
    """
    if not (nuls := high.count(0)) or low.count(0) > (1 - NEARLY_ALL) * len(low):
        return False
    return nuls + max(map(high.count, range(1, 0x20))) >= ALPHABET * len(high)


@dataclass
class Met:
    """What a task met: files and entries of archives by their locators; of pages how many, and the first few.

    Attributes:
        pages: those in whose text characters are lost; characters: how many.
        first: some of them; other: some that lost so much that they are in another encoding than they say.
    """

    files: dict[str, Undecoded] = field(default_factory=dict)
    pages: int = 0
    characters: int = 0
    first: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def file(self, locator: str, found: Undecoded) -> None:
        """One that was read to its end, or as far as it goes."""
        if found.count or found.called:
            self.files[locator] = found

    def page(self, locator: str, text: str) -> None:
        """The text of a page of which bytes could not be read."""
        if not (lost := text.count("\ufffd")):  # they were in what is no text: a script, a menu
            return
        self.pages += 1
        self.characters += lost
        if len(self.first) < NAMED:
            self.first.append(locator)
        if len(self.other) < NAMED and lost > NO_TEXT * len(text):
            self.other.append(locator)

    def plain(self) -> dict[str, Any]:
        """{files, bytes, first, no_text, pages: {pages, characters, first, other}}"""
        pages = {"pages": self.pages, "characters": self.characters, "first": self.first, "other": self.other}
        return {**said_of(self.files), "pages": pages}


def said_of(found: Mapping[str, Undecoded]) -> dict[str, Any]:
    """{files, bytes, first, no_text} of files by their locators; `first` names some, each with the encoding that it
    looks like and whether it is packed, those that look like one first; `no_text` some that do not look like text.
    """
    first = sorted(found, key=lambda name: found[name].called is None)[:NAMED]
    return {
        "files": len(found),
        "bytes": sum(one.count for one in found.values()),
        "first": [[name, found[name].called, found[name].packed] for name in first],
        "no_text": [name for name, one in found.items() if one.is_no_text][:NAMED],
    }


LEAVES_OUT = "`invalid_utf8: drop` leaves such documents out"


def note(source: str, found: Sequence[Mapping[str, Any]], drop: str = LEAVES_OUT) -> str | None:
    """What should be said of a source, of whose files several tasks kept `Met.plain`; None: nothing. `drop` says what
    else can be done about the documents, or what becomes of them.
    """
    files, count = (sum(one[key] for one in found) for key in ("files", "bytes"))
    if not files:
        return None
    first = sorted((each for one in found for each in one["first"]), key=lambda each: not each[1])[:NAMED]
    known = [each for each in first if each[1]]
    if not count:  # UTF-16 of which each byte is UTF-8 by itself
        told = f"{source}: {plural(files, 'file')} {'is' if files == 1 else 'are'} not UTF-8"
        return f"{told}: {_known(known)}{_and_more(files - len(known))}; {_remedies(known)} gives the text"
    lost = f"{plural(count, 'byte')} of {plural(files, 'file')} {'is' if count == 1 else 'are'} not UTF-8"
    told = f"{source}: {lost}, and became U+FFFD"
    if odd := [name for one in found for name in one["no_text"]][:NAMED]:
        looks, are = ("does not look", "is") if len(odd) == 1 else ("do not look", "are")
        drop = (
            f"{', '.join(odd)} {looks} like text, or {are} in another encoding (a tenth of it is lost, or more); {drop}"
        )
    if not known:
        return f"{told}, in {', '.join(name for name, *_ in first)}{_and_more(files - len(first))}; {drop}"
    return f"{told}: {_known(known)}{_and_more(files - len(known))}; {_remedies(known)} keeps these characters, {drop}"


def note_of_pages(source: str, found: Sequence[Mapping[str, Any]], drop: str = LEAVES_OUT) -> str | None:
    """What should be said of a source's pages, of which several tasks kept `Met.plain`; None: nothing; as `note`."""
    kept = [one["pages"] for one in found]
    pages, characters = (sum(one[key] for one in kept) for key in ("pages", "characters"))
    if not pages:
        return None
    first, other = ([name for one in kept for name in one[key]][:NAMED] for key in ("first", "other"))
    named = other or first
    told = f"{source}: {plural(characters, 'character')} of {plural(pages, 'page')} became U+FFFD"
    where = f"{', '.join(named)}{_and_more(pages - len(named))}"
    if not other:
        return f"{told}, in {where}; {drop}"
    are, states = ("is", "it states") if len(other) == 1 else ("are", "they state")
    another = f"in another encoding than {states}, or UTF-8 where none is stated"
    return f"{told}: {', '.join(other)} {are} {another} (a tenth of the text is lost, or more); {drop}"


def _known(files: Sequence[Sequence[Any]]) -> str:
    """Which files look like which encoding."""
    said = []
    for encoding, names in _by_encoding(files).items():
        unmarked = "" if encoding == WINDOWS_1252 else " without a byte order mark"
        said.append(f"{', '.join(names)} {'looks' if len(names) == 1 else 'look'} like {encoding}{unmarked}")
    return ", ".join(said)


def _remedies(files: Sequence[Sequence[Any]]) -> str:
    lines = [REMEDY if encoding == WINDOWS_1252 else _ICONV.format(encoding) for encoding in _by_encoding(files)]
    unpack = " (unpack first what is packed)" if any(packed for _, _, packed in files) else ""
    return f"{' or '.join(lines)}{unpack}"


def _by_encoding(files: Sequence[Sequence[Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, encoding, _ in files:
        found.setdefault(encoding, []).append(name)
    return found


def _and_more(files: int) -> str:
    return f" (and {files:,} more)" if files > 0 else ""
