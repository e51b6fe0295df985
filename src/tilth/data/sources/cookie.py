"""Source files of Python in the encoding that they declare in one of their first two lines (PEP 263).

    as_declared(intake, text)     the file as UTF-8, with a note where it is in another encoding

`# -*- coding: latin-1 -*-` counts as it does for Python (`tokenize.detect_encoding`): in the first line, or in the
second where the first is a comment or blank.
"""

from __future__ import annotations

import codecs
import itertools
import re
from dataclasses import replace

from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.streams import Utf8, recoded

_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BLANK = re.compile(rb"[ \t\f]*(?:#.*)?\r?\Z", re.DOTALL)
_WITH_LINE_ENDS = re.compile(r"(utf-8|latin-1|iso-8859-1|iso-latin-1)(?:-|\Z)")
_LOOKED_AT = 4096  # bytes: a longer line is none that declares something
_ESCAPES = ("idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "utf-7")
"""Codecs of text that are no encodings of files: Python takes some of them, and what they make is not what is seen."""


def as_declared(intake: Intake, text: Utf8) -> Utf8:
    """The text, recoded where it declares another encoding; one that nobody knows is noted, and read as UTF-8."""
    rest, start = iter(text.pieces), b""
    while start.count(b"\n") < 2 and len(start) < _LOOKED_AT and (piece := next(rest, b"")):
        start += piece
    text, name = replace(text, pieces=itertools.chain([start], rest)), _declared(start[:_LOOKED_AT])
    encoding, place = _encoding_of(name) if name else "utf-8", intake.item.locator
    if encoding is None:
        intake.note_file(Note("unknown_charset", name[:40], f"{place}: {name[:40]!r} is no encoding of source files"))
    elif encoding not in ("utf-8", "ascii", "utf-8-sig"):
        intake.note_file(Note("charset", encoding, f"{place}: recoded from {encoding}"))
        return replace(text, pieces=recoded(text.pieces, encoding))
    return text


def _declared(start: bytes) -> str:
    first, _, rest = start.partition(b"\n")
    found = _COOKIE.match(first)
    if not found and _BLANK.match(first):
        found = _COOKIE.match(rest.partition(b"\n")[0])
    return found[1].decode("ascii") if found else ""


def _plain_name(name: str) -> str:
    """Names of UTF-8 and Latin-1 as Python reads them, with the kind of line ends that Emacs writes behind them."""
    found = _WITH_LINE_ENDS.match(name[:12].lower().replace("_", "-"))
    if not found:
        return name
    return "utf-8" if found[1] == "utf-8" else "iso-8859-1"


def _encoding_of(name: str) -> str | None:
    """Python's name of the encoding; None where it is none of text, or has no letters of ASCII in their places."""
    try:
        found = codecs.lookup(_plain_name(name)).name
        plain = b"# coding".decode(found) == "# coding"  # LookupError for what is no text: rot13, zip
    except (LookupError, ValueError):
        return None
    return found if plain and found.replace("_", "-") not in _ESCAPES else None
