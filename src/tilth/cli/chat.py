"""What `tilth chat` shows: answers on standard output, all else on standard error; piped as well as on a terminal.

A line is a message, or a command that begins with `/`. Ctrl-C stops an answer; the end of the input ends the chat.
"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.cli.faults import fault_text
from tilth.cli.tables import plural, printable
from tilth.core.errors import TilthError

if TYPE_CHECKING:
    from tilth.jobs.talk import Talk

HELP = """/reset         begin a new conversation
/system TEXT   begin a new one with this system prompt; without TEXT: with none
/save FILE     write all conversations of this chat as JSON Lines of messages, which a recipe can read
/help          this list
/exit, /quit   end the chat; so does the end of the input (Ctrl-D)
//TEXT         a message that begins with /
Ctrl-C stops an answer."""


def run_chat(talk: Talk) -> None:
    """Answers line by line, until /exit, /quit or the end of the input."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        _tell(f"talking to {printable(str(talk.language_model.path))}; /help lists the commands")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is no text is seen as such, and can be saved
    stop = _Stop(terminal)
    with stop.listening():
        for line in _lines(terminal, stop):
            text = line.strip()
            if text in ("/exit", "/quit"):
                return
            with _faults_are_told():
                if text.startswith("/") and not text.startswith("//"):
                    _command(talk, text)
                elif text:
                    _answer(talk, text.removeprefix("/") if text.startswith("//") else text, stop)


def _lines(terminal: bool, stop: _Stop) -> Iterator[str]:
    """The lines of standard input; at a terminal with a prompt, and with editing where Python has readline."""
    if terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (input() uses it when it is there)
    while True:
        try:
            with stop.waiting():
                line = input("> ") + "\n" if terminal else sys.stdin.readline()
        except KeyboardInterrupt:
            _tell("\n/exit, or Ctrl-D, ends the chat")
            continue
        except EOFError:
            print()
            return
        if not line:
            return
        yield line


@contextlib.contextmanager
def _faults_are_told() -> Iterator[None]:
    """What a message or command did wrong does not end the chat."""
    try:
        yield
    except TilthError as error:
        _tell(fault_text(error, error.remedy))


def _answer(talk: Talk, text: str, stop: _Stop) -> None:
    stop.asked = False
    asked = talk.ask(text)
    if asked.forgotten:
        turns = plural(asked.forgotten, "turn")
        _tell(f"(the context is full: the oldest {turns} of this conversation left out, {talk.first} in all)")
    said = False
    for piece in talk.answer(asked, lambda: stop.asked):
        print(printable(piece, lines=True), end="", flush=True)
        said = True
    if said:
        print(flush=True)
    if stop.asked:
        _tell("(stopped)")
    elif not said:
        _tell("(no answer; the message is not kept)")
    elif why := talk.cut_short(asked):
        _tell(f"(cut off: {why})")


def _command(talk: Talk, line: str) -> None:
    name, _, rest = line[1:].partition(" ")
    rest = rest.strip()
    if name == "reset" and not rest:
        talk.begin(talk.system)
        _tell("(a new conversation)")
    elif name == "system":
        talk.begin(rest or None)
        _tell("(a new conversation, " + ("with this system prompt)" if rest else "without a system prompt)"))
    elif name == "save" and rest:
        path = Path(rest)
        _tell(f"({plural(talk.save(path), 'conversation')} in {printable(rest)})")
    elif name == "save":
        _tell("name a file: /save FILE")
    elif name == "help" and not rest:
        _tell(HELP)
    else:
        _tell(f"{printable(line)} is no command; these are:\n{HELP}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Stop:
    """Ctrl-C: it asks the answer that comes to stop; while a line is waited for, it is Python's own interrupt at a
    terminal, else whatever it was before.
    """

    def __init__(self, terminal: bool) -> None:
        self.asked, self._terminal, self._waiting = False, terminal, False
        self._before: Any = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within, Ctrl-C comes here."""
        self._before = signal.signal(signal.SIGINT, self._come)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, self._before)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Within, a line is waited for."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def _come(self, number: int, frame: Any) -> None:
        if not self._waiting:
            self.asked = True
        elif self._terminal:
            raise KeyboardInterrupt
        else:
            self._before(number, frame)
