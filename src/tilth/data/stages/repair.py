"""Text that was decoded by the wrong encoding, put right: `schÃ¶n` becomes `schön`, `donâ€™t` becomes `don’t`.

    repair      mojibake, and on demand entities, ligatures, widths and quotes; value: characters that gave way

The work is that of ftfy (Speer 2019, https://ftfy.readthedocs.io), line by line, with what loses something turned off
by default: quotes stay curly, entities stay written, ligatures and full-width letters stay what they are. So source
code and ordinary text come through unchanged. The stages `newlines`, `controls` and `unicode` do the rest of what ftfy
can do; `repair` has to stand before them, because a control character (U+0080 to U+009F) is half of a broken letter.
Source files are left alone unless `code` says otherwise.

Most text is not broken, and ftfy reads a few MB a second. So only lines go to it that could be changed: see `_Table`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from tilth.core.config import Config
from tilth.data.stages.base import Kind, Result, together
from tilth.data.stages.code import but_code
from tilth.data.stages.optional import require

if TYPE_CHECKING:
    from ftfy import TextFixerConfig


class RepairOptions(Config):
    """Options of `repair`."""

    terminal_escapes: bool = True
    """Colours and cursor moves of terminals (`ESC [31m`) are removed, which `controls` alone would leave as `[31m`."""
    html_entities: Literal["keep", "unless_html", "replace"] = "keep"
    """`&eacute;` becomes `é`: in no document, in those without a `<`, or in all of them."""
    ligatures: bool = False
    """Latin ligatures that are one character (`ﬁ`) become letters."""
    widths: bool = False
    """Full-width Latin letters and half-width katakana get their usual width."""
    straight_quotes: bool = False
    """Curly quotes become straight ones."""
    code: bool = False
    """Whether source files are looked at as well: what is broken there is broken on purpose, to test something."""

    @model_validator(mode="after")
    def _is_installed(self) -> RepairOptions:
        require("ftfy", "web", "repair")
        return self


_NOWHERE = np.zeros(0, np.int64)
_MOST_ROUNDS = 100  # a repaired line may hold what looks broken; each round makes it shorter, or ends it


def repair(texts: Sequence[str], options: RepairOptions) -> list[Result]:
    """Lines that hold mojibake are decoded anew; value: the characters that gave way to others."""
    results = [Result(text) for text in texts]
    entities = options.html_entities != "keep"
    # ftfy leaves ASCII alone, but for these two.
    waiting = [n for n, text in enumerate(texts) if not text.isascii() or "\x1b" in text or (entities and "&" in text)]
    suspects = _table(options, entities).suspects("\n".join(texts[n] for n in waiting)) if waiting else _NOWHERE
    starts = np.cumsum([0, *(len(texts[n]) + 1 for n in waiting)])
    for place in np.unique(np.searchsorted(starts, suspects, "right") - 1).tolist():
        results[waiting[place]] = _repair(texts[waiting[place]], options)
    return results


def _repair(text: str, options: RepairOptions) -> Result:
    changed = 0
    for _ in range(_MOST_ROUNDS):
        repaired, gave_way = _repair_once(text, options)
        if repaired == text:
            break
        text, changed = repaired, changed + gave_way
    return Result(text, changed)


def _repair_once(text: str, options: RepairOptions) -> tuple[str, int]:
    entities = options.html_entities == "replace" or (options.html_entities == "unless_html" and "<" not in text)
    table = _table(options, entities)
    parts, done, changed = list[str](), 0, 0
    for place in table.suspects(text).tolist():
        if place < done:
            continue
        start, end = text.rfind("\n", 0, place) + 1, text.find("\n", place) + 1 or len(text)
        line = text[start:end]
        fixed = table.fix(line)
        if fixed != line:
            changed += (Counter(line) - Counter(fixed)).total() or 1
        parts += [text[done:start], fixed]
        done = end
    return "".join([*parts, text[done:]]), changed


_LETTER, _MARK, _ALONE, _BEFORE_LETTERS, _ASCII_LETTER = 1, 2, 4, 8, 16
_WINDOW = 1 << 20  # characters that are turned into arrays at a time


class _Table:
    """Which lines of a text ftfy might change, for one set of options: exact where it says no.

    ftfy takes a line for broken if it holds one of some hundred pairs or triples of characters (`ftfy.badness`). All
    of them hold a C1 control; or one of Â Ã Œ œ before something that is no ASCII letter; or two characters of its
    table of mojibake in a row that are not both letters as words have them. Tests try every pair there is.
    """

    def __init__(self, config: TextFixerConfig) -> None:
        from ftfy import chardata, fix_text
        from ftfy.badness import MOJIBAKE_CATEGORIES

        self._fix_text, self._config = fix_text, config
        self._kinds: npt.NDArray[np.uint8] = np.zeros(0x110000, np.uint8)
        for name, members in MOJIBAKE_CATEGORIES.items():
            as_in_words = name in ("lower_accented", "lower_common", "upper_common", "kaomoji")
            self._mark(_members(members), _LETTER if as_in_words else _MARK)
        self._mark("°Ђ", _MARK)
        self._mark("ÂÃŒœ", _BEFORE_LETTERS)
        self._mark(map(chr, range(0x80, 0xA0)), _ALONE)
        self._mark("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", _ASCII_LETTER)
        self._mark("&" * bool(config.unescape_html) + "\x1b" * config.remove_terminal_escapes, _ALONE)
        self._mark(map(chr, chardata.LIGATURES if config.fix_latin_ligatures else ()), _ALONE)
        self._mark(map(chr, chardata.WIDTH_MAP if config.fix_character_width else ()), _ALONE)
        self._mark("\u02bc\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f" * config.uncurl_quotes, _ALONE)

    def _mark(self, characters: Iterable[str], kind: int) -> None:
        for character in characters:
            self._kinds[ord(character)] |= kind

    def fix(self, line: str) -> str:
        """What ftfy makes of a line, but for the Portuguese letter: `A letra Ã é usada` is right as it is."""
        fixed = self._fix_text(line, self._config)
        return line if fixed != line and _is_a_with_tilde(line, fixed) else fixed

    def suspects(self, text: str) -> npt.NDArray[np.int64]:
        """Places in the text, in order; in a line without one there is nothing to mend."""
        windows = range(0, len(text), _WINDOW)  # one more character: a pair may lie over the border
        found = [self._suspects(text[start : start + _WINDOW + 1]) + start for start in windows]
        return np.unique(np.concatenate([_NOWHERE, *found]))

    def _suspects(self, text: str) -> npt.NDArray[np.int64]:
        kinds = self._kinds[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]
        after = np.append(kinds[1:], np.uint8(0))
        pairs = ((kinds & 3) != 0) & ((after & 3) != 0) & (((kinds | after) & _MARK) != 0)
        lone = ((kinds & _BEFORE_LETTERS) != 0) & ((after & _ASCII_LETTER) == 0)
        return np.flatnonzero(pairs | lone | ((kinds & _ALONE) != 0))


_A_WITH_TILDE = re.compile(r"(?<!\w)Ã(?= )")


def _is_a_with_tilde(line: str, fixed: str) -> bool:
    """Whether all that changed is an Ã by itself before a space, in a line whose other letters show that it was decoded
    rightly; else it is the first half of an `à`, whose second, a no-break space, became a plain one.
    """
    if _A_WITH_TILDE.sub("à", line) != fixed:
        return False
    return any(not letter.isascii() and letter.isalpha() for letter in _A_WITH_TILDE.sub("", line))


def _members(ranges: str) -> str:
    """The characters of the inside of a character class, `a-z` written out."""
    return re.sub("(.)-(.)", lambda ends: "".join(map(chr, range(ord(ends[1]), ord(ends[2]) + 1))), ranges)


def _table(options: RepairOptions, entities: bool) -> _Table:
    return _make_table(options.terminal_escapes, entities, options.ligatures, options.widths, options.straight_quotes)


@cache
def _make_table(terminal_escapes: bool, entities: bool, ligatures: bool, widths: bool, straight_quotes: bool) -> _Table:
    from ftfy import TextFixerConfig

    return _Table(
        TextFixerConfig(
            unescape_html=entities,
            remove_terminal_escapes=terminal_escapes,
            fix_latin_ligatures=ligatures,
            fix_character_width=widths,
            uncurl_quotes=straight_quotes,
            fix_line_breaks=False,
            fix_surrogates=False,
            remove_control_chars=False,
            normalization=None,
            explain=False,
        )
    )


REPAIR_STAGES: dict[str, Kind] = {
    "repair": Kind(RepairOptions, but_code(together(repair)), version=4, libraries=("ftfy",), over="messages")
}
