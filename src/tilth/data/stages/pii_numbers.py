"""Payment cards, bank accounts and telephone numbers in a text.

    find_cards(view)             13 to 19 digits with the check digit of Luhn, in the ranges of a known issuer
    find_ibans(view)             a country's letters and length, remainder 1 modulo 97 (ISO 13616, ISO 7064)
    find_phones(view, regions)   numbers that exist by the plans of numbering that `phonenumbers` knows

Card numbers stand in one piece, or in groups as they are printed (4-4-4-4, 4-6-5 …) with one blank or hyphen between
all of them; what follows a blank (a date, the digits of the back) is no part of a card that is whole without. In a row
of cells a comma may stand on either side; where a digit stands before it and no comma behind, as in
`0,4111111111111111`, it is a decimal one. Of random numbers of 16 digits 2 in 100 pass all that, and are masked too.

IBANs are of capitals; or of small letters, as hashes are too: then digits alone follow the check digits, but for the
four letters of a bank, or Italy's one.

Telephone numbers, of three kinds: international with a +, valid in their country; North American in their usual form
((212) 555-7890, 212-555-7890, 212.555.7890), where `regions` names US or CA; and any that follow a word such as `tel`,
`phone number` or `Rufnummer` and are valid in one of the `regions`; after `call me on`, `portable` and such only those
that begin with a 0. A row of digits that only could be a number is left alone, and so are dates and times of day behind
such words (`Last call: 2024-01-02 10:15`), and the 555-01xx of North America, which films and manuals use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tilth.core.errors import RecipeError
from tilth.data.stages.pii_view import Span, View, before, is_word

_CARD = re.compile(
    r"(?<![\w.+])(?<!\w-)"
    r"(?:\d{13,19}|\d{4}([ \xa0-])\d{4}\1\d{4}\1\d{4}(\1\d{1,3})?|\d{4}([ \xa0-])\d{6}\3\d{4,5})"
    r"(?![\w+]|[.-]\d|[ \xa0-]?\d{4}\b)",
    re.ASCII,
)
_LUHN = str.maketrans("0123456789", "0246813579")


def find_cards(view: View) -> Iterator[Span]:
    """Payment cards."""
    for start, end in view.numbers:
        if end - start >= 13:
            for found in _CARD.finditer(view.text, start, end + 2):
                if _is_decimal(view.text, *found.span()):
                    continue
                tail = len(found[2] or "") if found[1] != "-" else 0  # behind a blank it may be no part of the card
                for length in sorted({len(found[0]), len(found[0]) - tail}, reverse=True):
                    if is_card(re.sub("[ \xa0-]", "", found[0][:length])):
                        yield found.start(), found.start() + length
                        break


def _is_decimal(text: str, start: int, end: int) -> bool:
    """Whether digits follow a decimal comma: a cell in midst of a row has one on its other side as well."""
    return text[start - 1 : start] == "," and text[start - 2 : start - 1].isdigit() and text[end : end + 1] != ","


def is_card(digits: str) -> bool:
    """Whether an issuer has numbers of this range and length, and Luhn's sum is right (ISO/IEC 7812)."""
    doubled = digits[-2::-2].translate(_LUHN)
    return _has_issuer(digits) and sum(map(int, digits[::-2] + doubled)) % 10 == 0


def _has_issuer(digits: str) -> bool:
    first, length = int(digits[:6]), len(digits)
    return any(low <= first <= high and length in lengths for low, high, lengths in _ISSUERS)


def _issuer(low: int, high: int, *lengths: int) -> tuple[int, int, tuple[int, ...]]:
    """First digits from `low` to `high`, as ranges of six digits."""
    width = 10 ** (6 - len(str(low)))
    return low * width, (high + 1) * width - 1, lengths


_ISSUERS = (
    _issuer(4, 4, 13, 16, 19),  # Visa
    _issuer(51, 55, 16),  # Mastercard
    _issuer(2221, 2720, 16),
    _issuer(2200, 2204, 16, 17, 18, 19),  # Mir
    _issuer(34, 34, 15),  # American Express
    _issuer(37, 37, 15),
    _issuer(6011, 6011, 16, 17, 18, 19),  # Discover
    _issuer(644, 659, 16, 17, 18, 19),
    _issuer(300, 305, 14),  # Diners Club
    _issuer(3095, 3095, 14),
    _issuer(36, 36, 14),
    _issuer(38, 39, 14),
    _issuer(3528, 3589, 16, 17, 18, 19),  # JCB
    _issuer(62, 62, 16, 17, 18, 19),  # UnionPay
    _issuer(5018, 5018, 16, 18, 19),  # Maestro
    _issuer(5020, 5020, 16, 18, 19),
    _issuer(5038, 5038, 16, 18, 19),
    _issuer(5893, 5893, 16, 18, 19),
    _issuer(6304, 6304, 16, 18, 19),
    _issuer(6759, 6763, 16, 18, 19),
)

_IBAN_COUNTRIES = """AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18
    DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30
    KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28
    PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20
    YE30"""
_IBAN_LENGTHS = {country[:2]: int(country[2:]) for country in _IBAN_COUNTRIES.split()}
_IBAN_PIECE = re.compile("[ \xa0-]?([0-9A-Za-z])", re.ASCII)
_SMALL_IBAN = re.compile("[a-z]{2}[0-9]{2}(?:[a-z]|[a-z]{4})?[0-9]+")


def find_ibans(view: View) -> Iterator[Span]:
    """International bank account numbers, with single blanks or hyphens anywhere between their letters."""
    start = view.classes.find(b"aa00") if view.mixed else -1
    while start >= 0:
        length = _IBAN_LENGTHS.get(view.text[start : start + 2].upper())
        if length and not is_word(view.text, start - 1):
            end = _end_of_iban(view.text, start, length)
            if end and not is_word(view.text, end):
                yield start, end
        start = view.classes.find(b"aa00", start + 1)


def _end_of_iban(text: str, start: int, length: int) -> int:
    """Where an IBAN of that length that begins at `start` ends; 0 when there is none."""
    letters, end = "", start
    while len(letters) < length:
        piece = _IBAN_PIECE.match(text, end)
        if not piece:
            return 0
        letters, end = letters + piece[1], piece.end()
    one_case = letters.isupper() or _SMALL_IBAN.fullmatch(letters)
    return end if one_case and is_iban(letters.upper()) else 0


def is_iban(letters: str) -> bool:
    """Whether length and check digits are right."""
    if _IBAN_LENGTHS.get(letters[:2]) != len(letters):
        return False
    return int("".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])) % 97 == 1


_DIGITS = re.compile(r"\d{8,15}(?!\w)", re.ASCII)
_INTERNATIONAL = re.compile(r"\+(?!\d+\.\d+(?![ .()/\xa0-]?\d))\d[\d .()/\xa0-]{5,22}\d\d", re.ASCII)  # not +12345.678
_AMERICAN = re.compile(
    r"(?<![\w.+/-])(?<!\d )(?:1[-. ])?(?:\([2-9]\d\d\) ?[2-9]\d\d[-. ]\d{4}|[2-9]\d\d([-.])[2-9]\d\d\1\d{4})"
    r"(?![\w/]|[-.]\d| \d{2})",
    re.ASCII,
)
_NATIONAL = re.compile(r"\(?\d(?:[ .()/\xa0-]{0,2}\d){6,14}(?!\w|[.,-]\d)", re.ASCII)
_CALLED = re.compile(
    r"(?:(?<![^\W_])(?:"
    r"(?:t[ée]l(?:[ée]phone|[ée]fono|efon)?|phone|fon|(?:tele)?fax|mobile?|cell|handy|contact|ruf|festnetz)"
    r"[.:]?[ -]?(?:no|nr|n[°º]|num(?:ber|mer)|#)(?:\.|\W{1,2}(?:is|ist|lautet))?"
    r"|t[ée]l(?:[ée]phone|[ée]fono|efon|[ée]copie)?|phone|fon|call|(?:tele)?fax|mobile?|cell|handy|festnetz|durchwahl"
    r"|m[óo]vil|tfno|tlf(?:no)?|cellulare|whatsapp|sms"
    r")|[\u260e\u260f\u2706\U0001f4de\U0001f4f1])\W{0,4}\Z",  # telephones as signs
    re.IGNORECASE,
)
_CALLED_ON = re.compile(
    r"(?<![^\W_])(?:(?:call|ring|reach|phone|text) (?:me|us|him|her|them)(?: (?:on|at))?|portable|fixe)\W{0,4}\Z",
    re.IGNORECASE,
)
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE_OR_FRACTION = re.compile(
    rf"\(?(?:{_YEAR}([./-]){_MONTH}\1{_DAY}\b|{_DAY}([./-]){_DAY}\2{_YEAR}\b|0\.\d+\Z)", re.ASCII
)
_HOUR = re.compile(r"[ \xa0-]{1,2}[0-2]?\d\Z", re.ASCII)  # of a number, where minutes follow it
_MINUTES = re.compile(r":[0-5]\d(?!\d)", re.ASCII)
_DATE_AT_A_TIME = re.compile(rf"\(?{_YEAR}([ \xa0]?){_MONTH}\1{_DAY}\Z", re.ASCII)
_FICTION = re.compile(r"(?!\+(?!1)).*555\D?01\d\d\Z", re.ASCII)


def find_phones(view: View, regions: Sequence[str]) -> Iterator[Span]:
    """Telephone numbers; `regions` (ISO 3166, such as US) are those whose numbers are known without a +."""
    american = "US" in regions or "CA" in regions
    for start, end in view.numbers:
        if view.text[start - 1 : start] == "(":
            start -= 1
        found = _international(view.text, start, end)
        if not found and american:
            yield from _americans(view.text, start, end)
        if not found:
            found = _named(view.text, start, end, regions)
        if found:
            yield found


def _international(text: str, start: int, end: int) -> Span | None:
    if text[max(0, start - 4) : start].upper() == "=%2B":  # a plus in a URL
        whole = _DIGITS.match(text, start, end)
        return (start - 3, whole.end()) if whole and is_phone(f"+{whole[0]}", None) else None
    plus = start - 1 if text[start - 1 : start] == "+" else -1
    found = _INTERNATIONAL.match(text, plus, end) if plus >= 0 and not is_word(text, plus - 1) else None
    return _valid_part(text, found.span(), None) if found and not _FICTION.match(found[0]) else None


def _valid_part(text: str, span: Span, region: str | None) -> Span | None:
    """The number at the beginning of the span: what follows it may be digits too."""
    start, end = span
    while end - start >= 7:
        if not is_word(text, end) and is_phone(text[start:end], region):
            return start, end
        cut = re.search(r"[^\d]+\d+\Z", text[start:end], re.ASCII)
        if not cut:
            return None
        end = start + cut.start()
    return None


def _americans(text: str, start: int, end: int) -> Iterator[Span]:
    for found in _AMERICAN.finditer(text, start, end + 1):
        if not _FICTION.match(found[0]) and is_phone(found[0], "US"):
            yield found.span()


def _named(text: str, start: int, end: int, regions: Sequence[str]) -> Span | None:
    found = _NATIONAL.match(text, start, end)
    if found and _MINUTES.match(text, found.end()) and (hour := _HOUR.search(found[0])):
        found = _NATIONAL.match(text, start, start + hour.start())
        if found and _DATE_AT_A_TIME.match(found[0]):
            return None
    if not found or _FICTION.match(found[0]) or not _is_named(found[0], before(text, start, 32)):
        return None
    return found.span() if any(is_phone(found[0], region) for region in regions) else None


def _is_named(number: str, said: str) -> bool:
    """Whether a telephone is named before what is no date; what follows a word that may mean another thing has to begin
    with a 0.
    """
    if _DATE_OR_FRACTION.match(number):
        return False
    return bool(_CALLED.search(said) or (number.lstrip("(").startswith("0") and _CALLED_ON.search(said)))


def is_phone(number: str, region: str | None) -> bool:
    """Whether such a number exists: in the world (with its +), or in a region."""
    known = phone_library()
    try:
        return bool(known.is_valid_number(known.parse(number, region)))
    except known.NumberParseException:
        return False


def phone_library() -> Any:
    """The package `phonenumbers`; RecipeError when it is missing."""
    try:
        import phonenumbers
    except ImportError:
        raise RecipeError(
            "the stage `pii` needs phonenumbers to find telephone numbers, and it is not installed",
            "pip install 'tilth[web]', or leave `phone` out of its `kinds`",
        ) from None
    return phonenumbers
