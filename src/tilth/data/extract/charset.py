"""Which encoding a page is in, by what it says.

    decode(raw, stated) -> (text, faults)
    marked(raw) -> encoding                     by the byte order mark alone
    decoded(raw, encoding) -> (text, faults)

First its byte order mark, then what the server said (`stated`), then its `<meta charset>`, then UTF-8: the order of the
WHATWG Encoding and HTML standards. Labels mean what browsers take them for (`iso-8859-1` is windows-1252).

A `<meta charset>` of windows-1252 (or Latin-1) that stands in a page of UTF-8 throughout is a template's left-over, and
is not followed, as trafilatura does not; a browser would show `Ã©`. What the server says is.

A page that says nothing and is not UTF-8 is windows-1252 in a browser. So it is here, where its bytes make sense as
such. One whose `<html lang>` is of a language that was written in another encoding is read in that, where all its bytes
are of it: those that the HTML standard has browsers of that language assume. Else (UTF-8 with a byte astray, Cyrillic
that does not say what it is in) they are U+FFFD and counted: wrong letters would be no gain.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from tilth.data.extract.result import Fault
from tilth.data.windows_1252 import tally

_PRESCAN = 4096  # the standard asks for 1024, pages put scripts before it
_CHARACTERS = 3  # beyond ASCII and UTF-8 throughout: in windows-1252 that would be as many `Ã©`, and no other accent
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_META = re.compile(rb"<meta\b[^>]*?\bcharset\s*=\s*[\"']?\s*([A-Za-z0-9_.:\-]{1,40})", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([A-Za-z0-9_.:\-]{1,40})", re.IGNORECASE)
_LANG = re.compile(rb"<html\b[^>]*?\b(?:xml:)?lang\s*=\s*[\"']?\s*([A-Za-z]{2,3}(?:-[A-Za-z]{2,8})?)", re.IGNORECASE)
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_C1 = re.compile(rb"[\x80-\x9f]")  # control characters in ISO 8859, letters and signs in the pages of Windows
_MOST = 4  # bytes that are no UTF-8 to one that is beyond ASCII: a page with fewer is UTF-8, and damaged

# What Python calls an encoding -> the one that browsers use for it. Others (utf-7, unicode_escape, idna …) are refused:
# Python knows more text encodings than a page may be in, and some of them run over what looks like plain ASCII.
_ENCODINGS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "cp1252": "cp1252",
    "iso8859-9": "cp1254",
    "cp1254": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "cp874": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "hz": "hz",
    "big5": "big5hkscs",
    "big5hkscs": "big5hkscs",
    "shift_jis": "cp932",
    "cp932": "cp932",
    "euc_jp": "euc_jp",
    "iso2022_jp": "iso2022_jp",
    "euc_kr": "cp949",
    "cp949": "cp949",
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "mac-roman": "mac-roman",
    "mac-cyrillic": "mac-cyrillic",
    "cp866": "cp866",
    "utf-8": "utf-8",
    # A tag that could be read as ASCII was not written in UTF-16: the page is something else (HTML standard, 13.2.3.2).
    "utf-16": "utf-8",
    "utf-16-le": "utf-8",
    "utf-16-be": "utf-8",
    **{f"iso8859-{part}": f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
    **{f"cp125{page}": f"cp125{page}" for page in (0, 1, 3, 5, 6, 7, 8)},
}
# The HTML standard's suggested defaults by locale (13.2.3.2, step 9).
_BY_LANGUAGE = {
    **dict.fromkeys(("ar", "fa"), "cp1256"),
    **dict.fromkeys(("az", "ba", "be", "bg", "kk", "ky", "mk", "ru", "sah", "sr", "tg", "tt", "uk"), "cp1251"),
    **dict.fromkeys(("cs", "hr", "sk"), "cp1250"),
    **dict.fromkeys(("hu", "pl", "sl"), "iso8859-2"),
    **dict.fromkeys(("et", "lt", "lv"), "cp1257"),
    **dict.fromkeys(("ku", "tr"), "cp1254"),
    **dict.fromkeys(("zh-hans", "zh-cn", "zh-sg"), "gb18030"),
    **dict.fromkeys(("zh-hant", "zh-tw", "zh-hk"), "big5hkscs"),
    "el": "iso8859-7",
    "he": "cp1255",
    "ja": "cp932",
    "ko": "cp949",
    "th": "cp874",
    "vi": "cp1258",
}
_ALIASES = {"x-sjis": "cp932", "x-gbk": "gb18030", "x-euc-jp": "euc_jp", "x-mac-cyrillic": "mac-cyrillic"}


def decode(raw: bytes, stated: str | None = None) -> tuple[str, list[Fault]]:
    """The text of a page, and what had to be changed for it: `bom`, `charset`, `unknown_charset`, `invalid_utf8`."""
    if encoding := marked(raw):
        text, bad = decoded(raw, encoding)
        return text, [Fault("bom", encoding, "byte order mark removed"), *bad]
    faults: list[Fault] = []
    for label in (stated, _declared(raw)):
        if not label:
            continue
        encoding = encoding_of(label) or ""
        if encoding == "cp1252" and label is not stated and (utf_8 := _whole_utf_8(raw)) is not None:
            return utf_8, [*faults, Fault("charset", "utf-8", f"states {label}, and is UTF-8 throughout")]
        if encoding:
            text, bad = decoded(raw, encoding)
            said = [] if encoding == "utf-8" else [Fault("charset", encoding, f"recoded from {encoding}")]
            return text, [*faults, *said, *bad]
        faults.append(Fault("unknown_charset", label[:40], f"{label[:40]!r} is no encoding of pages"))
    text, bad = decoded(raw, "utf-8")
    if bad:
        for encoding, why in _guesses(raw):
            guessed, wrong = decoded(raw, encoding)
            if not wrong or encoding == "cp1252":
                return guessed, [*faults, Fault("charset", encoding, f"recoded from {encoding}, as {why}"), *wrong]
    return text, [*faults, *bad]


def _guesses(raw: bytes) -> Iterator[tuple[str, str]]:
    """What a page that states no encoding, and is not UTF-8, may be in, and why."""
    start, met = _COMMENT.sub(b"", raw[:_PRESCAN]), tally(raw)
    if (found := _LANG.search(start)) and met.bad >= _MOST * met.others:
        language = found[1].decode("ascii").lower()
        encoding = _BY_LANGUAGE.get(language) or _BY_LANGUAGE.get(language.partition("-")[0])
        if encoding == "iso8859-2" and _C1.search(raw):
            encoding = "cp1250"
        if encoding:
            yield encoding, f"pages in its language ({language}) were that state nothing"
    if met.is_windows_1252:
        yield "cp1252", "browsers take a page that states nothing"


def _whole_utf_8(raw: bytes) -> str | None:
    """The text, where all of it is UTF-8 and some characters show that this is no chance."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if sum(character > "\x7f" for character in text) >= _CHARACTERS else None


def encoding_of(label: str) -> str | None:
    """Python's name for the encoding that a browser takes for `label`; None when it knows none."""
    label = label.strip().lower()
    try:
        found = _ALIASES.get(label) or codecs.lookup(label).name
    except (LookupError, ValueError):  # ValueError: a NUL in the label
        return None
    return found if found in _ALIASES.values() else _ENCODINGS.get(found)


def _declared(raw: bytes) -> str:
    start = _COMMENT.sub(b"", raw[:_PRESCAN])
    found = _META.search(start) or _XML.match(start)
    return found[1].decode("ascii") if found else ""


def marked(raw: bytes) -> str | None:
    """The encoding that a byte order mark says."""
    return next((encoding for mark, encoding in _BOMS.items() if raw.startswith(mark)), None)


def decoded(raw: bytes, encoding: str) -> tuple[str, list[Fault]]:
    """The text without its byte order mark, and how many characters could not be read."""
    raw = raw[len(codecs.BOM_UTF8 if encoding == "utf-8" else codecs.BOM_UTF16) :] if marked(raw) == encoding else raw
    try:
        return raw.decode(encoding), []
    except UnicodeDecodeError as error:
        text = raw.decode(encoding, "replace")
        # Those that stand in the data as such are no faults; only UTF-8 and UTF-16 (and GB 18030) can spell it.
        written = raw.decode(encoding, "ignore").count("\ufffd")
        bad = text.count("\ufffd") - written
        return text, [Fault("invalid_utf8", str(bad), f"not {encoding}; the first at byte {error.start}")]
