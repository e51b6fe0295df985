"""Ctrl-C and SIGTERM as a flag that the loop reads between two steps, or two batches of an evaluation; a second Ctrl-C
ends the run at once.

Only a person can mean "at once": whoever sends SIGTERM (a scheduler, torchrun, systemd) may well send it again while a
long step is being finished, and the run must be saved all the same.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalFlag:
    """While open, the first SIGINT or SIGTERM sets `received` (its name) instead of ending the process; a second
    SIGINT raises KeyboardInterrupt wherever the loop is. A repeated SIGTERM changes nothing.

    Outside the main thread (a notebook's worker, a server) Python allows no handlers: the flag then stays unset.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalFlag:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
