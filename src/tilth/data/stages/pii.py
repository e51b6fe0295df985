"""The stage `pii`: what belongs to one person, or opens one door, is masked; or the document is dropped.

    pii(text, options) -> Result
    find(text, options) -> [Found]        what would be masked, in order

    email    [EMAIL]    e-mail addresses                       pii_addresses.py, pii_domains.py
    ip       [IP]       internet addresses                     pii_addresses.py
    phone    [PHONE]    telephone numbers                      pii_numbers.py
    card     [CARD]     payment cards                          pii_numbers.py
    iban     [IBAN]     bank accounts                          pii_numbers.py
    key      [KEY]      passwords, tokens, private keys        pii_keys.py

Each module says what it takes for what; where it is in doubt, a text is left as it was. Names and postal addresses are
not looked for: no rule knows them. A mask is plain text that a tokenizer reads letter by letter: special tokens are
written <|…|>, <…> or as BERT's five ([CLS], [SEP], [MASK], [PAD], [UNK]), so no mask can ever become one.

Masking goes on until nothing is found: what one mask lays bare is found in the next round, and a masked text stays as
it is. Each kind has its verdict, `pii/email` and so on, with the number that was found.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple

import regex  # type: ignore[import-untyped]
from pydantic import field_validator

from tilth.core.config import Config
from tilth.data.stages.base import Kind, Number, Result, each
from tilth.data.stages.patterns import Subject, TimedOptions
from tilth.data.stages.pii_addresses import find_emails, find_ips
from tilth.data.stages.pii_keys import find_keys
from tilth.data.stages.pii_numbers import find_cards, find_ibans, find_phones
from tilth.data.stages.pii_view import Span, View, look

Sort = Literal["key", "iban", "card", "email", "ip", "phone"]
SORTS: tuple[Sort, ...] = ("key", "iban", "card", "email", "ip", "phone")
"""All kinds; where two overlap, and begin at the same place, the one that stands first here is taken."""
_CLOCK = TimedOptions()
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT")


class PiiOptions(Config):
    """Options of `pii`."""

    kinds: tuple[Sort, ...] = SORTS
    """What is looked for: email, ip, phone, card, iban, key."""
    action: Literal["mask", "drop"] = "mask"
    """Put a mask such as [EMAIL] in its place, or drop the document."""
    ip: Literal["public", "all"] = "public"
    """Internet addresses that can be reached from outside, or those of private networks too."""
    phone_regions: tuple[str, ...] = REGIONS
    """Countries (ISO 3166) whose telephone numbers are known without the + and the country's code."""
    allow: tuple[str, ...] = ()
    """Regular expressions (as the `regex` library reads them); what one of them matches as a whole stays, such as
    `.*@my-company\\.com`. One that backtracks without end is stopped and counted as `pii/timeout`; what was left to ask
    of it is masked."""

    @field_validator("kinds", "phone_regions", "allow", mode="before")
    @classmethod
    def _a_list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("kinds")
    @classmethod
    def _in_order(cls, kinds: tuple[Sort, ...]) -> tuple[Sort, ...]:
        if not kinds:
            raise ValueError(f"nothing to look for | name some of {', '.join(SORTS)}, or leave the stage out")
        return tuple(sort for sort in SORTS if sort in kinds)

    @field_validator("phone_regions")
    @classmethod
    def _codes(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [region for region in regions if not re.fullmatch("[A-Z]{2}", region)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no country | write two capital letters, such as US or DE")
        return regions

    @field_validator("allow")
    @classmethod
    def _expressions(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in allow:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error} | mend it") from None
        return allow


class Found(NamedTuple):
    """Something private: its kind, and the characters it takes up."""

    sort: Sort
    start: int
    end: int


def pii(text: str, options: PiiOptions) -> Result:
    """The text with masks, or dropped; value: how many were found of the kind that the verdict names."""
    allowed = _Allowed(text, options.allow)
    found = find(text, options, allowed)
    if not found:
        return Result(text)
    counts = Counter[str]()
    while found:
        counts.update(one.sort for one in found)
        if options.action == "drop":
            break
        text = _masked(text, found)
        found = find(text, options, allowed)
    said: list[tuple[str, Number]] = [(f"pii/{sort}", counts[sort]) for sort in SORTS if counts[sort]]
    first, *others = said + ([("pii/timeout", allowed.seconds)] if allowed.late else [])
    if options.action == "drop":
        return Result(None, first[1], first[0])
    return Result(text, first[1], first[0], tuple(others))


def find(text: str, options: PiiOptions, allowed: _Allowed | None = None) -> list[Found]:
    """All that is private in a text, in its order, none overlapping another."""
    allowed = allowed or _Allowed(text, options.allow)
    view = look(text)
    every = [Found(sort, *span) for sort in options.kinds for span in _spans(sort, view, options)]
    every.sort(key=lambda one: one.start)  # stable: at one place the order of SORTS stays
    kept, end = [], 0
    for one in every:
        if one.start >= end and not allowed(text[one.start : one.end]):
            kept.append(one)
            end = one.end
    return kept


def _spans(sort: Sort, view: View, options: PiiOptions) -> Iterator[Span]:
    match sort:
        case "key":
            return find_keys(view)
        case "iban":
            return find_ibans(view)
        case "card":
            return find_cards(view)
        case "email":
            return find_emails(view, "key" in options.kinds)
        case "ip":
            return find_ips(view, options.ip == "all")
        case "phone":
            return find_phones(view, options.phone_regions)


def _masked(text: str, found: list[Found]) -> str:
    pieces, end = [], 0
    for one in found:
        pieces += [text[end : one.start], f"[{one.sort.upper()}]"]
        end = one.end
    return "".join([*pieces, text[end:]])


class _Allowed:
    """What stays of one document, by the recipe's expressions and against their clock: `late` where it stopped one.

    What was said once of a piece of text is said of it to the end, also when time is up by then.
    """

    def __init__(self, text: str, patterns: tuple[str, ...]) -> None:
        self._patterns, self._said = _compiled(patterns), dict[str, bool]()
        self.seconds, self.late = Subject(text, _CLOCK).seconds, False
        self._spent = 0.0  # by the expressions alone: to find what is private may take long as well

    def __call__(self, found: str) -> bool:
        if self._patterns and found not in self._said:
            began = time.process_time()
            try:
                left = self.seconds - self._spent
                if left <= 0:
                    raise TimeoutError
                self._said[found] = any(pattern.fullmatch(found, timeout=left) for pattern in self._patterns)
            except TimeoutError:
                self._said[found], self.late = False, True
            self._spent += time.process_time() - began
        return self._said.get(found, False)


@cache
def _compiled(allow: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(map(regex.compile, allow))


PII_STAGES: dict[str, Kind] = {
    "pii": Kind(
        PiiOptions,
        each(pii),
        version=9,
        libraries=("phonenumberslite", "regex"),
        over="messages",
        settles=True,
    )
}
