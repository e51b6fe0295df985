"""An endpoint on loopback that speaks chat completions, and does what real ones do: refuse, stall, babble, drop."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Seen(NamedTuple):
    at: float
    body: dict[str, Any]
    login: str | None

    @property
    def asked(self) -> str:
        return str(self.body["messages"][-1]["content"])


class ChatServer(ThreadingHTTPServer):
    """`write` gives an answer's text; each entry of `plan` says what happens to one request, then all goes well."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.write: Callable[[dict[str, Any]], str] = lambda body: f"About: {body['messages'][-1]['content']}"
        self.plan: list[str] = []
        self.finish, self.usage, self.delay = "stop", (10, 20), 0.0
        self.key: str | None = None
        self.seen: list[Seen] = []
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # broken connections are what some tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.seen.append(Seen(time.monotonic(), body, self.headers.get("Authorization")))
            what = server.plan.pop(0) if server.plan else "well"
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            self._serve(what, body)
        finally:
            with server.lock:
                server.under_way -= 1

    def _serve(self, what: str, body: dict[str, Any]) -> None:
        server = self.server
        time.sleep(server.delay)
        word, _, rest = what.partition(" ")
        if self.path != "/v1/chat/completions":
            self._answer(404, b"no such path", {})
        elif server.key is not None and self.headers.get("Authorization") != f"Bearer {server.key}":
            self._answer(401, f"wrong key {self.headers.get('Authorization')}".encode(), {})
        elif word.isdigit():
            self._answer(int(word), rest.encode() or b"{}", {})
        elif word == "retry":  # retry STATUS AFTER
            status, after = rest.split(" ", 1)
            self._answer(int(status), b'{"error": {"message": "slow down"}}', {"Retry-After": after})
        elif word == "moved":
            self._answer(302, b"", {"Location": rest})
        elif word == "garbage":
            self._answer(200, rest.encode() or b"<html>Bad gateway</html>", {})
        elif word == "large":
            self._answer(200, b" " * int(rest), {})
        elif word == "drop":
            self.close_connection = True
            self.connection.close()
        elif word == "trickle":
            self._trickle(self._completion(body))
        elif word == "half":
            data = self._completion(body)
            self._answer(200, data[: len(data) // 2], {"Content-Length": str(len(data))})
            self.close_connection = True
        else:
            self._answer(200, self._completion(body), {})

    def _completion(self, body: dict[str, Any]) -> bytes:
        message = {"role": "assistant", "content": self.server.write(body)}
        value: dict[str, Any] = {"object": "chat.completion", "model": f"{body['model']}-2026"}
        value["choices"] = [{"index": 0, "message": message, "finish_reason": self.server.finish}]
        if self.server.usage is not None:
            sent, received = self.server.usage
            value["usage"] = {"prompt_tokens": sent, "completion_tokens": received}
        return json.dumps(value).encode()

    def _trickle(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for byte in data:
            self.wfile.write(bytes([byte]))
            time.sleep(0.05)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running_endpoint() -> Iterator[ChatServer]:
    with ChatServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
