"""One spelling for each web address.

    normalize("HTTP://Host:80/a/../b c#top") -> "http://host/b%20c"

By RFC 3986, section 6.2.2, as far as it is safe: case of scheme and host, the default port, dot segments, and escapes
for what may not stand in an address. Queries stay as they are: their order can matter.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

LONGEST_URL = 2000
_FORBIDDEN = re.compile(rb"[^!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_PORTS = {"http": 80, "https": 443}


def normalize(url: str, base: str = "", encoding: str = "utf-8") -> str | None:
    """The one spelling of `url` (relative to `base`), or None when it is no http(s) address without a password.

    Args:
        encoding: of the page that it stands on, in which its query is asked (URL standard, "query state").
    """
    try:
        url = re.sub(r"[\t\r\n]", "", url.strip(" \t\r\n\f\0"))
        parts = urlsplit(urljoin(base, url) if base else url)
        port = parts.port
        host = _host(parts.hostname or "")
    except ValueError:  # UnicodeError is one
        return None
    if parts.scheme not in _PORTS or not host or parts.username is not None or parts.password is not None:
        return None
    if port is not None and port != _PORTS[parts.scheme]:
        host = f"{host}:{port}"
    return urlunsplit(
        (parts.scheme, host, _escaped(_without_dots(parts.path)), _escaped(_in(encoding, parts.query)), "")
    )


def _host(host: str) -> str:
    if ":" in host:
        return f"[{host}]"
    host = host.encode("idna").decode().lower().rstrip(".")
    return host if re.fullmatch(r"[a-z0-9._-]+", host) else ""


def _without_dots(path: str) -> str:
    """RFC 3986, section 5.2.4."""
    kept: list[str] = []
    segments = path.split("/")[1:] or [""]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _in(encoding: str, query: str) -> str:
    if encoding == "utf-8" or query.isascii():
        return query
    # What the encoding lacks is asked as a browser's form would: `&#8364;`, escaped.
    return _BEYOND_ASCII.sub(lambda found: quote(found[0], "", encoding, "xmlcharrefreplace"), query)


def _escaped(text: str) -> str:
    raw = text.encode("utf-8", "surrogatepass")
    return _FORBIDDEN.sub(lambda match: b"%%%02X" % match[0][0], raw).decode()


def host_of(url: str) -> str:
    """The host of a normalized address, without its port."""
    return urlsplit(url).hostname or ""


def place_of(url: str) -> str:
    """The host and port of a normalized address: one program that answers."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}:{parts.port or _PORTS[parts.scheme]}"


def origin_of(url: str) -> str:
    """Scheme, host and port of a normalized address: what a robots.txt is for."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
