"""The stage `language`: which language a document is written in; dropping those that are not wanted.

    detect(texts) -> [(language, score)]       what is found, whatever the options
    language(documents, options) -> [Result]   what the stage makes of it

The model comes inside its package (py3langid: a naive Bayes classifier over bytes, Lui and Baldwin 2012); nothing is
downloaded; language_model.py runs it. It looks at 1,000 characters at most: a longer text shows it eight pieces of 125,
the first from its beginning, the last from its end, the others at equal distances between, so that a foreign header
decides nothing. What is found is an ISO 639-1 code, or one of three letters where that standard has none; Chinese and
Arabic are one language each. `und`, with score 0, is a sample with fewer than 20 letters, and code: a source file
(code.py), whatever its comments are written in, and other text of which at least 4 in 100 bytes (white space apart) are
one of {}();=_$\\&<> and at least 4 in 10 lines begin or end as those of programs do. `und`, with its score, is also
what the model calls no language at all. These are unknown: there is no language to tell, and `unknown` says what
becomes of them.

What scores less than `min_score` has a language, but which one is not sure. What it is most like decides as ever
whether it is wanted: of texts in 34 other languages that score less than 0.65 none was most like English, and nine in
ten of English ones were. If it is wanted, `unsure` says whether so low a score is enough.

Every document gets `meta.language` (`und` where it is not sure) and `meta.language_score`. One that is dropped has the
verdict `language/fr`, where `fr` is what was found, or `language/unsure_fr`, and its score as the value. Scores have
three decimals: the last bits of the model's sums may differ from one kind of processor to another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from tilth.core.config import Config
from tilth.data.document import Document
from tilth.data.stages.base import Kind, Result
from tilth.data.stages.code import is_code
from tilth.data.stages.language_model import classify

UNKNOWN = "und"
_ALL = """af am an ar as az ba be bg bn br bs ca crh cs cy da de dz el en eo es et eu fa ff fi fo fr fy ga gd gl gn gom
    grc gu ha he hi hr ht hu hy id ig is it ja jv ka kab ki kk km kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn
    mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa se si sk sl sn so sq sr st sv sw ta te tg th tk
    tl tr tt ug uk ur uz vec vi vo wa xh yo zh zu ace bcl ext gcf gcr guw"""
LANGUAGES = frozenset(_ALL.split())
"""All that can be found, apart from `und`."""

# The model tells some languages apart that share one code of ISO 639-1, and writes `zxx` for what is no language.
_CODES = {
    "zxx": UNKNOWN, "yue": "zh", "wuu": "zh", "arz": "ar", "ary": "ar", "gug": "gn", "fuv": "ff", "uzs": "uz",
    "sdh": "ku", "hbo": "he", "kik": "ki",
}  # fmt: skip
_PIECES, _PIECE = 8, 125
_FEWEST_LETTERS = 20
_MARKS = b"{}();=_$\\&<>"
_MARKS_OF_CODE, _LINES_OF_CODE = 0.04, 0.4
_LINE_OF_CODE = re.compile(
    r"[^\S\n]*(?:(?:#include|import|from [\w.]+ import|def|class|return|\*)\b|@\w|//|/\*|\*|#|[}\])])"
    r"|.*[;{}(),:=\\\[\]>][^\S\n]*$"
)


class LanguageOptions(Config):
    """Options of `language`."""

    keep: tuple[str, ...] = ()
    """The languages that are kept, as codes of ISO 639-1 such as `en`; empty: all of them."""
    min_score: float = Field(default=0.5, ge=0, le=1)
    """What scores less is not sure: its `meta.language` is `und`."""
    unsure: Literal["keep", "drop"] = "keep"
    """What becomes of documents that are most like a wanted language, but not sure to be in it: mostly short ones.
    Those that are most like another language go."""
    unknown: Literal["keep", "drop"] = "keep"
    """What becomes of documents that have no language to tell: fewer than 20 letters, and code."""

    @field_validator("keep", mode="before")
    @classmethod
    def _a_list(cls, keep: object) -> object:
        return tuple(keep) if isinstance(keep, list) else keep

    @field_validator("keep")
    @classmethod
    def _known(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [code for code in keep if code not in LANGUAGES]
        if unknown:
            known = ", ".join(sorted(LANGUAGES))
            raise ValueError(f"no language is called {', '.join(map(repr, unknown))} | write codes such as: {known}")
        return tuple(sorted(set(keep)))


def language(documents: Sequence[Document], options: LanguageOptions) -> list[Result]:
    """Each document with its language, or dropped; value: the score."""
    code = [is_code(document) for document in documents]
    found = iter(detect([document.text for document, own in zip(documents, code, strict=True) if not own]))
    return [
        _result(document.text, *((UNKNOWN, 0.0) if own else next(found)), options)
        for document, own in zip(documents, code, strict=True)
    ]


def _result(text: str, found: str, score: float, options: LanguageOptions) -> Result:
    unsure = score < options.min_score and found != UNKNOWN
    meta = {"language": UNKNOWN if unsure else found, "language_score": score}
    rule = f"language/unsure_{found}" if unsure else f"language/{found}"
    return Result(text if _is_wanted(found, unsure, options) else None, score, rule, meta=meta)


def _is_wanted(found: str, unsure: bool, options: LanguageOptions) -> bool:
    if found == UNKNOWN:
        return options.unknown == "keep"
    return (not options.keep or found in options.keep) and not (unsure and options.unsure == "drop")


def detect(texts: Sequence[str]) -> list[tuple[str, float]]:
    """The language of each text and how sure the model is of it (0 to 1); `und` and 0 for code and very short texts."""
    samples = list(map(sample_of, texts))
    readable = [n for n, sample in enumerate(samples) if _has_letters(sample) and not looks_like_code(sample)]
    found = [(UNKNOWN, 0.0)] * len(samples)
    for n, (label, score) in zip(readable, classify([samples[n] for n in readable]), strict=True):
        found[n] = (_CODES.get(label, label), round(score, 3))
    return found


def _has_letters(sample: str) -> bool:
    most = sum(map(str.isalpha, sample[:100]))  # enough to know, mostly
    return most >= _FEWEST_LETTERS or sum(map(str.isalpha, sample)) >= _FEWEST_LETTERS


def sample_of(text: str) -> str:
    """The text itself, or eight pieces of it, a line end between them."""
    if len(text) <= _PIECES * _PIECE:
        return text
    last = len(text) - _PIECE
    return "\n".join(text[start : start + _PIECE] for start in (n * last // (_PIECES - 1) for n in range(_PIECES)))


def looks_like_code(sample: str) -> bool:
    """Whether marks and lines are those of a program."""
    visible = sample.encode("utf-8", "surrogatepass").translate(None, b" \t\n\r")
    if len(visible) - len(visible.translate(None, _MARKS)) < _MARKS_OF_CODE * len(visible):
        return False
    lines = [line for line in sample.split("\n") if line and not line.isspace()]
    return sum(_LINE_OF_CODE.match(line) is not None for line in lines) >= _LINES_OF_CODE * len(lines)


LANGUAGE_STAGES: dict[str, Kind] = {"language": Kind(LanguageOptions, language, version=3, libraries=("py3langid",))}
