"""Where displays draw: above a live drawing on a terminal, line after line anywhere else; standard error by default.

A display never ends a run: when its terminal is gone, or nobody reads the pipe any more, it is silent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

REFRESH_PER_SECOND = 4
"""Drawing takes up to a millisecond of the processor that trains."""
UNBROKEN = 100_000
"""Columns that no line of ours needs."""
Clock = Callable[[], float]


class ErrorConsole(Console):
    """stderr. rich would leave by SystemExit when the reader of a pipe is gone; a run outlives whoever watches it."""

    def __init__(self) -> None:
        # FORCE_COLOR makes rich take a file for a terminal: colours may go into a log, cursor movements must not.
        super().__init__(stderr=True, force_interactive=sys.stderr.isatty())

    def on_broken_pipe(self) -> None:
        self.quiet = True


class OutConsole(Console):
    """stdout. Whoever reads a pipe may leave there too: `output.py: results` knows what that means. Where it is no
    terminal nothing is broken into lines, unless COLUMNS asks for it: files and pipes have no width.
    """

    def __init__(self) -> None:
        super().__init__(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else UNBROKEN)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def show(renderable: RenderableType) -> None:
    """Prints to standard output what rich can draw; within `results`."""
    OutConsole().print(renderable)


def say(text: str) -> None:
    """Prints sentences to standard output: on a terminal broken between words, elsewhere each on its line; within
    `results`.
    """
    console = OutConsole()
    console.print(Text(text), soft_wrap=not console.is_terminal)


class Screen:
    """Where lines go: above a live drawing, or one after the other.

    Args:
        plain: lines only; None: unless the console is a terminal that can move its cursor and nobody's CI log.
    """

    def __init__(self, drawing: RenderableType, console: Console | None, plain: bool | None) -> None:
        self.console = console or ErrorConsole()
        if plain is None:
            plain = not self.console.is_interactive or bool(os.environ.get("CI"))
        self.plain = plain
        # Where stdout is a file, what is printed there must not end on the terminal.
        redirect, rate = sys.stdout.isatty(), REFRESH_PER_SECOND
        live = Live(drawing, console=self.console, refresh_per_second=rate, redirect_stdout=redirect)
        self._live = None if plain else live

    def start(self) -> None:
        if self._live:
            self._live.start(refresh=True)

    def stop(self, *, leave: bool = True) -> None:
        """Ends the drawing: its last state is left where it is, or taken away."""
        if self._live:
            self._live.transient = not leave
            with suppress(OSError):
                self._live.stop()

    def say(self, text: Text | str) -> None:
        """Puts a line (a block of lines, on a terminal) into the scrollback; a plain one is never broken or cut."""
        try:
            self.console.print(Text(text) if isinstance(text, str) else text, soft_wrap=self.plain)
        except OSError:  # the terminal is gone
            self.console.quiet = True
