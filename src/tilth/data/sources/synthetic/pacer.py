"""How many requests, or tokens, a minute: `Pacer`."""

from __future__ import annotations

import asyncio
from asyncio import sleep
from collections import deque
from collections.abc import Callable


class Pacer:
    """Lets at most `limit` through in any span of `seconds`; who comes later waits. Without a limit nobody does."""

    def __init__(self, limit: int | None, clock: Callable[[], float], seconds: float = 60.0) -> None:
        self._limit, self._clock, self._seconds = limit, clock, seconds
        self._taken: deque[tuple[float, int]] = deque()
        self._sum = 0
        self._lock = asyncio.Lock()

    async def take(self, amount: int) -> None:
        """Waits for its turn. More than the limit at once goes through alone, when nothing else is left in the span."""
        if self._limit is None:
            return
        async with self._lock:  # in the order of asking
            while self._taken and self._sum + amount > self._limit:
                wait = self._taken[0][0] + self._seconds - self._clock()
                if wait > 0:
                    await sleep(wait)
                self._forget()
            self._forget()
            self._taken.append((self._clock(), amount))
            self._sum += amount

    def _forget(self) -> None:
        while self._taken and self._taken[0][0] + self._seconds <= self._clock():
            self._sum -= self._taken.popleft()[1]
