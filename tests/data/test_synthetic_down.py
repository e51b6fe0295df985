"""An endpoint that is down: told while it is asked, given up soon where it never answered, and only there."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.data.chat_server import ChatServer
from tests.data.test_sources_synthetic import read, server, texts
from tilth.core.errors import DataError
from tilth.core.progress import Board
from tilth.data.sources.synthetic import asking

__all__ = ["server"]  # the fixture
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("down", [True, False])
def test_an_endpoint_that_never_answered_is_told_and_given_up_soon(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, down: bool
) -> None:
    monkeypatch.setattr(asking, "BACKOFF", 0.1)
    monkeypatch.setattr(asking, "FIRST_PATIENCE", 0.8)
    server.plan = ["500 overloaded"] * 10_000
    if down:
        server.server_close()
    why = "cannot connect" if down else "it answers 500: overloaded"
    board, began = Board(), time.monotonic()
    with (
        board.watching(tmp_path),
        pytest.raises(DataError, match=rf"answers nothing: \d+ attempts in 1 s failed, at last: {why}"),
    ):
        read(server, tmp_path, requests=1000)
    assert time.monotonic() - began < 3, "the others' next attempts are not waited for"
    [meter] = board.meters
    assert re.fullmatch(rf"\d+ attempts in a row failed, at last: {why}.*", meter.trouble)
    assert meter.done == 0


def test_an_endpoint_that_answered_once_has_all_the_patience(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "FIRST_PATIENCE", 0.0)
    server.plan = ["well", *["500"] * 6]
    assert len(texts(read(server, tmp_path, concurrency=1))) == 6
    server.plan = ["500"] * 6  # in another run, too
    assert len(texts(read(server, tmp_path, concurrency=1, requests=7))) == 7
