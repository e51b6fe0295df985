"""E-mail and internet addresses in a text.

    find_emails(view, keys)       name@host.tld
    find_ips(view, everything)    IPv4 and IPv6

E-mail. The part before the @ is made of letters (ASCII, Latin and the scripts of _LETTERS), digits and . _ % + -, with
an apostrophe between two letters too (RFC 5321) where it does not open a quotation that ends behind the address; the
host of labels in letters of any script (RFC 5890). The last label is a country's, one of the common generic ones, one
in another script, or xn--…: `x@self.weight` is matrix multiplication. Less common generic ones are words of programs as
well: they count where all the rest looks like an address (_looks_typed; pii_domains.py has the lists). Left alone are
hosts that belong to nobody (example.com, .org, .net; .example, .test, .invalid, .localhost: RFC 2606 and 6761),
`git@host`, which names a service, and, with `keys`, the end of a password in a URL: find_keys has said what it is.

The @ may be full-width, or written %40 (URLs) or &#64; (HTML). What makes an escape with the backslash before it (n, t,
r, u00e4) is no part of a name.

IPv4. Four numbers up to 255 without leading zeros, no part of a longer number or name, that can be reached from the
internet (the registry of IANA's special addresses is left alone: private, loopback, link-local, documentation,
multicast …), with the prefix that makes IPv6 of it (::ffff: or 64:ff9b::, RFC 4291 and 6052). Taken for a version or a
section number, and left alone: two single digits first (1.2.33.44; the public resolver 8.8.8.8 too), a last part of 0,
what follows a word such as `version`, `v` or `release`, or a sign such as `==`, and object identifiers that begin with
2.5.29.

IPv6. Written out or with `::`, in 2000::/3 less documentation (2001:db8::/32, 3fff::/20); neither `a::b` of C++ nor
a prefix that ends with `::`.

With `everything`, private, loopback and link-local addresses count too; documentation's never do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from tilth.data.stages.pii_domains import COMMON, GENERIC, OTHER_SCRIPTS
from tilth.data.stages.pii_keys import ends_password
from tilth.data.stages.pii_view import Span, View, before, is_word

# Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic, Georgian: blanks part their words.
# Their blocks hold punctuation too.
_SCRIPTS = (("À", "ɏ"), ("Ͱ", "Ͽ"), ("Ѐ", "ԯ"), ("Ա", "֏"), ("א", "ת"), ("؀", "ۿ"), ("ა", "ჿ"))
_LETTERS = "".join(c for first, last in _SCRIPTS for c in map(chr, range(ord(first), ord(last) + 1)) if c.isalnum())
_LOCAL = re.compile(rf"[\w{_LETTERS}.%+'-]{{1,64}}\Z", re.ASCII)
_AT = ("@", "＠", "%40", "&#64;", "&#x40;", "&#X40;")  # as URLs and HTML write it too
_ESCAPE = re.compile(r"%(?!2[Bb])[0-9A-Fa-f]{2}")
_LINE = re.compile(r"\A(?:[ntr]|u[0-9A-Fa-f]{4})[.%+-]*")  # behind a backslash, as JSON and programs write it
_QUOTE = re.compile(r"(?<![^\W\d_])'|'(?![^\W\d_])")  # an apostrophe that does not stand between two letters
_HOST = re.compile(
    r"(?:[^\W_](?:(?:[^\W_]|-){0,61}[^\W_])?\.){1,8}"
    rf"(xn--[A-Za-z0-9-]{{1,58}}[A-Za-z0-9]|[A-Za-z]{{2,18}}|(?:{'|'.join(OTHER_SCRIPTS)})(?!\w))"
    r"(?![A-Za-z0-9_@-]|\.[A-Za-z0-9])"
)
_NOBODY = re.compile(r"(?:.*\.)?(?:example\.(?:com|org|net)|example|test|invalid|localhost)", re.IGNORECASE)
_SUFFIXES = ("md", "py", "sh")  # Moldova, Paraguay, Saint Helena; and `patch@module.py`
_SERVICES = ("git", "hg", "svn")
_NO_HOSTS = ("self", "cls", "this", "np", "torch")


def find_emails(view: View, keys: bool = False) -> Iterator[Span]:
    """E-mail addresses, from their @ outwards; `keys`: passwords in URLs are found by find_keys."""
    text = view.text
    for sign in _AT:
        at = text.find(sign)
        while at >= 0:
            found = _around(text, at, sign)
            if found and not (keys and ends_password(text, at)):
                yield found
            at = text.find(sign, at + 1)


def _around(text: str, at: int, sign: str) -> Span | None:
    """The address whose @ stands there."""
    host = _HOST.match(text, at + len(sign))
    local = _LOCAL.search(text[max(0, at - 64) : at]) if host else None
    name = _name(local.group(), _closes(text, host.end())) if host and local else ""
    if sign == "%40" and host:  # in a URL, where other signs are written so as well; printf("%40s.") is none
        name = _ESCAPE.split(name)[-1].lstrip(".%+-") if host[0].index(".") > 1 else ""
    first = at - len(name)
    if text[first - 1 : first] == "\\":
        name = _LINE.sub("", name)
    if not host or not name or not _is_email(name, host):
        return None
    return (at - len(name), host.end()) if _has_domain(host) or _looks_typed(text, first, name, host) else None


def _name(local: str, quoted: bool) -> str:
    """The part before the @, without what only stands before it; `quoted`: an apostrophe opens the quotation there."""
    rest = local.partition("'")[2] if quoted and "'" in local else local
    return _QUOTE.split(rest)[-1].lstrip(".%+-")


def _closes(text: str, end: int) -> bool:
    """Whether a quotation ends behind an address: `f'a@b.com'`, but not a@b.com's."""
    return text[end : end + 1] == "'" and not is_word(text, end + 1)


def _is_email(name: str, host: re.Match[str]) -> bool:
    if name[-1] == "." or ".." in name or name in _SERVICES:
        return False
    is_file = host[1].lower() in _SUFFIXES and host[0].count(".") == 1
    is_attribute = host[0].startswith(("self.", "cls.")) and host[1] != "com"  # x@self.top; self.com is a magazine's
    is_version = re.fullmatch(r"\d+\.(?:\d+\.)+\D+", host[0]) is not None  # pkg@1.2.3.com; 163.com is a provider's
    return not is_file and not is_attribute and not is_version and not _NOBODY.fullmatch(host[0])


def _has_domain(host: re.Match[str]) -> bool:
    last = host[1].lower()
    return last in COMMON or last.startswith("xn--") or not last.isascii()


def _looks_typed(text: str, start: int, name: str, host: re.Match[str]) -> bool:
    """Whether somebody wrote an address rather than a program: whole words, that nothing calls, assigns or escapes."""
    end, labels = host.end(), host[0].split(".")
    words = min(len(name), len(labels[-2])) >= 3 and not labels[-2].isdigit() and labels[0] not in _NO_HOSTS
    last = labels[-1].lower() if labels[-1].islower() or labels[-1].isupper() else ""
    alone = text[start - 1 : start] not in tuple("\\)]/$") if start else True
    return last in GENERIC and words and alone and not _GOES_ON.match(text, end)


_GOES_ON = re.compile(r"[(\[{]|\s?=|:\S")


# Fixed here, not asked of `ipaddress`, whose own list changed between patches of Python.
_NOWHERE = tuple(map(IPv4Network, ("0.0.0.0/8", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/3")))
_DOCUMENTATION = tuple(map(IPv4Network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")))
_PRIVATE = tuple(
    map(
        IPv4Network,
        ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")
_DOCUMENTATION_6 = (IPv6Network("2001:db8::/32"), IPv6Network("3fff::/20"))
_PRIVATE_6 = (IPv6Network("fc00::/7"), IPv6Network("fe80::/10"), IPv6Network("::1/128"))

_DOTTED = re.compile(rb"0\.0{1,3}\.0{1,3}\.0")
_PART = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"{_PART}(?:\.{_PART}){{3}}(?!\w|\.\d|\.in-addr|-[A-Za-z])", re.ASCII)
_LIKE_A_VERSION = re.compile(r"\d\.\d\.|.*\.0\Z|2\.5\.29\.", re.ASCII)
_MAPPED = re.compile(r"(?<![\w:])(?:(?:::|(?:0{1,4}:){5})ffff:|64:ff9b::)\Z", re.IGNORECASE)
_VERSION = re.compile(
    r"(?:\b(?:v|ver|versions?|releases?|revision|rev|build|firmware|sections?|sect?|chapter|clause|oid|rfc)|[=<>~^!]=|§)"
    r"[\s:.,(\"'=]*\Z",
    re.IGNORECASE,
)
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_HEX_DIGITS = tuple("0123456789abcdefABCDEF")
_HEX_AND_COLONS = "0123456789abcdefABCDEF:"


def find_ips(view: View, everything: bool = False) -> Iterator[Span]:
    """IPv4 and IPv6 addresses; `everything` adds those of private networks."""
    yield from _find_ipv4(view, everything)
    yield from _find_ipv6(view.text, everything)


def _find_ipv4(view: View, everything: bool) -> Iterator[Span]:
    text, classes = view.text, view.classes
    for dotted in _DOTTED.finditer(classes):
        start = dotted.start()
        while start and classes[start - 1 : start] == b"0":
            start -= 1
        found = _IPV4.match(text, start)
        if found and _stands_alone(text, start) and _is_address(found[0], everything):
            mapped = _MAPPED.search(before(text, start, 40))
            yield start - len(mapped[0] if mapped else ""), found.end()


def _stands_alone(text: str, start: int) -> bool:
    """Neither the rest of a longer number or name, nor a version: `package-1.2.3.4`, `version 1.2.3.14`."""
    previous = text[start - 1 : start]
    if is_word(text, start - 1) or previous == "." or (previous == "-" and is_word(text, start - 2)):
        return False
    return not _VERSION.search(before(text, start, 24))


def _is_address(found: str, everything: bool) -> bool:
    if _LIKE_A_VERSION.match(found):
        return False
    address = IPv4Address(found)
    left_alone = _NOWHERE + _DOCUMENTATION + (() if everything else _PRIVATE)
    return not any(address in network for network in left_alone)


def _find_ipv6(text: str, everything: bool) -> Iterator[Span]:
    end = 0
    for colons in _COLONS.finditer(text):
        previous = text[colons.start() - 1 : colons.start()]
        if colons.start() < end or not (everything or previous in _HEX_DIGITS):  # `::` of C++ and Rust
            continue
        near = max(0, colons.start() - 40)
        head = text[near : colons.start()]
        start = near + len(head.rstrip(_HEX_AND_COLONS))
        tail = text[colons.start() : colons.start() + 40]
        end = colons.start() + len(tail) - len(tail.lstrip(_HEX_AND_COLONS))
        if text[end - 1] == ":" and text[end - 2] != ":":  # punctuation, as in `from 2a00::1: refused`
            end -= 1
        if not (is_word(text, start - 1) or is_word(text, end)) and _is_address_6(text[start:end], everything):
            yield start, end


def _is_address_6(found: str, everything: bool) -> bool:
    try:
        address = IPv6Address(found)
    except AddressValueError:
        return False
    if found.endswith("::") or any(address in network for network in _DOCUMENTATION_6):
        return False
    return address in _GLOBAL_6 or (everything and any(address in network for network in _PRIVATE_6))
