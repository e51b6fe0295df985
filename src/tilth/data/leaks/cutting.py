"""Where a passage is cut out of a document, so that what is left can be read.

    edges(document, starts, ends, margin) -> (lows, highs)   what goes with each of some runs of words
    without(text, spans)                                     what is left

Of a text the passage goes, `margin` characters on each side, and the words that these end in. Of a source file whole
blocks go, those that the middle of a run of words of it stands in, and nothing around them: half a function is none.

A block begins with a line at the margin, outside of brackets, strings and comments, that does not go on with what
stands above it (`else`, a closing bracket, what a comment or a decorator stands before). In other languages than Python
that is told by what most of them share, and a block begins after a blank line: where a bracket seems never to be
closed, the rest of the file is one. Too much goes then, and not half of something. A line for the preprocessor is a
block, and one of a condition (`#ifndef`, `#endif`) stays: what goes in its place is what stands behind it. Where a
condition ends within a block, all that lies between its lines is one.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tilth.data.document import Document
from tilth.data.words import I64

_LONGEST_WORD = 40
_SPACES = np.array([code for code in range(0x3001) if chr(code).isspace()], np.uint32)
_BY_INDENTATION = ("python", "cython")
_HASH_AND_STARRED_COMMENTS = {"nix", "php", "terraform"}
_HASH_COMMENTS = {"cmake", "elixir", "graphql", "ini", "julia", "makefile", "perl", "powershell", "r", "ruby", "shell"}
_HASH_COMMENTS |= {"tcl", "toml", *_HASH_AND_STARRED_COMMENTS}
_NO_STARRED_COMMENTS = (_HASH_COMMENTS - _HASH_AND_STARRED_COMMENTS) | {"batch", "f#", "haskell", "lua", "ocaml"}
_NO_DIRECTIVES = _HASH_COMMENTS | {*_BY_INDENTATION, "css", "less", "scss"}
_TRIPLE = ("c#", "dart", "elixir", "f#", "graphql", "groovy", "java", "julia", "kotlin", "scala", "swift", "toml")
_TRIPLE_SINGLE = ("dart", "elixir", "groovy", "toml")
_HEREDOCS = {
    "shell": r"(?<!<)<<-?[^\S\n]*\\?",
    "ruby": "<<[-~]?",
    "perl": r"<<~?(?:[^\S\n]*(?=[\"']))?",
    "php": r"<<<[^\S\n]*",
    "terraform": "<<-?",
}
_PLAIN = r"[^\"'#()\[\]{}\\\n/]+|"  # in runs: a text is gone through several times as fast
_BRACKETS = r"(?P<opens>[(\[{])|(?P<closes>[)\]}])|(?P<joined>\\\n)|\\[^\n]|(?P<ends>\n)"
_STRINGS = "|".join(rf"{q}[^{q}\\\n]*(?:\\[\s\S][^{q}\\\n]*)*{q}" for q in "\"'")
_DOUBLE, _SINGLE = (rf"{q}[^{q}\\]*(?:\\[\s\S][^{q}\\]*)*{q}" for q in "\"'")
_CHARACTER = r"'(?:[^'\\\n]|\\[^\n]{1,10})'"
_STRINGS_OVER_LINES = {  # what plain quotes hold, in the languages in which it may go on to other lines
    "shell": rf"{_DOUBLE}|(?<=\$){_SINGLE}|'[^']*'",
    "r": f"{_DOUBLE}|{_SINGLE}",
    "tcl": _DOUBLE,
    "perl": f"{_DOUBLE}|{_STRINGS}",
    "ruby": f"{_DOUBLE}|{_STRINGS}",
    "rust": rf"(?<=r)(?P<hashes>#*)\"[\s\S]*?(?:\"(?P=hashes)|\Z)|{_DOUBLE}|{_CHARACTER}",
    "sql": rf"--[^\n]*|\$(?P<tag>\w*)\$[\s\S]*?(?:\$(?P=tag)\$|\Z)|'[^']*'|{_STRINGS}",
    "c#": rf"(?<=@)\"[^\"]*(?:\"\"[^\"]*)*(?:\"|\Z)|{_STRINGS}",
    "c++": rf"(?<=R)\"(?P<parted>[^\s()\\]{{0,16}})\([\s\S]*?(?:\)(?P=parted)\"|\Z)|{_STRINGS}",
    "lua": rf"\[(?P<level>=*)\[[\s\S]*?(?:\](?P=level)\]|\Z)|--(?!\[=*\[)[^\n]*|{_STRINGS}",
    "powershell": rf"(?<=@)(?P<at>[\"'])[^\S\n]*\n[\s\S]*?(?:\n(?P=at)@|\Z)|"
    rf"(?<=<)#[\s\S]*?(?:#>|\Z)|{_STRINGS}",
}
_ALSO_BEGIN = {"lua": r"\-", "sql": r"$\-"}  # strings and comments, besides quotes and brackets
_DOUBLE_LONG, _SINGLE_LONG = (rf"{q * 3}[^{q}\\]*(?:(?:\\[\s\S]|{q}(?!{q}{q}))[^{q}\\]*)*(?:{q * 3}|\Z)" for q in "\"'")
_PYTHON = re.compile(rf"{_PLAIN}#[^\n]*|{_DOUBLE_LONG}|{_SINGLE_LONG}|{_STRINGS}|{_BRACKETS}")
_TEMPLATE = r"`[^`\\]*(?:\\[\s\S][^`\\]*)*(?:`|\Z)"
_BETWEEN_LINES = {  # what is unclosed goes on to the end
    **dict.fromkeys(("javascript", "typescript", "svelte", "vue"), _TEMPLATE),
    "go": r"`[^`]*(?:`|\Z)",
    "ruby": r"(?m:^)=begin\b[\s\S]*?(?:\n=end\b[^\n]*|\Z)",
    "perl": r"(?m:^)=[a-zA-Z][\s\S]*?(?:\n=cut\b[^\n]*|\Z)",
    **{code: "|".join([_DOUBLE_LONG, *[_SINGLE_LONG] * (code in _TRIPLE_SINGLE)]) for code in _TRIPLE},
}
_DIRECTIVE = re.compile(
    r"(?m:^)[^\S\n]*#[^\S\n]*(?P<directive>if|ifdef|ifndef|elif|elifdef|elifndef|else|endif|"
    r"define|undef|include|include_next|import|pragma|error|warning|line|region|endregion)\b"
)
_OF_DIRECTIVE = re.compile(  # as far as a comment that may go on
    rf"(?:[^\\\n\"'/]+|{_STRINGS}|[\"']|\\(?:\r\n|[\s\S])|//[^\n]*|/(?!\*))*"
)
_STAYS = ("if", "el", "end", "region")
_LINE = re.compile(
    r"(?P<blank>[^\S\n]*(?:\n|\Z))|(?P<inside>\s|[)\]}{]|"
    r"(?:el(?:se|if|sif|seif)|except|finally|catch|rescue|ensure|then|do|end|fi|done|esac)\b)|"
    r"(?P<ahead>[#@%;]|//|/\*|--)"
)


def edges(document: Document, starts: I64, ends: I64, margin: int) -> tuple[I64, I64]:
    """Where a cut begins and ends that takes each of some runs of words out, in characters."""
    text, code = document.text, document.meta.get("code")
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    blank = np.isin(letters, _SPACES)
    if code is not None:
        lows, highs = _around_blocks(text, code, starts, ends)
    else:
        lows, highs = _around_words(len(text), blank, starts, ends, margin)
    return _with_blanks(lows, highs, np.append(np.flatnonzero(~blank), len(text)))


def _around_blocks(text: str, code: str, starts: I64, ends: I64) -> tuple[I64, I64]:
    blocks = list(_blocks(text, code))
    begins, stays = zip(*(blocks if code in _NO_DIRECTIVES else _conditions_whole(text, blocks)), strict=True)
    borders = np.array([*begins, len(text)], np.int64)
    # A run's last words, `return None`, may be those that the block before it happens to end in.
    block = np.searchsorted(borders, (starts + ends) // 2, "right") - 1
    goes = np.flatnonzero(~np.array(stays))
    if len(goes):
        block = goes[np.minimum(np.searchsorted(goes, block), len(goes) - 1)]
    return borders[block], borders[block + 1]


def _around_words(size: int, blank: npt.NDArray[np.bool_], starts: I64, ends: I64, margin: int) -> tuple[I64, I64]:
    stops = np.concatenate([[-1], np.flatnonzero(blank), [size]])
    lows, highs = np.maximum(starts - margin, 0), np.minimum(ends + margin, size)
    # From the last white space before it to the first behind it, where it does not begin or end with some.
    before = np.where(np.isin(lows, stops), lows, stops[np.searchsorted(stops, lows) - 1] + 1)
    after = np.where(np.isin(highs - 1, stops), highs, stops[np.searchsorted(stops, highs)])
    first, last = lows - before < _LONGEST_WORD, after - highs < _LONGEST_WORD
    return np.where(first, before, lows), np.where(last, after, highs)


def _with_blanks(lows: I64, highs: I64, solid: I64) -> tuple[I64, I64]:
    """Cuts, with the white space that is all there is between them, or up to an end of the document: no text is left of
    what is nothing else.

    Args:
        solid: the places of what is no white space, and of the document's end.
    """
    behind = solid[np.searchsorted(solid, highs)]
    ordered = np.sort(np.append(lows, solid[-1]))
    other = ordered[np.minimum(np.searchsorted(ordered, highs), len(ordered) - 1)]
    return np.where(lows <= solid[0], 0, lows), np.where(other <= behind, other, highs)


def without(text: str, spans: Sequence[Sequence[int]]) -> str:
    """A text without some spans of it, which are in order and do not touch.

    Where lines go as a whole, what is left is joined as it is; else a paragraph ends there, so that no two halves of
    words, or of sentences, become one.
    """
    borders = [0, *itertools.chain.from_iterable(spans), len(text)]
    left, before = "", 0
    for start, end in zip(borders[::2], borders[1::2], strict=True):
        if _begins_a_line(text, before) and _begins_a_line(text, start):
            left += text[start:end]
        else:
            left = "\n\n".join(filter(None, (left.rstrip(), text[start:end].lstrip())))
        before = end
    return "" if left.isspace() else left


def _begins_a_line(text: str, place: int) -> bool:
    return place in (0, len(text)) or text[place - 1] == "\n"


def _blocks(text: str, code: str) -> Iterator[tuple[int, bool]]:
    """Where the blocks of a source file begin, and whether each is a line that stays."""
    indented = code in _BY_INDENTATION
    directives = code not in _NO_DIRECTIVES
    ahead: int | None = None  # the first of the comments and decorators that stand before a line
    free = indented  # after a blank line, which Python does not need
    directed = False  # after a line for the preprocessor
    for place in itertools.chain([0], _lines_outside(text, _tokens(code), starred=code not in _NO_STARRED_COMMENTS)):
        directive = _DIRECTIVE.match(text, place) if directives else None
        if directive:
            if ahead is not None:
                yield ahead, False
            yield place, directive["directive"].startswith(_STAYS)
            ahead, free, directed = None, True, True
            continue
        if not place:  # what begins a file, a licence as a rule, goes with nothing that follows
            yield 0, False
            continue
        found = _LINE.match(text, place)
        kind = found.lastgroup if found else "begins"
        if kind == "blank":
            if ahead is not None and not indented:
                yield ahead, False
                ahead, directed = None, False
            free = True
        elif kind == "ahead":
            ahead = place if ahead is None and free else ahead
        else:
            if directed or (kind == "begins" and (ahead is not None or free)):
                yield place if ahead is None else ahead, False
            ahead, free, directed = None, indented, False


def _conditions_whole(text: str, blocks: Sequence[tuple[int, bool]]) -> list[tuple[int, bool]]:
    """Blocks, those as one between which a condition of the preprocessor ends: two heads of a function, one body."""
    begins = [place for place, _ in blocks]
    stays, goes_on = np.array([own for _, own in blocks]), np.zeros(len(blocks), np.bool_)
    conditions: list[list[int]] = []  # the blocks that the lines of each lie in
    for found in _DIRECTIVE.finditer(text):
        name = found["directive"]
        if not name.startswith(_STAYS):
            continue
        if name.startswith(("if", "region")):
            conditions.append([])
        if conditions:
            conditions[-1].append(bisect.bisect(begins, found.start()) - 1)
        if conditions and name.startswith("end"):
            lines = conditions.pop()
            if lines[0] != lines[-1] and not all(blocks[line][1] for line in lines):
                stays[lines[0]], goes_on[lines[0] + 1 : lines[-1] + 1] = False, True
    return [(begins[number], bool(stays[number])) for number in np.flatnonzero(~goes_on).tolist()]


@functools.cache
def _tokens(code: str) -> re.Pattern[str]:
    """What lines of a language are told by; `word` is the end of a here-document that begins with the next line."""
    if code in _BY_INDENTATION:
        return _PYTHON
    first, but = "", _ALSO_BEGIN.get(code, "")
    if code in _BETWEEN_LINES:
        first, but = f"{_BETWEEN_LINES[code]}|", "`"
    if code in _HEREDOCS:
        first += rf"{_HEREDOCS[code]}(?P<quote>[\"'])?(?P<word>(?(quote)[^\"'\n]+|[A-Za-z_]\w*))(?(quote)(?P=quote))|"
        but += "<"
    if code not in _NO_DIRECTIVES:
        first += rf"{_DIRECTIVE.pattern}|"
    comments = r"(?<!\S)#[^\n]*"
    if code not in _NO_STARRED_COMMENTS:
        first += r"(?P<starred>/\*)|"
        comments += r"|//[^\n]*"
    plain = _PLAIN.replace("[^", f"[^{but}")
    return re.compile(rf"{first}{plain}{comments}|{_STRINGS_OVER_LINES.get(code, _STRINGS)}|{_BRACKETS}")


def _lines_outside(text: str, tokens: re.Pattern[str], *, starred: bool) -> Iterator[int]:
    """Where the lines begin that begin outside of brackets, strings and comments, but for the first."""
    depth, place = 0, 0
    before: list[int] = []  # the depths at the conditions of the preprocessor that a line stands in
    words: list[str] = []
    closed = text.rfind("*/") if starred else -1
    while token := tokens.search(text, place):
        kind, place = token.lastgroup, token.end()
        if kind == "opens":
            depth += 1
        elif kind == "closes":
            depth = max(0, depth - 1)
        elif kind == "starred":
            place = text.index("*/", place) + 2 if place <= closed else place
        elif kind == "word":
            words.append(token["word"])
        elif kind == "directive":
            name, place = token["directive"], _end_of_directive(text, place, closed)
            if name.startswith("if"):
                before.append(depth)
            elif before and name.startswith("el"):
                depth = before[-1]
            elif before and name == "endif":
                before.pop()
        elif kind == "ends" and words:
            for word in words:
                end = re.compile(rf"^[^\S\n]*{re.escape(word)}(?!\w)", re.MULTILINE).search(text, place)
                place = end.end() if end else len(text)
            words = []
        elif kind == "ends" and not depth:
            yield place


def _end_of_directive(text: str, place: int, closed: int) -> int:
    """Where the line of a directive ends, with the lines that it, or a comment on it, goes on to."""
    while True:
        rest = _OF_DIRECTIVE.match(text, place)
        place = rest.end() if rest else place
        if not text.startswith("/*", place):
            return place
        place = text.index("*/", place + 2) + 2 if place + 2 <= closed else place + 2
