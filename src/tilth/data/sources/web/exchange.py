"""One request and its answer, bounded in bytes and in time, to public addresses only.

    exchange(url, headers, limits) -> Answer      or a Fault with the rule that says why not

The standard library's HTTP client, with a connection of our own: the host's name is resolved here, every address it has
is looked at, and the socket goes to one of those (a second lookup could give another answer). Redirects are not
followed: each is an address like any other, for the caller to judge. No proxy is used, for it would resolve the name.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tilth.data.sources.web.http_message import header

_PIECE = 1 << 16
_MOST_BEFORE = 20  # answers ahead of the answer
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Fault(Exception):  # noqa: N818 - an answer of the network, not a fault of tilth or of the user
    """Why there is no answer: a rule of the stage `fetch`, its value and its detail.

    Attributes:
        again: whether another attempt may go better.
    """

    def __init__(self, rule: str, value: str = "", detail: str = "", *, again: bool = False) -> None:
        super().__init__(rule, value, detail)
        self.rule, self.value, self.detail, self.again = rule, value, detail, again


@dataclass(frozen=True, slots=True)
class Limits:
    """What one exchange may take.

    Attributes:
        timeout: seconds without a byte.
        deadline: seconds in all, from the connection to the last byte.
        max_bytes: of the body, as it comes.
        cut: a longer body is cut there; otherwise it is a Fault (`too_large`).
    """

    timeout: float
    deadline: float
    max_bytes: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said, and the request that it answered; `cut` when the body was longer."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    request: bytes
    address: str
    cut: bool = False

    def header(self, name: str) -> str:
        """The first header of that name (in lower case), or nothing."""
        return header(self.headers, name)


Wanted = Callable[[int, tuple[tuple[str, str], ...]], Fault | None]
"""Looks at status and headers before the body is read; a Fault ends the exchange there."""


def exchange(
    url: str,
    headers: Mapping[str, str],
    limits: Limits,
    *,
    allow_private: bool = False,
    wanted: Wanted = lambda status, headers: None,
) -> Answer:
    """Asks for `url` (normalized) with GET.

    Raises:
        Fault: `unreachable`, `timed_out`, `private_address`, `too_large`, `broken_off`, `bad_response` (an answer that
            is none of HTTP, or whose head is too large), or what `wanted` gives.
    """
    parts = urlsplit(url)
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    sent = {"Host": parts.netloc, **headers, "Connection": "close"}
    request = f"GET {target} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in sent.items()) + "\r\n"
    connection = _Connection(parts.hostname or "", parts.port, parts.scheme, limits, allow_private)
    with connection, _network_errors(connection):
        connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
        for key, value in sent.items():
            connection.putheader(key, value)
        connection.endheaders()
        response = connection.getresponse()
        connection.heard = True
        connection.check_clock()
        with contextlib.closing(response):
            found = tuple((key, " ".join(value.split())) for key, value in response.getheaders())
            if fault := wanted(response.status, found):
                raise fault
            body, cut = _body(response, limits)
            connection.check_clock()
    return Answer(response.status, response.reason, found, body, request.encode(), connection.address, cut)


def _body(response: http.client.HTTPResponse, limits: Limits) -> tuple[bytes, bool]:
    announced = response.length
    if announced is not None and announced > limits.max_bytes and not limits.cut:
        raise _too_large(f"{announced} bytes announced", limits)
    pieces, size = [], 0
    while size <= limits.max_bytes and (piece := response.read1(_PIECE)):
        pieces.append(piece)
        size += len(piece)
    if size > limits.max_bytes:
        if not limits.cut:
            raise _too_large(f"{size} bytes and no end", limits)
        return b"".join(pieces)[: limits.max_bytes], True
    if announced is not None and size < announced:
        raise Fault("broken_off", "", f"the connection broke off after {size} of {announced} bytes", again=True)
    return b"".join(pieces), False


def _too_large(found: str, limits: Limits) -> Fault:
    return Fault("too_large", str(limits.max_bytes), f"{found}, more than {limits.max_bytes}")


class _Lines(io.BufferedReader):
    """What a server sends; `ended` when a line of it had no end."""

    ended = False

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        self.ended = self.ended or (not line.endswith(b"\n") and len(line) != size)
        return line


class _Response(http.client.HTTPResponse):
    """An answer whose head must be whole: for the standard library it may end before its blank line. What is sent ahead
    of it (103 Early Hints) is passed over, of which the standard library knows 100 Continue alone.
    """

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = self._lines = _Lines(self.fp.detach())

    def begin(self) -> None:
        try:
            super().begin()
            for _ in range(_MOST_BEFORE):
                if not 102 <= self.status < 200 or self._lines.ended:
                    break
                self.headers = None  # type: ignore[assignment]  # else it has begun, for the standard library
                super().begin()
        except http.client.BadStatusLine as error:
            if not self._lines.ended or isinstance(error, http.client.RemoteDisconnected):
                raise
        if self._lines.ended:
            raise Fault("broken_off", "", "the connection broke off within the head of the answer", again=True)


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was looked at, with a clock that closes it."""

    response_class = _Response

    def __init__(self, host: str, port: int | None, scheme: str, limits: Limits, allow_private: bool) -> None:
        super().__init__(host, port or (443 if scheme == "https" else 80), timeout=limits.timeout)
        self._scheme, self._limits, self._allow_private = scheme, limits, allow_private
        self._clock = threading.Timer(limits.deadline, self._ring)
        self._clock.daemon = True
        self._late = False
        # http.client lets go of its socket when the head of a last response is read; the clock must still reach it.
        self._socket: socket.socket | None = None
        self.address = ""
        self.heard = False  # the head of an answer has come

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.cancel()
        self.close()

    def connect(self) -> None:
        addresses = _resolve(self.host, self.port, self._allow_private)
        self._clock.start()
        self.sock = self._socket = self._first_that_answers(addresses)
        if self._scheme == "https":
            context = ssl.create_default_context()
            tls = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock = self._socket = tls
            tls.do_handshake()
        self.check_clock()

    def _first_that_answers(self, addresses: list[str]) -> socket.socket:
        for number, address in enumerate(addresses, 1):
            try:
                connected = socket.create_connection((address, self.port), self._limits.timeout)
            except OSError:
                if number == len(addresses):
                    raise
                continue
            self.address = address
            return connected
        raise AssertionError("a name that was resolved has an address")

    def _ring(self) -> None:
        self._late = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # wakes the other thread, also within TLS

    def check_clock(self) -> None:
        """A body without a length ends like any other when the clock closes the connection: it is told here."""
        if self._late:
            raise Fault("timed_out", f"{self._limits.deadline:g}", f"not whole after {self._limits.deadline:g} seconds")


def _resolve(host: str, port: int, allow_private: bool) -> list[str]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Fault("unreachable", "", f"the name {host} does not resolve: {error}", again=True) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    private = [address for address in addresses if not is_public(address)]
    if private and not allow_private:
        raise Fault("private_address", private[0], f"{host}:{port} is {private[0]}, which is no public address")
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, an IPv4 address inside it included."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        if found in _NAT64:
            inner.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
        if any(one is not None and not is_public(str(one)) for one in inner):
            return False
        if found.ipv4_mapped is not None:
            return True
    return found.is_global and not found.is_multicast


@contextlib.contextmanager
def _network_errors(connection: _Connection) -> Iterator[None]:
    try:
        yield
    except Fault as fault:
        if fault.again:  # the clock's closing of the connection looks like a body that broke off
            connection.check_clock()
        raise
    except ssl.SSLCertVerificationError as error:
        raise Fault("unreachable", "", f"its certificate is not trusted: {error.verify_message}") from None
    except (OSError, http.client.HTTPException) as error:
        connection.check_clock()
        if isinstance(error, TimeoutError):
            raise Fault("timed_out", "", f"no byte for {connection.timeout:g} seconds", again=True) from None
        reason = str(error)[:200] or type(error).__name__
        answered = not isinstance(error, OSError)  # if not in HTTP, or with more headers than anyone needs
        rule = "broken_off" if connection.heard else "bad_response" if answered else "unreachable"
        raise Fault(rule, "", reason, again=isinstance(error, (OSError, http.client.IncompleteRead))) from None


def wait_until(moment: float) -> None:
    """Sleeps until `time.monotonic()` reaches `moment`."""
    while (left := moment - time.monotonic()) > 0:
        time.sleep(left)
