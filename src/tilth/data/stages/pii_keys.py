"""Keys and tokens in a text: what opens something, and must not be learned by heart.

    find_keys(view)

Known by their form: keys of AWS (AKIA…, ASIA…), GitHub, GitLab, Slack (tokens and web hooks), Google, OpenAI and those
who write theirs alike (sk-…), Groq, xAI, Stripe, SendGrid, Hugging Face, Docker Hub, npm, PyPI, DigitalOcean, Shopify,
Vault, Facebook, bots of Telegram and Discord; JSON Web Tokens; signatures in URLs of AWS and Azure; name and password
in a header `Authorization: Basic`; private keys in PEM, from BEGIN to END, with at least 40 characters of Base64 in a
row.

Known by their name: a value of at least 20 letters, digits and _ - / + that is given to something called a token, a
secret, a password, a passphrase, a credential or an api/access/private/… key, and that looks random: at least two
digits and a letter, the kind of character (small, capital, digit, sign) changing at every fourth place or more often,
and at least 3 bits of entropy in a character; in a header `Authorization` 32 hexadecimal digits need no changes.
Neither a UUID nor the token of the next page opens anything.

Known by its place: name and password in a URL, `postgres://[KEY]@db.host.com`, but for what stands in place of a
password (`user:password@`, `$PASS`, `xxx`, the name once more).

Left alone is what was made up to be shown: what holds `example`, or fewer than eight different characters, or has no
digit and mostly small letters (`glpat-your-access-token-here`). Tokens of Hugging Face are of letters alone.
"""

from __future__ import annotations

import base64
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator

from tilth.data.stages.pii_view import Span, View, before, long_runs

_SHORTEST = 16
_PIECE = re.compile(r"[^/+]+")
_KNOWN = re.compile(
    r"(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{60,}|glpat-[\w-]{20,}"
    r"|xox[abeoprs]-[\w-]{10,}"
    r"|AIza[\w-]{35}|GOCSPX-[\w-]{28}"
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{24,}"
    r"|hf_[A-Za-z0-9]{34,}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,}"
    r"|gsk_[A-Za-z0-9]{48,}|xai-[A-Za-z0-9]{60,}|dckr_pat_[\w-]{24,}"
    r"|do[opr]_v1_[a-f0-9]{64}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|EAA[B-Z][A-Za-z0-9]{100,}",
    re.ASCII,
)
_HEAD = re.compile(
    r"AKIA|gh[pousr]_|glpat-|xox[abeoprs]-\d|AIza|GOCSPX-|[rs]k_(?:live|test)_|whsec_|hf_|npm_"
    r"|gsk_|xai-|dckr_pat_"
)
"""What keys begin with that can lack a digit behind a letter."""
_SK = re.compile(r"sk-(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{20,}", re.ASCII)
_AFTER = {  # what stands before the run, and how the run and what follows it then look
    "SG.": re.compile(r"[\w-]{22}\.[\w-]{43}(?![\w-])", re.ASCII),
    "ya29.": re.compile(r"[\w-]{20,}", re.ASCII),
    "hvs.": re.compile(r"(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{24,}(?![\w(-])", re.ASCII),
    "hooks.slack.": re.compile(r"com/services/T\w+/B\w+/\w{20,}", re.ASCII),
}
_JWT = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", re.ASCII)
# Discord's begin with the Base64 of a number; Telegram's have one before the colon.
_DISCORD = re.compile(r"(?:[MNO][DTjz][AEIMQUYcgk][w-z0-5]){6}\w{0,2}\.[\w-]{6}\.[\w-]{27,38}(?![\w-])", re.ASCII)
_TELEGRAM = re.compile(r"AA[\w-]{33,35}(?![\w-])", re.ASCII)
_BOT = re.compile(r"(?<!\d)\d{8,10}:\Z", re.ASCII)
_SIGNED = {
    "sig=": re.compile(r"(?<=[?&;]sig=)(?:[A-Za-z0-9/+]|%2[BF]){43}(?:=|%3D)", re.IGNORECASE),
    "X-Amz-Signature=": re.compile(r"[a-f0-9]{64}(?!\w)"),
}
_BASIC = re.compile(r"\bauthorization\W{1,4}basic \Z", re.IGNORECASE)
_ENCODED = re.compile(r"[A-Za-z0-9+/]{8,1024}={0,2}")
_NAMED = re.compile(
    r"(?:(?:api|access|secret|private|auth|client|app|signing|encryption|storage|account|shared|master|license)"
    r"[_\- ]?key|(?<!next)(?<!page)(?<!lock)(?<!next[_-])(?<!page[_-])(?<!lock[_-])token|secret|passw(?:or)?d"
    r"|passphrase|credentials?|pwd)(?:[_-]?(?:id|value|str|string))?"
    r"[\"'\])]?\s*(?:=>|:=|=|:)\s*(?:[rbuf]?[\"'])?\Z"
    r"|\bauthorization\W{1,4}(?:bearer|token|basic)\s\Z|\bbearer\s\Z",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\bauthorization\W{1,4}(?:bearer|token)\s\Z", re.IGNORECASE)
_HEX = re.compile(r"(?=\d*[a-f]|\d*[A-F])(?:[\da-f]{32,}|[\dA-F]{32,})", re.ASCII)
_FIRST = "AEGMNOdeghnprswx"  # what a key of those forms begins with
_OPENING = tuple("\"'=: \t>")  # what can stand before a value
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SHORTEST_VALUE, _LONGEST_VALUE = 20, 4096
_FEWEST_BITS = 3.0

_BEGIN = "-----BEGIN "
_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_BODY = re.compile(r"[A-Za-z0-9+/]{40}")
_LONGEST_PEM = 1 << 16


def find_keys(view: View) -> Iterator[Span]:
    """Keys and tokens."""
    yield from _find_pem(view.text)
    yield from _find_in_urls(view.text)
    yield from _find_signed(view.text)
    yield from _find_basic(view.text)
    for start, end in long_runs(view, _SHORTEST):
        # Of all that is long, few names hold a digit, and few begin as keys do.
        if (
            b"a0" in view.classes[start:end]
            or view.text[start - 1 : start] == "."
            or _HEAD.search(view.text, start, end)
        ):
            yield from _in_run(view.text, start, end)


def _in_run(text: str, start: int, end: int) -> Iterator[Span]:
    previous = text[start - 1 : start]
    whole = _after(text, start) if previous == "." else _named(text, start, end) if previous in _OPENING else None
    if whole:
        yield whole
        return
    for piece in _PIECE.finditer(text, start, end):
        found = _known(text, *piece.span()) if text[piece.start()] in _FIRST else None
        if found:
            yield found


def _known(text: str, start: int, end: int) -> Span | None:
    piece = text[start:end]
    if piece.startswith("eyJ") or piece[0] in "MNO":
        token = (_JWT if piece[0] == "e" else _DISCORD).match(text, start)
        return token.span() if token else None
    if piece.startswith("AA"):
        bot, token = _BOT.search(before(text, start, 12)), _TELEGRAM.match(text, start)
        return (start - len(bot[0]), token.end()) if bot and token and _drawn(token[0]) else None
    if (_KNOWN.fullmatch(piece) or _SK.fullmatch(piece)) and not _made_up(piece) and _drawn(piece):
        return start, end
    return None


def _drawn(piece: str) -> bool:
    """Whether it looks drawn by lot. Where no digit was drawn, a fifth at least are capitals and a fifth small letters:
    `glpat-your-access-token-here` and names of classes fail.
    """
    if any(map(str.isdigit, piece)) or piece.startswith("AKIA"):  # of capitals alone; ASIA begins words too
        return True
    capitals, small = sum(map(str.isupper, piece)), sum(map(str.islower, piece))
    return 5 * min(capitals, small) >= capitals + small


def _after(text: str, start: int) -> Span | None:
    for head, form in _AFTER.items():
        if text.endswith(head, 0, start):
            found = form.match(text, start)
            if found and not _made_up(found[0]):
                return start - len(head), found.end()
    return None


def _named(text: str, start: int, end: int) -> Span | None:
    value = text[start:end]
    if not _SHORTEST_VALUE <= len(value) <= _LONGEST_VALUE or text[end : end + 1] in (
        ".",
        "(",
        "[",
    ):  # an attribute or a call is no value
        return None
    name = before(text, start, 64)
    if not _NAMED.search(name) or not (_looks_random(value) or (_BEARER.search(name) and _is_hex(value))):
        return None
    while text[end : end + 1] == "=":  # Base64 is padded
        end += 1
    return start, end


def _is_hex(value: str) -> bool:
    return _HEX.fullmatch(value) is not None and not _made_up(value) and _entropy(value) >= _FEWEST_BITS


def _looks_random(value: str) -> bool:
    digits = sum(map(str.isdigit, value))
    if digits < 2 or digits == len(value) or _made_up(value) or _UUID.fullmatch(value):
        return False
    kinds = [2 if c.isdigit() else 1 if c.isupper() else 0 if c.islower() else 3 for c in value]
    changes = sum(a != b for a, b in itertools.pairwise(kinds))
    return 4 * changes >= len(value) and _entropy(value) >= _FEWEST_BITS


def _entropy(value: str) -> float:
    """Bits in a character, by how often each occurs (Shannon 1948)."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _made_up(value: str) -> bool:
    return "example" in value.lower() or len(set(value)) < 8


# A name is of what RFC 3986 lets stand there unescaped, less what parts a URL from text behind it: ' ( ) , ; & =. In
# a password stands more, as people write it; but digits with such a sign behind them are a port, and then comes text.
_IN_URL = re.compile(
    r"://((?a:([\w.~%!$*+-]{0,64}):(?!\d{1,5}[^\w.~%!$&*+=:^@-]))([^\s/@?#\"'`<>{}\[\]\\]{1,128}))@(?=[^\s@\"'`])"
)
_LONGEST_IN_URL = 200
_SHOWN = re.compile(
    r"[$%*].*|(?:my|your|the)?[-_]?(?:user|db|api)?[-_]?(?:name|pass|passw(?:or)?d|passphrase|pwd?|secret|token|key|auth)"
    r"|(.)\1*|.*example.*|your.*|\.\.\.",
    re.IGNORECASE,
)


def _find_in_urls(text: str) -> Iterator[Span]:
    """Name and password before the host of a URL (RFC 3986, 3.2.1)."""
    at = text.find("://")
    while at >= 0:
        found = _in_url(text, at)
        if found and found[3] != found[2] and not _SHOWN.fullmatch(found[3]):
            yield found.span(1)
        at = text.find("://", at + 1)


def _in_url(text: str, start: int) -> re.Match[str] | None:
    return _IN_URL.match(text, start) if text[start - 1 : start].isalnum() else None


def ends_password(text: str, at: int) -> bool:
    """Whether the @ there ends name and password of a URL, be it only what stands in place of a password."""
    start = text.rfind("://", max(0, at - _LONGEST_IN_URL), at)
    found = _in_url(text, start) if start >= 0 else None
    return found is not None and found.end(1) == at


def _find_signed(text: str) -> Iterator[Span]:
    """What signs a URL, and opens it until it expires."""
    for head, form in _SIGNED.items():
        at = text.find(head)
        while at >= 0:
            found = form.match(text, at + len(head))
            if found and not _made_up(found[0]):
                yield found.span()
            at = text.find(head, at + 1)


def _find_basic(text: str) -> Iterator[Span]:
    """Name and password in a header (RFC 7617): Base64 that holds a colon."""
    at = text.find("asic ")
    while at >= 0:
        start = at + len("asic ")
        found = _ENCODED.match(text, start) if _BASIC.search(before(text, start, 32)) else None
        if found and _holds_password(found[0]):
            yield found.span()
        at = text.find("asic ", start)


def _holds_password(encoded: str) -> bool:
    try:
        plain = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return False
    _, colon, password = plain.partition(":")
    return bool(colon and plain.isprintable() and password and not _SHOWN.fullmatch(password))


def _find_pem(text: str) -> Iterator[Span]:
    start = text.find(_BEGIN)
    while start >= 0:
        head = _PEM.match(text, start)
        end = _end_of_pem(text, head) if head else 0
        if end:
            yield start, end
        start = text.find(_BEGIN, max(end, start + 1))


def _end_of_pem(text: str, head: re.Match[str]) -> int:
    """Where a private key ends: after its END, or where the Base64 stops when it was cut off; 0: it is not there."""
    tail = head[0].replace("BEGIN", "END")
    found = text.find(tail, head.end(), head.end() + _LONGEST_PEM)
    end = found + len(tail) if found >= 0 else head.end() + _length_of_base64(text, head.end())
    return end if _BODY.search(text, head.end(), end) else 0


_BASE64 = re.compile(r"(?:\s{0,8}[A-Za-z0-9+/=]{16,})*")


def _length_of_base64(text: str, start: int) -> int:
    found = _BASE64.match(text, start, start + _LONGEST_PEM)
    return len(found[0]) if found else 0
