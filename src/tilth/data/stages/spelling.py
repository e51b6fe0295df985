"""Misspelt English words put right, where there is hardly a doubt; opt-in.

    spelling      value: the words corrected

A word is changed if it is written in small letters a to z, has at least `min_letters` of them, stands alone (not in a
path, an address, a hyphenated or dotted name, an identifier or a call), is no word of the dictionary and not made of
such words (`bytecode`, `nonzero`), stands in the document once only (what is repeated is a term), and if one word is
clearly the commonest of those nearest to it, and differs as a slip does: two letters that changed places, a key beside
the right one, a vowel for a vowel, a letter twice or left out; not in the last letter, where words of one stem differ.
Code is left alone (indented by four, between fences or backticks), and so are documents in which more than
`most_unknown` of the words are unknown: they are in another language, or no prose.

Dictionary and search are those of symspellpy: 82,834 English words with their frequencies. What it gets right and wrong
is measured in docs/decisions/0021-spelling.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tilth.core.config import Config
from tilth.data.stages.base import Kind, Result, together
from tilth.data.stages.optional import require

_MOST_WORDS = 100_000
_MOST_REMEMBERED = 1_000_000
_LONGEST = 32  # letters; longer runs are no words


class SpellingOptions(Config):
    """Options of `spelling`."""

    edit_distance: Literal[1, 2] = 1
    """Letters that may be wrong: one changed, missing, too many, or two that changed places; or two such faults."""
    min_letters: int = Field(default=5, ge=3)
    """Shorter words are left alone: they are near to too many others."""
    ratio: float = Field(default=10, ge=1)
    """How many times as common as the next candidate a correction must be."""
    most_unknown: float = Field(default=0.25, gt=0, le=1)
    """The share of a document's different words that may be unknown."""
    words: list[str] = Field(default=[], max_length=_MOST_WORDS)
    """More words that are right: a list of them, or a file of one a line, whose words are then part of the recipe."""

    @field_validator("words", mode="before")
    @classmethod
    def _from_a_file(cls, words: Any) -> Any:
        if not isinstance(words, str):
            return words
        try:
            return sorted(set(Path(words).expanduser().read_text(encoding="utf-8-sig").split()))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise ValueError(
                f"cannot read the word list {words!r}: {error} | give a UTF-8 text of one word a line"
            ) from None

    @model_validator(mode="after")
    def _is_installed(self) -> SpellingOptions:
        require("symspellpy", "spelling", "spelling")
        return self


_PREFIX_LIST = "un re in im dis mis non pre sub over under out inter super multi anti de co"
_SUFFIX_LIST = (
    "s es ed er ers ing ings ly able ible ness ment less ful like ish ise ize ised ized ising izing ist ism ity"
)
_PREFIXES, _SUFFIXES = _PREFIX_LIST.split(), _SUFFIX_LIST.split()
_SHORTEST_PART, _SHORTEST_STEM = 4, 3
_COMMONEST = 1_000_000  # how often a word must have been counted to be taken for what was meant
_LONG = 6
_VOWELS = "aeiouy"
_TWO_WAYS = (
    "our or|ae e|oe e|ise ize|isi izi|yse yze|ysi yzi|ence ense|ll l|tre ter|inium inum|ogue og|programme program"
)
_BRITISH = [tuple(pair.split()) for pair in _TWO_WAYS.split("|")]


def _near_keys() -> dict[str, str]:
    """The keys around each on an English keyboard, a row shifted by half a key against the one above."""
    places = {
        letter: (row, 2 * column + row)
        for row, letters in enumerate(("qwertyuiop", "asdfghjkl", "zxcvbnm"))
        for column, letter in enumerate(letters)
    }

    def beside(letter: str, other: str) -> bool:
        (row, x), (other_row, other_x) = places[letter], places[other]
        return letter != other and abs(row - other_row) <= 1 and abs(x - other_x) <= 2

    return {letter: "".join(other for other in places if beside(letter, other)) for letter in places}


_NEAR = _near_keys()
_WORD = re.compile(r"\b[a-z]{3,}\b")
# A word alone: nothing around it that makes it part of a name, a path, an address or code.
_ALONE = re.compile(r"(?<![\w'’\-./@:\\&$#<>`~=+*^%\[{|])[a-z]{3,}+(?![\w'’\-/@\\(=<>`~*^\]}|])(?![.:]\w)")
_CODE = re.compile(r"^(?: {4}|\t).*$|^ {0,3}(```|~~~)[\s\S]*?(?:^ {0,3}\1|\Z)|`[^`\n]*`", re.MULTILINE)


def spelling(texts: Sequence[str], options: SpellingOptions) -> list[Result]:
    """Words that are surely misspelt are corrected; value: how many."""
    speller = _speller(options.edit_distance, options.ratio, tuple(options.words))
    return [_spell(text, options, speller) for text in texts]


def _spell(text: str, options: SpellingOptions, speller: _Speller) -> Result:
    counts = Counter(_WORD.findall(text))
    unknown = [word for word in counts if word not in speller.known]
    if len(unknown) > options.most_unknown * len(counts):
        return Result(text)
    once = [word for word in unknown if counts[word] == 1 and options.min_letters <= len(word) <= _LONGEST]
    corrections = {word: right for word in once if (right := speller.correction(word))}
    return Result(*_replace(text, corrections)) if corrections else Result(text)


def _replace(text: str, corrections: dict[str, str]) -> tuple[str, int]:
    """The text with words replaced where they stand alone and outside code, and how many were."""
    replaced = 0

    def right(word: re.Match[str]) -> str:
        nonlocal replaced
        replaced += word[0] in corrections
        return corrections.get(word[0], word[0])

    parts, done = list[str](), 0
    for code in _CODE.finditer(text):
        parts += [_ALONE.sub(right, text[done : code.start()]), code[0]]
        done = code.end()
    return "".join([*parts, _ALONE.sub(right, text[done:])]), replaced


class _Speller:
    """A dictionary, what it says of unknown words, and a memory of it."""

    def __init__(self, edit_distance: int, ratio: float, words: tuple[str, ...]) -> None:
        self._distance, self._ratio = edit_distance, ratio
        self._dictionary = _dictionary(edit_distance)
        self.known = {*self._dictionary.words, *map(str.lower, words)}
        self._corrections: dict[str, str] = {}

    def correction(self, word: str) -> str:
        """What an unknown word should have been; nothing where that is in doubt."""
        if len(self._corrections) > _MOST_REMEMBERED:
            self._corrections.clear()
        if word not in self._corrections:
            right = f"{word}'t" in self.known or self._is_made_of_words(word)  # `couldn`: of a word taken apart
            self._corrections[word] = "" if right else self._search(word)
        return self._corrections[word]

    def _search(self, word: str) -> str:
        from symspellpy import Verbosity  # type: ignore[import-untyped]

        # CLOSEST: those at the smallest distance, the commonest first
        best, *others = self._dictionary.lookup(word, Verbosity.CLOSEST, max_edit_distance=self._distance) or [None]
        if best is None or best.count < _COMMONEST or (others and best.count < self._ratio * others[0].count):
            return ""
        right = str(best.term)
        return right if right.isalpha() and _is_a_slip(word, right) and _american(word) != _american(right) else ""

    def _is_made_of_words(self, word: str) -> bool:
        """Whether it is two words in one, or a word with a common beginning or ending."""
        cuts = range(_SHORTEST_PART, len(word) - _SHORTEST_PART + 1)
        if any(word[:cut] in self.known and word[cut:] in self.known for cut in cuts):
            return True
        stems = [word.removeprefix(prefix) for prefix in _PREFIXES if word.startswith(prefix)]
        stems += [word[: -len(suffix)] for suffix in _SUFFIXES if word.endswith(suffix)]
        stems += [stem + "e" for stem in stems] + [stem[:-1] for stem in stems if stem[-2:-1] == stem[-1:]]
        return any(len(stem) >= _SHORTEST_STEM and stem in self.known for stem in stems)


def _is_a_slip(word: str, right: str) -> bool:
    """Whether fingers or ears would write `word` for `right`; another word of the same stem differs at its end."""
    start = next((i for i, (a, b) in enumerate(zip(word, right, strict=False)) if a != b), min(len(word), len(right)))
    rest, meant = word[start:], right[start:]
    while rest and meant and rest[-1] == meant[-1]:
        rest, meant = rest[:-1], meant[:-1]
    if len(rest) == 2 and rest == meant[::-1]:  # two letters changed places
        return True
    if word[0] != right[0] or word[-1] != right[-1]:
        return False
    if len(rest) == len(meant) == 1:
        return meant in _NEAR[rest] or (rest in _VOWELS and meant in _VOWELS)
    if len(rest) == 1 and not meant:  # one too many
        return any(rest == beside or rest in _NEAR[beside] for beside in word[start - 1] + word[start + 1 : start + 2])
    if len(meant) == 1 and not rest:  # one missing
        return len(word) >= _LONG or meant in right[start - 1] + right[start + 1 : start + 2]
    return True


def _american(word: str) -> str:
    """One spelling for the words that are written in two ways, so that neither is taken for a misspelling."""
    for british, american in _BRITISH:
        word = word.replace(british, american)
    return word


@cache
def _speller(edit_distance: int, ratio: float, words: tuple[str, ...]) -> _Speller:
    return _Speller(edit_distance, ratio, words)


@cache
def _dictionary(edit_distance: int) -> Any:
    """Loaded once in a process: 1 s and 60 MB; for distance 2, 5 s and 130 MB."""
    from symspellpy import SymSpell

    dictionary = SymSpell(max_dictionary_edit_distance=edit_distance)
    dictionary.load_dictionary(str(files("symspellpy") / "frequency_dictionary_en_82_765.txt"), 0, 1, encoding="utf-8")
    return dictionary


SPELLING_STAGES: dict[str, Kind] = {
    "spelling": Kind(SpellingOptions, together(spelling), libraries=("symspellpy",), over="lines")
}
