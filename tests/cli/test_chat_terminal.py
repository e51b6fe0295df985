"""`tilth chat` as people meet it: on a terminal of its own (a pseudo-terminal), typed at key by key."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.jobs.chatting import base_folder
from tests.jobs.helpers import command, environment
from tilth.tokenizer.chat_files import ChatFormat, write_chat
from tilth.tokenizer.templates import built_in

CTRL_C, CTRL_D, BACKSPACE = "\x03", "\x04", "\x7f"
PROMPT = "> "
_ESCAPE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")
_TO_TERMINAL = 'exec "$@" < "$0" > "$0" 2> "$0"'
"""Who opens a terminal as the leader of a session is controlled by it: Ctrl-C on it then reaches the process."""


class Terminal:
    """What is typed at a process, and what is seen of it."""

    def __init__(self, keys: int, process: subprocess.Popen[bytes]) -> None:
        self.process, self._keys, self._unread = process, keys, ""

    def type(self, text: str) -> None:
        """Keys, one after another."""
        os.write(self._keys, text.encode())

    def interrupt(self, pattern: str) -> None:
        """Ctrl-C, and again where nothing comes of it: Python's readline does not see a signal that comes in the moment
        between its prompt and its waiting for a key (nor do people press it but once).
        """
        for _ in range(6):
            self.type(CTRL_C)
            with suppress(AssertionError):
                self.until(pattern, seconds=5)
                return
        raise AssertionError(f"no {pattern!r} after Ctrl-C")

    def until(self, pattern: str, seconds: float = 60) -> str:
        """What is seen up to the first match of a pattern, and the match; the rest is left for the next call."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self._unread)):
            readable, _, _ = select.select([self._keys], [], [], max(0.0, end - time.monotonic()))
            assert readable, f"no {pattern!r} in: {self._unread!r}"
            self._unread = _ESCAPE.sub("", self._unread + os.read(self._keys, 4096).decode("utf-8", "replace"))
        seen, self._unread = self._unread[: found.end()], self._unread[found.end() :]
        return seen


@contextmanager
def terminal(folder: Path, *words: str) -> Iterator[Terminal]:
    """`tilth WORDS…` on a terminal."""
    keys, screen = pty.openpty()
    process = subprocess.Popen(
        ["sh", "-c", _TO_TERMINAL, os.ttyname(screen), *command(*words)],
        cwd=folder, env=environment(TERM="xterm", COLUMNS="100"), start_new_session=True,
    )  # fmt: skip
    try:
        yield Terminal(keys, process)
    finally:
        process.kill()
        process.wait()
        os.close(keys)
        os.close(screen)


@pytest.mark.slow
def test_a_chat_on_a_terminal(tmp_path: Path) -> None:
    """The model goes on for 8,000 tokens: what is seen of an answer before Ctrl-C was streamed."""
    folder = base_folder(tmp_path / "model", n_positions=8192, n_embd=256, n_layer=6)
    write_chat(folder, ChatFormat(built_in("chatml")), [])
    with terminal(tmp_path, "chat", "model", "--max-new-tokens", "8000", "--temperature", "0") as chat:
        assert "talking to model; /help lists the commands" in chat.until(PROMPT)
        for typed in (f"Whx{BACKSPACE}o?\n", "/system Be brief.\n", "And who?\n", "/reset\n"):
            chat.type(typed)
            if typed.startswith("/"):
                chat.until(r"\(a new conversation(, with this system prompt)?\)")
            else:
                chat.until(r"\?\r\n")  # the terminal's echo of what was typed
                chat.until(r"\S")
                chat.type(CTRL_C)
                chat.until(r"\n\(stopped\)")
            chat.until(PROMPT)
        chat.type("/save talk.jsonl\n")
        chat.until(r"\(2 conversations in talk\.jsonl\)")
        chat.until(PROMPT)
        chat.interrupt("/exit, or Ctrl-D, ends the chat")
        chat.until(PROMPT)
        chat.type(CTRL_D)
        assert chat.process.wait(60) == 0
    told = [json.loads(line)["messages"] for line in (tmp_path / "talk.jsonl").read_text("utf-8").splitlines()]
    said = [[(message["role"], message["content"]) for message in messages] for messages in told]
    assert [messages[:-1] for messages in said] == [
        [("user", "Who?")],
        [("system", "Be brief."), ("user", "And who?")],
    ]
    assert all(role == "assistant" and answer for role, answer in (messages[-1] for messages in said))
