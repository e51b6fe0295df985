"""`c4`: lines that are sentences. Raffel et al. 2020 (JMLR 21:140), section 2.2, "The Colossal Clean Crawled Corpus".

A line is removed, and the document changed, by the first of

    c4/long_word          a word of more than 1,000 characters            (reference code)
    c4/no_end             no . ? ! " ' at its end, or three dots there    (paper; dots: code; apostrophe: datatrove)
    c4/few_words          fewer than 3 words between white space          (paper)
    c4/javascript         the word Javascript                             (paper)
    c4/policy             `terms of use`, `privacy policy`, `cookie policy`, `uses cookies`, …   (paper; words: code)

and a document is dropped by

    c4/lorem_ipsum, c4/curly_bracket    a line that is a sentence has one of them   (paper)
    c4/bad_words                        a word of a list that is given by the user  (paper; no list comes with tilth)
    c4/few_sentences                    fewer than 5 sentences in the lines that are left   (paper)

`c4/citations` counts the marks `[1]`, `[edit]` and `[citation needed]` that were taken out of the lines that are left
(code; with `citations: prose` those alone that stand as citations do, see `_marks_of`), `c4/margins` the characters of
blank lines and of white space at the ends of lines, where nothing else changed; `margins: false` leaves them, and with
them paragraphs and the indentation of code.
With `javascript: warnings` a line goes for Javascript only where a visitor is asked to enable it.
"Code" is c4_utils.py of tensorflow_datasets. It asks for 5 words and 3 sentences, where datatrove, which quotes the
paper, has 3 and 5; the defaults are the latter. The order of rules is that of datatrove, which follows the code: a
bracket in a line that is removed for its end drops nothing. Value: how many lines or marks; of a dropped document, the
number of its sentences or bad words, or the line's number.

A sentence ends at a token that is a mark of Unicode's Sentence_Terminal, all marks that follow included (the paper's
code used nltk's trained splitter, datatrove uses this rule).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from tilth.core.config import Config
from tilth.data.document import Document
from tilth.data.stages.base import Kind, Result
from tilth.data.stages.code import is_code
from tilth.data.stages.english_tokens import SOUND, find_tokens, sentence_terminals
from tilth.data.stages.limits import in_pieces

ENDS = (".", "?", "!", '"', "'")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
MOST_BAD_WORDS_BYTES = 1 << 20
_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")

_MARKS = r"(?:\[(?:[1-9]\d{0,2}|edit|citation needed)\])+"
_LAST = r"[\w)\]”’»%]"  # what a word or a quotation ends with
_END = rf"(?:(?<={_LAST}[.,;!?。，])|(?<=[.,;!?]['\"”’)])|(?<=\w['\"][.,;!?]))"
# What follows must not be as in programs: a.[1](…), [[0],[1],[2]], names[edit] = …
_AT_ENDS = rf"{_END}{_MARKS}(?![(=.,\]}}]|\[[\d-])|\[(?:edit|citation needed)\](?!\s?=|[(.\])])"
_AT_WORDS = rf"(?:(?<={_LAST})|(?<=[\"'])){_MARKS}(?![(=\]}}\w]|\[[\d-]|[.,]\w)"
_CITATION_AT_ENDS, _CITATION_AT_WORDS = re.compile(_AT_ENDS), re.compile(f"{_AT_ENDS}|{_AT_WORDS}")
_NUMBERED = re.compile(rf"{_END}\[[1-9]\d{{0,2}}\](?![(=.,\]}}])")
_INDEX = re.compile(r"[\w)]\[(?:0|-\d+|-?\w*:-?\w*)?\]")

_JAVASCRIPT = re.compile("javascript")
_OWN = r"(?:(?:the|your|this|a|browser|browser's|use\ of|support\ for)\s{1,3}){0,3}"
_ENABLE = r"(?:enable|activate|allow|unblock|(?:turn|switch)\ on)\s{1,3}"
_ON = r"(?:enabled|activated|available|supported|allowed|(?:turned|switched)\ on)\b"
_OFF = r"(?:disabled|(?:de|in)activated?|inactive|unavailable|unsupported|blocked|(?:turned\ |switched\ )?off)\b"
_HERE = r"""(?:this|our|the)\s(?:\w{1,20}\s){0,2}(?:page|(?:web)?site|app|application|form|map|feature|content|video
    |game|slideshow|gallery|player|service)s?\b"""
_TO_SEE = r"""to\ (?:use|view|see|run|access|display|read|play|continue|browse|work|function|load|post|comment
    |visit|enjoy)\b"""
_END = r"\W{0,3}(?:$|(?<=[.!]\s)|(?<=,\ )please\b)"
_ITSELF = r"(?!\ (?:source|code|developers?|debugging|files?|modules?|maps?|engineers?|programmers?)\b)"
_JAVASCRIPT_WARNING = re.compile(  # bounded, as all of it: a line may have ten million characters
    rf"""(?:\bplease\ |\b(?:need|have|must|necessary|required|sure)\ (?:to\ )?){_ENABLE}{_OWN}javascript\b{_ITSELF}
    | (?:^|[.!?:]\s){_ENABLE}{_OWN}javascript(?:{_END}|\ and\ cookies|\ {_TO_SEE}|\ in\ your\b
        |,?\ (?:and|then|and\ then)\ (?:reload|refresh|return|try|continue)\b)
    | \bjavascript\ required{_END}
    | (?:^|[.!?:]\s)javascript\ (?:{_OFF}|not\ {_ON})(?:{_END}|\ (?:in|on|by|for)\ (?:your|this)\b)
    | (?:^|[.!?:]\s|\bplease\ |\b(?:need|have)\ to\ |\bmust\ )(?:turn|switch)\ {_OWN}javascript\ on\b
    | \bactivating\ {_OWN}javascript\ is\ (?:needed|required|necessary)
    | \b(?:have|has|having|with|without|needs?|requires?)\ {_OWN}javascript(?:\ and\ cookies)?\ (?:to\ be\ )?(?:{_OFF}
        |(?!available){_ON}|(?:on|available)(?:{_END}|,\ or\b|\ and\ cookies\b|\ {_TO_SEE}|\ in\ your\b
        |\ (?:in\ the|in\ this|your)\ (?:web\ )?browser\b))
    | \bjavascript(?:\ and\ cookies)?\ (?:must|should|has\ to|needs\ to)\ be\ {_ON}
    | \b(?:ensure|sure|check)\ (?:that\ )?{_OWN}javascript\ is\ {_ON}
    | (?<!\bif\ )(?<!when\ )(?<!where\ )(?<!while\ )\bjavascript\ (?:(?:is|was|has\ been|(?:seems|appears)\ to\ be)
        (?:\ currently|\ either)?\ (?:{_OFF}|not\ {_ON})|isn't\ {_ON})
        (?:{_END}|,?\ or\b|\ (?:in|on|by|for)\ (?:your|this)\b)
    | (?<!of\ )(?<!with\ )(?<!in\ )\bjavascript\ is\ (?:required|needed|necessary)(?:{_END}|\ {_TO_SEE}|\ for\ {_HERE})
    | \b{_HERE}\ (?:requires?|needs?)\ {_OWN}javascript(?:{_END}|\ {_TO_SEE}|\ in\ order\b)
    | \byou\ (?:will\ |may\ |must\ )?(?:need|require)\ {_OWN}javascript\ {_TO_SEE}
    | \byou\ (?:do\ not|don't)\ have\ {_OWN}javascript(?:{_END}|\ {_ON})
    | (?:\bnot|n't|cannot)\b.{{0,30}}\b(?:work|function|load|run|displayed|shown|viewed|used|available|properly
        |correctly)\ without\ {_OWN}javascript{_END}
    | \bno\ javascript\ detected
    | \b(?:your|this)\ (?:web\ )?browser\b.{{0,60}}(?:n't|not|cannot|unable\ to)\s{{1,3}}
        (?:support|run|execute).{{0,20}}javascript
    | \b(?:ensure|sure|check)\ (?:that\ )?your\ (?:web\ )?browser\ supports\ javascript
    | \bjavascript\b.{{0,30}}\byour\ (?:web\ )?browser\b[^,;]{{0,30}}(?:n't|\bnot|\boff|disabled|blocked)\b
    """,
    re.VERBOSE,
)


def _read_words(value: Any) -> Any:
    """The words of a file, a line each; what is no path is taken as it is."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    try:
        with Path(value).open("rb") as file:
            raw = file.read(MOST_BAD_WORDS_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"cannot read the word list {value!r}: {error} | give a UTF-8 file, a word on a line"
        ) from None
    if len(raw) > MOST_BAD_WORDS_BYTES:
        raise ValueError(f"the word list {value!r} is longer than a mebibyte | give a list of words, one on a line")
    words = tuple(dict.fromkeys(line.strip().lower() for line in text.splitlines() if line.strip()))
    if not words:
        raise ValueError(f"the word list {value!r} is empty | give a word on a line, or leave the option away")
    return words


class C4Options(Config):
    """Options of `c4`."""

    ends: tuple[str, ...] | None = Field(default=ENDS, strict=False)
    """What a line must end with; null: anything."""
    min_line_words: int = Field(default=3, ge=0)
    """The fewest words of a line."""
    max_word_length: int | None = Field(default=1000, ge=1)
    """The longest word of a line, in characters; null: any."""
    min_sentences: int = Field(default=5, ge=0)
    """The fewest sentences of a document."""
    javascript: bool | Literal["warnings"] = True
    """Whether lines that speak of Javascript are removed: by the published rule all of them, those that teach it too;
    `warnings`: those that ask a visitor to enable it, or say that it is missing, which is what the rule is for."""
    policy: tuple[str, ...] = Field(default=POLICY, strict=False)
    """Phrases, in small letters, whose lines are removed."""
    margins: bool = True
    """Whether blank lines go, and white space at both ends of lines."""
    citations: bool | Literal["prose"] = True
    """Whether marks of citations are taken out: by the published rule all `[1]`, `[0]` and `[]`, those of code too;
    `prose`: what stands as citations do, and none of source files."""
    lorem_ipsum: bool = True
    """Whether a document with `lorem ipsum` is dropped."""
    curly_bracket: bool = True
    """Whether a document with a `{` is dropped."""
    bad_words: Annotated[tuple[str, ...], BeforeValidator(_read_words)] = ()
    """A file of words, one on a line, that drop a document; the words themselves stand in the resolved recipe."""


@dataclass(slots=True)
class _Left:
    """What the rules for lines leave of a document, and how many lines and marks each took."""

    dropped: Result | None = None
    lines: list[str] = field(default_factory=list)
    laid_out: list[str] = field(default_factory=list)  # the same with their margins, and blank lines
    counts: Counter[str] = field(default_factory=Counter)


class _Met(NamedTuple):
    """Which rules a text can break at all: most break none of these, and no line of theirs is looked at for them."""

    lorem: bool
    javascript: re.Pattern[str] | None
    bracket: bool
    policy: tuple[str, ...]
    citations: re.Pattern[str] | None


def c4(texts: Sequence[str], options: C4Options) -> list[Result]:
    """Removes lines that are no sentences, and drops documents that are then too short or hold what they must not."""
    left = [_lines(text, options) for text in texts]
    # A line that is left is a sentence at least: only documents of few lines must be counted.
    few = [of for of in left if of.dropped is None and len(of.lines) < options.min_sentences]
    for of, sentences in zip(few, _sentences([of.lines for of in few]), strict=True):
        if sentences < options.min_sentences:
            of.dropped = Result(None, sentences, "c4/few_sentences")
    return [of.dropped or _result(text, of, options) for text, of in zip(texts, left, strict=True)]


def _lines(text: str, options: C4Options) -> _Left:
    met = _met(text, options)
    looked_at = any(met[:-1])
    left = _Left()
    for number, whole in enumerate(text.splitlines(), 1):
        line = whole.strip()
        if not line:
            left.laid_out.append(whole)
            continue
        bare = met.citations.sub("", line) if met.citations else line
        marks = line.count("[") - bare.count("[")
        rule = _shape_fault(line, bare, options) or (_word_fault(bare, met) if looked_at else "")
        if rule in ("c4/lorem_ipsum", "c4/curly_bracket"):
            left.dropped = Result(None, number, rule)
            break
        if rule:
            left.counts[rule] += 1
        else:
            left.lines.append(bare)
            left.laid_out.append(met.citations.sub("", whole) if met.citations and marks else whole)
            if marks:
                left.counts["c4/citations"] += marks
    return left


def _met(text: str, options: C4Options) -> _Met:
    lowered = text.lower()
    return _Met(
        options.lorem_ipsum and "lorem ipsum" in lowered,
        _javascript_of(options) if "javascript" in lowered else None,
        options.curly_bracket and "{" in text,
        tuple(phrase for phrase in options.policy if phrase in lowered),
        _marks_of(text, options) if "[" in text else None,
    )


def _javascript_of(options: C4Options) -> re.Pattern[str] | None:
    """What a line in small letters has that is removed for Javascript."""
    if options.javascript == "warnings":
        return _JAVASCRIPT_WARNING
    return _JAVASCRIPT if options.javascript else None


def _marks_of(text: str, options: C4Options) -> re.Pattern[str] | None:
    """What of a text is a mark of a citation.

    In prose a mark follows what ends a sentence or a part of one (`known.[12][13]`), or a word (`galaxy[11] and`); so
    does an index (`argv[1] is`). Behind words marks are therefore taken only where others of the text stand at ends,
    and nothing is an index for certain (`argv[0]`, `names[]`, `lines[1:]`).
    """
    if options.citations != "prose":
        return _CITATION if options.citations else None
    has_citations = _NUMBERED.search(text) and not _INDEX.search(text)
    return _CITATION_AT_WORDS if has_citations else _CITATION_AT_ENDS


def _shape_fault(line: str, bare: str, options: C4Options) -> str:
    """The rule that removes a line for its words or its end; `bare`: the line without citations."""
    longest = options.max_word_length
    if longest is not None and len(line) > longest and any(len(word) > longest for word in line.split()):
        return "c4/long_word"
    if options.ends is not None and (not bare.endswith(options.ends) or bare.endswith("...")):
        return "c4/no_end"
    enough = options.min_line_words
    return "c4/few_words" if len(line.split(None, enough)) < enough else ""


def _word_fault(line: str, met: _Met) -> str:
    """The rule that a line breaks by what it says."""
    lowered = line.lower()
    if met.lorem and "lorem ipsum" in lowered:
        return "c4/lorem_ipsum"
    if met.javascript and "javascript" in lowered and met.javascript.search(lowered.replace("’", "'")):
        return "c4/javascript"
    if met.bracket and "{" in line:
        return "c4/curly_bracket"
    return "c4/policy" if any(phrase in lowered for phrase in met.policy) else ""


def _sentences(documents: Sequence[Sequence[str]]) -> list[int]:
    """How many sentences the lines of each document have."""
    lines = [line for document in documents for line in document]
    tokens = find_tokens(lines)
    first = tokens.codes[tokens.starts]
    alone = (tokens.kinds & SOUND == 0) & (tokens.ends - tokens.starts == 1)
    ends = np.zeros(len(first) + 1, np.int64)  # how many terminal marks stand before each token
    np.cumsum(alone & np.isin(first, sentence_terminals()), out=ends[1:])
    words = np.flatnonzero((tokens.kinds & SOUND != 0) | ~_is_punctuation(first))
    line_of = np.searchsorted(tokens.offsets, words, side="right") - 1
    before = np.concatenate([[-1], words[:-1]])  # where the word before stands, or its line begins
    opens = ends[words] > ends[np.maximum(before + 1, tokens.offsets[line_of])]
    found = np.bincount(line_of[opens], minlength=len(lines)) + 1
    document_of = np.repeat(np.arange(len(documents)), list(map(len, documents)))
    counts: list[int] = np.bincount(document_of, found, len(documents)).astype(int).tolist()
    return counts


def _is_punctuation(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Punctuation follows the sentence that it ends; symbols begin a new one."""
    different, place = np.unique(codes, return_inverse=True)
    categories = [unicodedata.category(chr(code))[0] for code in different.tolist()]
    return np.array([category == "P" for category in categories], np.bool_)[place]


def _result(text: str, left: _Left, options: C4Options) -> Result:
    if options.margins:
        cleaned = "\n".join(left.lines).strip()
    else:
        cleaned = "\n".join(left.laid_out) + "\n" * text.endswith("\n")
    if options.bad_words:
        bad = len(_pattern(options.bad_words).findall(cleaned.lower()))
        if bad:
            return Result(None, bad, "c4/bad_words")
    if cleaned == text:
        return Result(text)
    changes = tuple(left.counts.items()) or (("c4/margins", len(text) - len(cleaned)),)
    return Result(cleaned, changes[0][1], changes[0][0], also=changes[1:])


@lru_cache(maxsize=8)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)")


def _over_documents(documents: Sequence[Document], options: C4Options) -> list[Result]:
    code = [options.citations == "prose" and is_code(document) for document in documents]
    programs = in_pieces(c4)(list(compress(documents, code)), options.model_copy(update={"citations": False}))
    others = in_pieces(c4)([d for d, left in zip(documents, code, strict=True) if not left], options)
    of = {True: iter(programs), False: iter(others)}
    return [next(of[left]) for left in code]


C4 = Kind(C4Options, _over_documents, version=6)
