"""Connections of the standard library's opener, with a clock over all that comes before a body.

    build_opener(*CLOCKED)      handlers for `urllib.request.build_opener`

Its own timeout is one for each wait: a server that sends the head of its answer, or its half of a TLS handshake, byte
by byte would hold a download for ever. The clock shuts the socket through a second handle of it, which TLS leaves
alone.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.request
from typing import Any

HEAD_SECONDS = 60.0


class _Clock:
    """Shuts a socket, unless it is stopped before its time is up."""

    def __init__(self, watched: socket.socket) -> None:
        self._twin, self._lock, self._stopped = watched.dup(), threading.Lock(), False
        self.late = False
        self._timer = threading.Timer(HEAD_SECONDS, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        with self._lock:
            if not self._stopped:
                self.late = True
                with contextlib.suppress(OSError):
                    self._twin.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
        self._timer.cancel()
        self._twin.close()


class _Clocked(http.client.HTTPConnection):
    _clock: _Clock | None = None

    def _connected(self, *arguments: Any) -> socket.socket:
        connected = socket.create_connection(*arguments)
        self._clock = _Clock(connected)
        return connected

    def connect(self) -> None:
        # Between the socket and TLS there is no other place to stand. Not for longer: it would hold itself.
        self._create_connection, usual = self._connected, self._create_connection
        try:
            with self._in_time():
                super().connect()
        finally:
            self._create_connection = usual

    def getresponse(self) -> http.client.HTTPResponse:
        with self._in_time():
            response = super().getresponse()
            self._stop()
            if self._late:  # headers that were cut off look like whole ones
                response.close()
        return response

    @contextlib.contextmanager
    def _in_time(self) -> Any:
        """TimeoutError where the clock rang, whatever that looked like."""
        try:
            yield
        except (OSError, http.client.HTTPException):
            self._tell()
            raise
        self._tell()

    @property
    def _late(self) -> bool:
        return self._clock is not None and self._clock.late

    def _tell(self) -> None:
        if self._late:
            raise TimeoutError(f"the head of its answer is not whole after {HEAD_SECONDS:g} seconds")

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.stop()

    def close(self) -> None:
        self._stop()
        super().close()


class _ClockedTls(_Clocked, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        return super().do_open(_Clocked, req, **options)


class _Https(urllib.request.HTTPSHandler):
    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        return super().do_open(_ClockedTls, req, **options)


CLOCKED = (_Http, _Https)
