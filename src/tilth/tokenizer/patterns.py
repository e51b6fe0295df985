"""How byte-level BPE cuts text into pretokens; no token ever spans two of them.

    PATTERNS[name]          the regular expression; every character of a text is in exactly one match
    GROUPED[name]           the same for the engine that encodes, faster there
    space_cuts(...)         what the expression says about one very long run of white space, without running it

Three engines run these expressions: fancy-regex (tiktoken, encoding), Oniguruma (Hugging Face tokenizers, the saved
tokenizer.json) and Python's `regex` (training). They are therefore written without what these engines read
differently: `(?i:…)` (case folding lets ſ match s in some), `$` (end of line in Oniguruma), `{1,3}+` (possessive in
some, repeated in Oniguruma). `\\p{L}` and `\\p{N}` are the same in tiktoken and tokenizers; `regex` follows a newer
Unicode, so training can see a letter where encoding sees a mark, in scripts of the last years: harmless, since
encoding alone defines the ids.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import regex  # type: ignore[import-untyped]

PatternName = Literal["gpt2", "gpt4"]

# Sources: tiktoken's openai_public.py, `gpt2` (r50k_pat_str, its original form) and `cl100k_base`, which Llama 3 took
# over. Against those: letter cases spelt out instead of (?i:…), greedy instead of possessive where the match is equal.
_BUT_SPACES: dict[PatternName, str] = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+",
    "gpt4": (
        r"'(?:[sdmtSDMT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    ),
}
PATTERNS: dict[PatternName, str] = {name: rf"{own}|\s+(?!\S)|\s+" for name, own in _BUT_SPACES.items()}

GROUPED: dict[PatternName, str] = {name: rf"(?:{own})|\s(?:\s*(?!\S))?" for name, own in _BUT_SPACES.items()}
"""The same matches as `PATTERNS`, written for fancy-regex, which gives what needs no look ahead to an automaton: in a
group it is one for all alternatives, tried once and not one after another. A third to a half faster.
"""

SPACES = regex.compile(r"\s++")
# Between a letter or number and a white space both patterns always cut, whatever stands around.
SAFE_CUT = regex.compile(r"(?<=[\p{L}\p{N}])(?=\s)")
MARK = r"[^\s\p{L}\p{N}]"  # neither space, letter nor number: in `gpt4` the newlines after it belong to it

_NEWLINES = regex.compile(r"[\r\n]*+")


@cache
def compiled(name: PatternName) -> regex.Pattern[str]:
    """The pattern for Python's `regex`."""
    return regex.compile(PATTERNS[name])


def space_cuts(name: PatternName, text: str, start: int, end: int, after_mark: bool) -> list[int]:
    """Where the pattern cuts around `text[start:end]`, a maximal run of white space of at least two characters.

    `text[:cuts[0]]` and `text[cuts[-1]:]` can be encoded apart with the ids of the whole; what lies between two
    neighbouring cuts is one pretoken. `after_mark` says whether a MARK stands before the run.
    """
    cuts = [start]
    if name == "gpt4":
        if after_mark:
            cuts = [_NEWLINES.match(text, start, end).end()]
        after_newline = 1 + max(text.rfind("\n", cuts[0], end), text.rfind("\r", cuts[0], end))
        if after_newline:
            cuts.append(after_newline)
    # `\s+(?!\S)` leaves the last space to the word that follows; at the end of the text nothing follows.
    last = end if end == len(text) else end - 1
    if last > cuts[-1]:
        cuts.append(last)
    return cuts
